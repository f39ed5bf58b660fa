use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{Error, Partition, Position, Result};

/// First byte of the binary form of a token. A newer form gets another.
const FORMAT: u8 = 1;

/// Longest token that is decoded: 256 partitions need less than half of it.
const MAX_TOKEN_BYTES: usize = 8192;

/// The identity of one log, made when the log is. A database that holds another log has another id,
/// so a token never points into the wrong history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogId(Uuid);

impl LogId {
    /// A new, unique id.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The id that was stored as `uuid`.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LogId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let uuid = Uuid::parse_str(text).map_err(|_| {
            Error::invalid("log id", format!("{text:?} is none: give a UUID, as it was said"))
        })?;
        Ok(Self(uuid))
    }
}

/// Positions by partition. A partition that is absent is at position 0: as a starting point that is its beginning,
/// as a minimum to wait for it is no requirement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Positions(BTreeMap<Partition, Position>);

impl Positions {
    /// Only `partition`, at `position`.
    pub fn one(partition: Partition, position: Position) -> Self {
        let mut positions = Self::default();
        positions.set(partition, position);
        positions
    }

    /// The position of `partition`; 0 when absent.
    pub fn get(&self, partition: Partition) -> Position {
        self.0.get(&partition).copied().unwrap_or_default()
    }

    /// Sets the position of `partition`; 0 makes it absent.
    pub fn set(&mut self, partition: Partition, position: Position) {
        if position == Position::ZERO {
            self.0.remove(&partition);
        } else {
            self.0.insert(partition, position);
        }
    }

    /// Moves each partition forward to where `other` has it, and none back.
    pub fn advance_to(&mut self, other: &Self) {
        for (partition, position) in other.iter() {
            if position > self.get(partition) {
                self.set(partition, position);
            }
        }
    }

    /// Whether every position of `minimum` is reached here.
    pub fn cover(&self, minimum: &Self) -> bool {
        minimum.iter().all(|(partition, position)| self.get(partition) >= position)
    }

    /// The partitions that have a position beyond 0, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Partition, Position)> + '_ {
        self.0.iter().map(|(partition, position)| (*partition, *position))
    }
}

impl FromIterator<(Partition, Position)> for Positions {
    fn from_iter<T: IntoIterator<Item = (Partition, Position)>>(entries: T) -> Self {
        let mut positions = Self::default();
        for (partition, position) in entries {
            positions.set(partition, position);
        }
        positions
    }
}

/// A place in a log: its id and positions by partition. Opaque text to everybody else: URL-safe, at most a few kilobytes,
/// and equal places have equal text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The log that the positions belong to.
    pub log_id: LogId,
    /// How far, by partition.
    pub positions: Positions,
}

impl Token {
    /// The place `positions` in the log `log_id`.
    pub const fn new(log_id: LogId, positions: Positions) -> Self {
        Self { log_id, positions }
    }

    /// The positions, after making sure that they are of the log `log_id`, whose partitions are `count`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the token is of another log.
    pub fn positions_in(&self, log_id: LogId, count: crate::PartitionCount) -> Result<&Positions> {
        if self.log_id != log_id {
            return Err(Error::invalid(
                "token",
                format!(
                    "the token is of log {}, but this event stream is log {log_id}; use a token that this event stream gave, or start from the beginning",
                    self.log_id
                ),
            ));
        }
        if let Some((partition, _)) = self.positions.iter().last() {
            count.check(u32::from(partition.get())).map_err(|error| error.within("token"))?;
        }
        Ok(&self.positions)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(24);
        bytes.push(FORMAT);
        bytes.extend_from_slice(self.log_id.0.as_bytes());
        for (partition, position) in self.positions.iter() {
            put_varint(&mut bytes, u64::from(partition.get()));
            put_varint(&mut bytes, position.get());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        decode(text).map_err(|why| {
            Error::invalid("token", format!("not a token: {why}; use one exactly as it was given"))
        })
    }
}

fn decode(text: &str) -> Result<Token, String> {
    if text.len() > MAX_TOKEN_BYTES {
        return Err(format!("{} characters are too many", text.len()));
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "it is no URL-safe base64".to_owned())?;
    let (format, rest) = bytes.split_first().ok_or("it is empty")?;
    if *format != FORMAT {
        return Err(format!(
            "its format is {format}, and this version knows {FORMAT}; a newer Headwater may have made it"
        ));
    }
    let (id, mut rest) = rest.split_first_chunk::<16>().ok_or("it ends within the log's id")?;
    let mut positions = Positions::default();
    let mut last = None;
    while !rest.is_empty() {
        let partition = take_varint(&mut rest)?;
        let partition =
            u16::try_from(partition).map(Partition::new).map_err(|_| "a partition is too large")?;
        let position = take_varint(&mut rest)?;
        if last.is_some_and(|last| last >= partition) || position == 0 || position > Position::MAX.get() {
            return Err("its positions are not in order".to_owned());
        }
        last = Some(partition);
        positions.set(partition, Position::new(position));
    }
    Ok(Token::new(LogId(Uuid::from_bytes(*id)), positions))
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("it ends within a number")?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("a number is too large".to_owned())
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionCount;

    fn token(positions: &[(u16, u64)]) -> Token {
        let log_id = LogId::from_uuid(Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0));
        Token::new(
            log_id,
            positions
                .iter()
                .map(|(partition, position)| (Partition::new(*partition), Position::new(*position)))
                .collect(),
        )
    }

    /// Golden: tokens are kept by clients for as long as they like.
    #[test]
    fn the_text_of_a_token_never_changes() {
        for (token, text) in [
            (token(&[]), "ARI0VniavN7wEjRWeJq83vA"),
            (token(&[(0, 1)]), "ARI0VniavN7wEjRWeJq83vAAAQ"),
            (
                token(&[(0, 300), (2, 7), (255, i64::MAX as u64)]),
                "ARI0VniavN7wEjRWeJq83vAArAICB_8B__________9_",
            ),
        ] {
            assert_eq!(token.to_string(), text);
            assert_eq!(text.parse::<Token>().unwrap(), token);
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for (text, why) in [
            ("", "it is empty"),
            ("!!", "no URL-safe base64"),
            ("AhI0VniavN7wEjRWeJq83vA", "a newer Headwater"),
            ("ARI0", "ends within the log's id"),
            ("ARI0VniavN7wEjRWeJq83vAAgA", "ends within a number"),
            ("ARI0VniavN7wEjRWeJq83vAAAQAB", "not in order"),
        ] {
            let error = text.parse::<Token>().unwrap_err().to_string();
            assert!(error.starts_with("token: not a token: ") && error.contains(why), "{text:?}: {error}");
        }
        assert!("A".repeat(9000).parse::<Token>().is_err());
    }

    #[test]
    fn a_token_of_another_log_is_refused() {
        let known = token(&[(1, 5)]);
        let three = PartitionCount::new(3).unwrap();
        assert!(known.positions_in(known.log_id, three).is_ok());
        let error = known.positions_in(LogId::generate(), three).unwrap_err().to_string();
        assert!(error.contains("but this event stream is log"), "{error}");
        assert!(known.positions_in(known.log_id, PartitionCount::ONE).is_err());
    }

    #[test]
    fn an_absent_partition_is_no_requirement() {
        let (reached, minimum) = (token(&[(0, 5)]).positions, token(&[(0, 5)]).positions);
        assert!(reached.cover(&minimum));
        assert!(reached.cover(&Positions::default()));
        assert!(!reached.cover(&token(&[(1, 1)]).positions));
        assert!(!reached.cover(&token(&[(0, 6)]).positions));
    }
}
