//! What is kept beside a row: its version, whether it lives, and who wrote it when. Part of the stored formats.
//!
//! ```text
//! 1764185000000000l                                   a row that lives
//! 1764185000000000l{"writer":"account-7"}             … of one stream id
//! 1764185000000000l{"stamps":[null,[1764…,0,7]]}      … of many: by column microseconds, partition, position of the last set
//! 1764185000000000d{"writer":"account-7"}             a deleted one
//! ```

use headwater_core::{Error, Partition, Result, StreamId};
use headwater_view::{RowState, RowVersion, Stamp};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beside {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    writer: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stamps: Vec<Option<(i64, u16, u64)>>,
}

/// What is there after the version: nothing, a row's own, or a deleted one's.
pub(crate) struct Stored {
    pub(crate) version: RowVersion,
    pub(crate) is_live: bool,
    pub(crate) writer: Option<StreamId>,
    pub(crate) stamps: Vec<Option<Stamp>>,
}

/// The kind of a state, as the script knows it, and what it keeps beside the version.
///
/// # Errors
/// `Internal`: never, for JSON of texts and numbers.
pub(crate) fn encode(state: Option<&RowState>) -> Result<(&'static str, String)> {
    let beside = match state {
        None => return Ok(("n", String::new())),
        Some(RowState::Live(row)) if row.writer.is_none() && row.stamps.is_empty() => {
            return Ok(("l", String::new()));
        }
        Some(RowState::Live(row)) => Beside {
            writer: row.writer.as_ref().map(ToString::to_string),
            stamps: row
                .stamps
                .iter()
                .map(|stamp| {
                    stamp.map(|stamp| {
                        (stamp.recorded_at.as_microsecond(), stamp.partition.get(), stamp.position)
                    })
                })
                .collect(),
        },
        Some(RowState::Deleted { writer }) => Beside { writer: Some(writer.to_string()), stamps: Vec::new() },
    };
    let text = serde_json::to_string(&beside)
        .map_err(|error| Error::internal(format!("writing what belongs to a row: {error}")))?;
    Ok((if matches!(state, Some(RowState::Live(_))) { "l" } else { "d" }, text))
}

/// Reads what the script kept.
///
/// # Errors
/// `Corrupt` for what it cannot have kept.
pub(crate) fn decode(text: &str) -> Result<Stored> {
    parse(text).ok_or_else(|| {
        Error::corrupt("reading the version of a row in Redis: it is of a newer form, or not Headwater's; rebuild the projection")
    })
}

fn parse(text: &str) -> Option<Stored> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (version, rest) = text.split_at(digits);
    let is_live = match rest.as_bytes().first()? {
        b'l' => true,
        b'd' => false,
        _ => return None,
    };
    let beside = match &rest[1..] {
        "" => Beside { writer: None, stamps: Vec::new() },
        text => serde_json::from_str(text).ok()?,
    };
    let stamps = beside.stamps.into_iter().map(|stamp| match stamp {
        None => Some(None),
        Some((micros, partition, position)) => Some(Some(Stamp {
            recorded_at: Timestamp::from_microsecond(micros).ok()?,
            partition: Partition::new(partition),
            position,
        })),
    });
    Some(Stored {
        version: RowVersion(version.parse().ok()?),
        is_live,
        writer: beside.writer.map(StreamId::new).transpose().ok()?,
        stamps: stamps.collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use headwater_view::{Cell, Row};

    use super::*;

    #[test]
    fn what_is_beside_a_row_has_a_golden_form() {
        let row = |writer: Option<&str>, stamps| {
            let writer = writer.map(|id| StreamId::new(id).unwrap());
            Some(RowState::Live(Row { cells: vec![Cell::Null], writer, stamps }))
        };
        let stamp = Stamp {
            recorded_at: Timestamp::from_microsecond(-2).unwrap(),
            partition: Partition::new(3),
            position: u64::MAX,
        };
        let deleted = Some(RowState::Deleted { writer: StreamId::new("a").unwrap() });
        for (state, golden) in [
            (None, "n"),
            (row(None, vec![]), "l"),
            (row(Some("a\"b"), vec![]), "l{\"writer\":\"a\\\"b\"}"),
            (row(None, vec![None, Some(stamp)]), "l{\"stamps\":[null,[-2,3,18446744073709551615]]}"),
            (deleted, "d{\"writer\":\"a\"}"),
        ] {
            let (kind, beside) = encode(state.as_ref()).unwrap();
            assert_eq!(format!("{kind}{beside}"), golden);
            if let Some(RowState::Live(row)) = &state {
                let stored = decode(&format!("17{kind}{beside}")).unwrap();
                assert_eq!((stored.version, stored.is_live), (RowVersion(17), true));
                assert_eq!((stored.writer, stored.stamps), (row.writer.clone(), row.stamps.clone()));
            }
        }
        assert!(!decode("17d{\"writer\":\"a\"}").unwrap().is_live);
        for broken in ["", "17", "l", "17x", "17l{", "17l{\"more\":1}"] {
            assert!(decode(broken).is_err(), "{broken}");
        }
    }
}
