//! Where a message is, as text that outlives this program: `nats/1 CREATED SEQUENCE`.

use std::str::FromStr;

use headwater_bus::BrokerReference;

/// A message in a stream: the stream's creation, in nanoseconds since 1970, tells it from another of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) created: i128,
    pub(crate) sequence: u64,
}

impl From<Reference> for BrokerReference {
    fn from(Reference { created, sequence }: Reference) -> Self {
        Self(format!("nats/1 {created} {sequence}"))
    }
}

impl Reference {
    /// `None`: another kind of broker's.
    pub(crate) fn read(reference: &BrokerReference) -> Option<Self> {
        fn next<'a, T: FromStr>(parts: &mut impl Iterator<Item = &'a str>) -> Option<T> {
            parts.next()?.parse().ok()
        }
        let mut parts = reference.0.strip_prefix("nats/1 ")?.split(' ');
        Some(Self { created: next(&mut parts)?, sequence: next(&mut parts)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form lasts: a newer program reads what an older one saved.
    #[test]
    fn a_reference_is_kept_as_text() {
        let reference = Reference { created: 1_700_000_000_123_456_789, sequence: 42 };
        let text = BrokerReference::from(reference);
        assert_eq!(text.0, "nats/1 1700000000123456789 42");
        assert_eq!(Reference::read(&text), Some(reference));
        for other in ["", "kafka/1 x 4", "nats/2 1 2", "nats/1 1", "nats/1 a b"] {
            assert_eq!(Reference::read(&BrokerReference(other.to_owned())), None, "{other}");
        }
    }
}
