//! When each column of a row was set, as bytes. Part of the stored formats.

use headwater_core::{Error, Partition, Result};
use headwater_view::Stamp;
use jiff::Timestamp;
use rust_decimal::Decimal;

/// First byte of stored stamps.
const FORMAT: u8 = 1;

/// Reads a stored decimal, all its digits.
pub(crate) fn decimal(text: &str) -> Option<Decimal> {
    // A negative zero keeps its sign in a cell; the crate's parser drops it.
    let number = Decimal::from_str_exact(text).ok()?;
    Some(if text.starts_with('-') && number.is_zero() { -number } else { number })
}

/// Stamps by column as bytes: format, then for each column 0, or 1 and its moment, partition and position in big-endian.
pub(crate) fn encode_stamps(stamps: &[Option<Stamp>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + stamps.len() * 19);
    bytes.push(FORMAT);
    for stamp in stamps {
        match stamp {
            None => bytes.push(0),
            Some(stamp) => {
                bytes.push(1);
                bytes.extend_from_slice(&stamp.recorded_at.as_microsecond().to_be_bytes());
                bytes.extend_from_slice(&stamp.partition.get().to_be_bytes());
                bytes.extend_from_slice(&stamp.position.to_be_bytes());
            }
        }
    }
    bytes
}

/// What [`encode_stamps`] encoded.
pub(crate) fn decode_stamps(bytes: &[u8]) -> Result<Vec<Option<Stamp>>> {
    let corrupt = || {
        Error::corrupt(
            "reading a row's stamps: they are cut off or of a newer format; rebuild the projection",
        )
    };
    let (format, mut rest) = bytes.split_first().ok_or_else(corrupt)?;
    if *format != FORMAT {
        return Err(corrupt());
    }
    let mut stamps = Vec::new();
    while let Some((there, after)) = rest.split_first() {
        rest = after;
        if *there == 0 {
            stamps.push(None);
            continue;
        }
        let (moment, after) = rest.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let (partition, after) = after.split_first_chunk::<2>().ok_or_else(corrupt)?;
        let (position, after) = after.split_first_chunk::<8>().ok_or_else(corrupt)?;
        rest = after;
        stamps.push(Some(Stamp {
            recorded_at: Timestamp::from_microsecond(i64::from_be_bytes(*moment)).map_err(|_| corrupt())?,
            partition: Partition::new(u16::from_be_bytes(*partition)),
            position: u64::from_be_bytes(*position),
        }));
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_a_golden_form() {
        let stamp = Stamp {
            recorded_at: Timestamp::from_microsecond(-2).unwrap(),
            partition: Partition::new(258),
            position: 772,
        };
        let stamps = vec![None, Some(stamp), None];
        let golden = [1, 0, 1, 255, 255, 255, 255, 255, 255, 255, 254, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0];
        assert_eq!(encode_stamps(&stamps), golden);
        assert_eq!(decode_stamps(&golden).unwrap(), stamps);
        assert!(decode_stamps(&golden[..9]).is_err());
        assert!(decode_stamps(&[2]).is_err());
        assert!(decode_stamps(&[]).is_err());
    }
}
