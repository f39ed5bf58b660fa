use std::collections::HashSet;
use std::fmt;

use crate::{Error, LogId, NewEvent, Partition, Position, Positions, Result, StreamId, Token, Version};

/// What an append expects of the stream id that it appends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing.
    Any,
    /// That it has no events yet.
    NoStream,
    /// That it has at least one event.
    Exists,
    /// That its last event has this version. Version 0 is the same as [`Expected::NoStream`].
    Version(Version),
}

impl Expected {
    /// Whether a stream id at `current` is as expected.
    pub fn allows(self, current: Version) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => current == Version::ZERO,
            Self::Exists => current != Version::ZERO,
            Self::Version(version) => current == version,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any version"),
            Self::NoStream => f.write_str("no stream"),
            Self::Exists => f.write_str("an existing stream"),
            Self::Version(version) => write!(f, "version {version}"),
        }
    }
}

/// A request to append events to one stream id: all of them, in order, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub stream_id: StreamId,
    /// What must hold of it.
    pub expected: Expected,
    /// 1 to 1,000 events.
    pub events: Vec<NewEvent>,
}

impl Append {
    /// Bytes that this request counts for against the limits and the queues: data and metadata.
    pub fn size(&self) -> usize {
        self.events.iter().map(|event| event.data.len() + event.metadata.as_bytes().len()).sum()
    }

    /// Checks the request against `limits`, so that whoever holds a checked one need not look again.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first offending event and the limit.
    pub fn check(&self, limits: &AppendLimits) -> Result<()> {
        let count = self.events.len();
        if count == 0 {
            return Err(Error::invalid("events", "there are none; give at least one event"));
        }
        if count > limits.events {
            return Err(Error::invalid(
                "events",
                format!(
                    "{count} events in one request; at most {} are allowed, send several requests",
                    limits.events
                ),
            ));
        }
        let mut ids = HashSet::with_capacity(count);
        for (index, event) in self.events.iter().enumerate() {
            let at = || format!("events[{index}]");
            check_size("data", event.data.len(), limits.data_bytes).map_err(|error| error.within(&at()))?;
            check_size("metadata", event.metadata.as_bytes().len(), limits.metadata_bytes)
                .map_err(|error| error.within(&at()))?;
            event.check().map_err(|error| error.within(&at()))?;
            if !ids.insert(event.id) {
                return Err(Error::invalid(
                    format!("{}.id", at()),
                    format!(
                        "{} is also the id of an earlier event of this request; give each event an id of its own",
                        event.id
                    ),
                ));
            }
        }
        let size = self.size();
        if size > limits.request_bytes {
            return Err(Error::invalid(
                "events",
                format!(
                    "{size} bytes of data and metadata in one request; at most {} are allowed, send several requests",
                    limits.request_bytes
                ),
            ));
        }
        Ok(())
    }
}

fn check_size(field: &str, size: usize, limit: usize) -> Result<()> {
    if size <= limit {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!(
            "{size} bytes; at most {limit} are allowed, keep large content elsewhere and store a reference"
        ),
    ))
}

/// What one append may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendLimits {
    /// Events a request.
    pub events: usize,
    /// Bytes of one event's data.
    pub data_bytes: usize,
    /// Bytes of one event's metadata.
    pub metadata_bytes: usize,
    /// Bytes of data and metadata a request.
    pub request_bytes: usize,
}

impl Default for AppendLimits {
    fn default() -> Self {
        Self { events: 1_000, data_bytes: 1 << 20, metadata_bytes: 64 << 10, request_bytes: 4 << 20 }
    }
}

/// What an append that is durable answers. A repeated append answers the same as the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The log that took the events.
    pub log_id: LogId,
    /// The partition of the stream id.
    pub partition: Partition,
    /// Version of the last event of the request.
    pub version: Version,
    /// Position of the last event of the request.
    pub position: Position,
}

impl Appended {
    /// The place just after these events: its own partition only.
    pub fn token(&self) -> Token {
        Token::new(self.log_id, Positions::one(self.partition, self.position))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EventType, Metadata, SchemaVersion};

    fn append(events: Vec<NewEvent>) -> Append {
        Append { stream_id: StreamId::new("order-1").unwrap(), expected: Expected::Any, events }
    }

    fn event(size: usize) -> NewEvent {
        let mut data = vec![b' '; size.saturating_sub(1)];
        data.push(b'1');
        NewEvent::json(EventType::new("Created").unwrap(), data)
    }

    #[test]
    fn limits_are_named_when_they_are_passed() {
        fn check(request: &Append, fault: &str) {
            let error = request.check(&AppendLimits::default()).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        assert!(append(vec![event(1 << 20)]).check(&AppendLimits::default()).is_ok());
        assert!(append((0..1_000).map(|_| event(1)).collect()).check(&AppendLimits::default()).is_ok());
        check(&append(vec![]), "events: there are none");
        check(&append((0..1_001).map(|_| event(1)).collect()), "at most 1000");
        check(
            &append(vec![event(1), event((1 << 20) + 1)]),
            "events[1].data: 1048577 bytes; at most 1048576",
        );
        check(&append((0..5).map(|_| event(1 << 20)).collect()), "at most 4194304");
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(64 << 10));
        check(
            &append(vec![NewEvent { metadata: Metadata::new(Bytes::from(long)).unwrap(), ..event(1) }]),
            "events[0].metadata: 65544 bytes",
        );
        let twin = event(1);
        check(&append(vec![twin.clone(), twin]), "events[1].id");
        check(
            &append(vec![NewEvent { schema_version: SchemaVersion::Given(0), ..event(1) }]),
            "events[0].schema_version",
        );
    }

    #[test]
    fn expectations() {
        fn check(expected: Expected, allowed: [bool; 3]) {
            assert_eq!(
                [0, 1, 2].map(|version| expected.allows(Version::new(version))),
                allowed,
                "{expected}"
            );
        }
        check(Expected::Any, [true, true, true]);
        check(Expected::NoStream, [true, false, false]);
        check(Expected::Exists, [false, true, true]);
        check(Expected::Version(Version::new(0)), [true, false, false]);
        check(Expected::Version(Version::new(2)), [false, false, true]);
    }
}
