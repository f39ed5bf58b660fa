//! Subjects by a template.

use headwater_core::{Error, Partition, RecordedEvent, Result};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a token of a subject cannot have as it is.
const NOT_IN_TOKEN: &AsciiSet = &CONTROLS.add(b' ').add(b'*').add(b'>').add(b'%').add(b'.').add(b'$');

/// The same, where the dots of a name make tokens of their own.
const NOT_IN_TOKENS: &AsciiSet = &NOT_IN_TOKEN.remove(b'.');

const STREAM: &str = "{stream}";
const PARTITION: &str = "{partition}";
const TYPE: &str = "{type}";

/// A template of subjects, for one event stream.
#[derive(Debug, Clone)]
pub(crate) struct Subjects {
    /// With the event stream's name in its place.
    template: String,
}

impl Subjects {
    /// # Errors
    /// `Invalid` for the field "subject".
    pub(crate) fn new(template: &str, event_stream: &str) -> Result<Self> {
        let invalid = |message: String| Err(Error::invalid("subject", message));
        let known = template.replace(STREAM, "s").replace(PARTITION, "0").replace(TYPE, "t");
        if let Some(strange) = known.chars().find(|c| "{}*> \t".contains(*c) || c.is_control()) {
            return invalid(format!(
                "\"{template}\" has {strange:?}; only {STREAM}, {PARTITION} and {TYPE} stand for something, and no wildcards or spaces"
            ));
        }
        if known.split('.').any(str::is_empty) {
            return invalid(format!("\"{template}\" has an empty part between dots; remove a dot"));
        }
        if known.starts_with('$') {
            return invalid(format!("\"{template}\" begins with '$', which NATS keeps for itself"));
        }
        if template.matches(TYPE).count() > 1 || template.matches(PARTITION).count() > 1 {
            return invalid(format!("\"{template}\" names the partition or the type twice; once is enough"));
        }
        let stream = utf8_percent_encode(event_stream, NOT_IN_TOKEN).to_string();
        Ok(Self { template: template.replace(STREAM, &stream) })
    }

    /// Whether all events of a partition are told from the others by subject.
    pub(crate) fn names_partition(&self) -> bool {
        self.template.contains(PARTITION)
    }

    /// The dots of a type are kept where nothing follows them, as people who subscribe by prefix expect.
    fn keeps_dots(&self) -> bool {
        self.template == TYPE || self.template.ends_with(&format!(".{TYPE}"))
    }

    fn type_token(&self, event_type: &str) -> String {
        let is_dotted_well = event_type.split('.').all(|part| !part.is_empty());
        let set = if self.keeps_dots() && is_dotted_well { NOT_IN_TOKENS } else { NOT_IN_TOKEN };
        // NATS takes UTF-8, and people read it: only what is ASCII and strange is written otherwise.
        let mut token = String::with_capacity(event_type.len());
        for part in event_type.split_inclusive(|c: char| c.is_ascii()) {
            match part.char_indices().next_back() {
                Some((index, last)) if last.is_ascii() => {
                    token.push_str(&part[..index]);
                    token.extend(utf8_percent_encode(&part[index..], set));
                }
                _ => token.push_str(part),
            }
        }
        token
    }

    /// The subject of `event`.
    pub(crate) fn of(&self, event: &RecordedEvent) -> String {
        self.template
            .replace(PARTITION, &event.partition.to_string())
            .replace(TYPE, &self.type_token(event.event_type.as_str()))
    }

    /// What all subjects of `partition` fit, or of all of them where they do not name it.
    pub(crate) fn of_partition(&self, partition: Partition) -> String {
        self.any_type(&self.template.replace(PARTITION, &partition.to_string()))
    }

    /// What a stream has to capture.
    ///
    /// # Errors
    /// `Invalid` when nothing of the subject is fixed, and no event types are declared either.
    pub(crate) fn of_stream(&self, event_types: &[String]) -> Result<Vec<String>> {
        let captured = self.any_type(&self.any_partition());
        if !captured.starts_with(['*', '>']) {
            return Ok(vec![captured]);
        }
        if event_types.is_empty() {
            return Err(Error::invalid(
                "subject",
                format!(
                    "\"{}\" has no fixed beginning, so the stream that is made would capture everybody's messages: declare the event types, begin the subject with a word of its own, or say provision: Observe",
                    self.template
                ),
            ));
        }
        Ok(event_types
            .iter()
            .map(|name| self.any_partition().replace(TYPE, &self.type_token(name)))
            .collect())
    }

    fn any_partition(&self) -> String {
        // A wildcard is a token of its own.
        self.template
            .split('.')
            .map(|token| if token.contains(PARTITION) { "*" } else { token })
            .collect::<Vec<_>>()
            .join(".")
    }

    fn any_type(&self, subject: &str) -> String {
        let tokens: Vec<&str> = subject.split('.').collect();
        let last = tokens.len() - 1;
        let wild = |(index, token): (usize, &&str)| match token.contains(TYPE) {
            true if index == last && self.keeps_dots() => ">".to_owned(),
            true => "*".to_owned(),
            false => (*token).to_owned(),
        };
        tokens.iter().enumerate().map(wild).collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_core::{EventType, Metadata, Position, StreamId, Version};

    use super::*;

    fn event(event_type: &str) -> RecordedEvent {
        RecordedEvent {
            id: uuid::Uuid::nil(),
            stream_id: StreamId::new("s").unwrap(),
            event_type: EventType::new(event_type).unwrap(),
            version: Version::new(1),
            partition: Partition::new(3),
            position: Position::new(1),
            schema_version: 1,
            content_type: "application/json".into(),
            data: Bytes::new(),
            metadata: Metadata::empty(),
            recorded_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn an_event_has_the_subject_of_the_template() {
        #[track_caller]
        fn check(template: &str, event_type: &str, subject: &str, captured: &str) {
            let subjects = Subjects::new(template, "ord.ers").unwrap();
            assert_eq!(subjects.of(&event(event_type)), subject);
            assert_eq!(subjects.of_stream(&[]).unwrap(), [captured]);
        }
        check(
            "hw.{stream}.{partition}.{type}",
            "OrderCreated",
            "hw.ord%2Eers.3.OrderCreated",
            "hw.ord%2Eers.*.>",
        );
        check(
            "hw.{stream}.{partition}.{type}",
            "order.created",
            "hw.ord%2Eers.3.order.created",
            "hw.ord%2Eers.*.>",
        );
        check("hw.{partition}.{type}", "a b>*\u{e9}%.", "hw.3.a%20b%3E%2A\u{e9}%25%2E", "hw.*.>");
        check("e.{type}.p{partition}", "order.created", "e.order%2Ecreated.p3", "e.*.*");
        check("events", "x", "events", "events");
    }

    #[test]
    fn a_partition_is_a_filter_where_the_subject_names_it() {
        let subjects = Subjects::new("hw.{stream}.{partition}.{type}", "orders").unwrap();
        assert!(subjects.names_partition());
        assert_eq!(subjects.of_partition(Partition::new(2)), "hw.orders.2.>");
        let all = Subjects::new("hw.{type}", "orders").unwrap();
        assert!(!all.names_partition());
        assert_eq!(all.of_partition(Partition::new(2)), "hw.>");
    }

    #[test]
    fn subjects_that_are_only_types_need_the_types() {
        let subjects = Subjects::new("{type}", "orders").unwrap();
        assert_eq!(subjects.of(&event("ORDERS.created")), "ORDERS.created");
        let error = subjects.of_stream(&[]).unwrap_err().to_string();
        assert!(error.contains("declare the event types"), "{error}");
        let types = ["ORDERS.created".to_owned(), "a b".to_owned()];
        assert_eq!(subjects.of_stream(&types).unwrap(), ["ORDERS.created", "a%20b"]);
    }

    #[test]
    fn a_template_without_sense_is_refused() {
        for template in ["hw.{tpye}", "hw..{type}", "hw.>", "a b", "$JS.{type}", "{type}.{type}", ".a"] {
            let error = Subjects::new(template, "orders").unwrap_err();
            assert!(
                matches!(&error, Error::Invalid { field, .. } if field == "subject"),
                "{template}: {error}"
            );
        }
    }
}
