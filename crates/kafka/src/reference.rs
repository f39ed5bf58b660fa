use headwater_bus::BrokerReference;
use headwater_core::{Error, Result};

/// The form that is written.
const FORM: &str = "kafka/1/";

/// Where the last event of a checkpoint is: `kafka/1/TOPIC/OFFSET`.
///
/// Kafka's id of a topic cannot be had by the client library, and would not tell that the newest messages were lost in a change of leaders
/// and others written in their place. So the message at the offset is the proof: it must be of this log, with the checkpoint's position.
/// What it does not tell: a topic that was made anew and has since both passed the offset and dropped it by retention, all while no
/// relay ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) topic: String,
    pub(crate) offset: i64,
}

impl Reference {
    /// What `text` says; `None` when another kind of broker wrote it.
    ///
    /// # Errors
    /// `Corrupt` when a newer version wrote it, or nobody.
    pub(crate) fn read(text: &BrokerReference) -> Result<Option<Self>> {
        if !text.0.starts_with("kafka/") {
            return Ok(None);
        }
        let fields = text.0.strip_prefix(FORM).and_then(|fields| fields.rsplit_once('/'));
        let read = fields
            .and_then(|(topic, offset)| Some(Self { topic: topic.to_owned(), offset: offset.parse().ok()? }));
        read.map(Some).ok_or_else(|| {
            Error::corrupt(format!(
                "the relay's checkpoint names {:?} on Kafka, which this version cannot read (it writes {FORM}TOPIC/OFFSET); run the version that wrote it, or a newer one",
                text.0
            ))
        })
    }

    pub(crate) fn write(&self) -> BrokerReference {
        BrokerReference(format!("{FORM}{}/{}", self.topic, self.offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Reference>> {
        Reference::read(&BrokerReference(text.to_owned()))
    }

    /// The form lasts: what an older program wrote is read by a newer one.
    #[test]
    fn a_reference_has_this_form() {
        let reference = Reference { topic: "shop.orders-1".into(), offset: 41 };
        assert_eq!(reference.write().0, "kafka/1/shop.orders-1/41");
        assert_eq!(read("kafka/1/shop.orders-1/41").unwrap(), Some(reference));
    }

    #[test]
    fn what_others_wrote_is_another_brokers_and_what_is_newer_is_refused() {
        assert_eq!(read("nats/1/2026-01-02T03:04:05Z/7").unwrap(), None);
        for text in ["kafka/2/orders/1/x", "kafka/1/orders", "kafka/1/orders/x", "kafka/"] {
            assert!(matches!(read(text), Err(Error::Corrupt { .. })), "{text}");
        }
    }
}
