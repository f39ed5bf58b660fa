use std::collections::BTreeMap;

use headwater_core::{Error, RecordedEvent, Result};
use headwater_expr::{Expression, Numbers, Scope, Type, Value, Variables};
use headwater_resources::event_stream::Upcast;

/// The steps from each older schema version to the next.
#[derive(Debug, Default)]
pub(super) struct Steps(BTreeMap<u32, Vec<(String, Expression)>>);

impl Steps {
    pub(super) fn compile(upcasts: &[Upcast]) -> Result<Self> {
        let scope = Scope::new().with("event", Type::Any);
        let mut steps = BTreeMap::new();
        for (index, upcast) in upcasts.iter().enumerate() {
            let mut fields = Vec::with_capacity(upcast.set.len());
            for (field, source) in &upcast.set {
                let expression = Expression::compile(source.as_str(), &scope).map_err(|faults| {
                    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                    Error::invalid(format!("upcast[{index}].set.{field}"), faults.join("; "))
                })?;
                fields.push((field.clone(), expression));
            }
            steps.insert(upcast.from, fields);
        }
        Ok(Self(steps))
    }

    /// Brings JSON data up to version `to`. A version that has no step to the next is taken to be of the same shape.
    pub(super) fn apply(&self, event: &mut RecordedEvent, to: u32) -> Result<()> {
        for (from, fields) in self.0.range(event.schema_version..to) {
            let data = step(event, *from, fields)?;
            event.data = data.into();
        }
        event.schema_version = to;
        Ok(())
    }
}

fn step(event: &RecordedEvent, from: u32, fields: &[(String, Expression)]) -> Result<String> {
    let failed = |what: String| {
        Error::failed_precondition(format!(
            "cannot bring event {} ({}, partition {}, position {}) from schema version {from} to the next: {what}; read it without upcast, and correct the event stream's upcast",
            event.id, event.event_type, event.partition, event.position
        ))
    };
    let json = |bytes| Value::parse_json(bytes).map_err(|error| failed(error.to_string()));
    let data = json(&event.data)?;
    let variables = Variables::new().with(
        "event",
        Value::map([
            ("id", Value::from(event.id.to_string())),
            ("type", Value::from(event.event_type.as_str())),
            ("streamId", Value::from(event.stream_id.as_str())),
            ("version", Value::from(event.version.get())),
            ("partition", Value::from(u64::from(event.partition.get()))),
            ("position", Value::from(event.position.get())),
            ("schemaVersion", Value::from(u64::from(from))),
            ("time", Value::from(event.recorded_at)),
            ("data", data.clone()),
            ("metadata", json(event.metadata.as_bytes())?),
        ]),
    );
    let mut values: Vec<(&str, Value<'_>)> = match &data {
        Value::Map(map) => map.iter().map(|(name, value)| (name, value.clone())).collect(),
        _ => return Err(failed("its data is no JSON object".to_owned())),
    };
    for (field, expression) in fields {
        let value = expression.evaluate(&variables).map_err(|error| failed(format!("{field}: {error}")))?;
        match values.iter_mut().find(|(name, _)| name == field) {
            Some((_, old)) => *old = value,
            None => values.push((field, value)),
        }
    }
    Ok(Value::map(values).to_json(Numbers::Exact))
}

#[cfg(test)]
mod tests {
    use headwater_core::{EventType, Metadata, Partition, Position, StreamId, Version};
    use headwater_resources::shared::Cel;
    use uuid::Uuid;

    use super::*;

    fn event(schema_version: u32, data: &'static str) -> RecordedEvent {
        RecordedEvent {
            id: Uuid::now_v7(),
            stream_id: StreamId::new("order-1").unwrap(),
            event_type: EventType::new("Paid").unwrap(),
            version: Version::new(1),
            partition: Partition::ZERO,
            position: Position::new(1),
            schema_version,
            content_type: "application/json".into(),
            data: data.into(),
            metadata: Metadata::empty(),
            recorded_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn steps(steps: &[(u32, &str, &str)]) -> Result<Steps> {
        let upcasts: Vec<Upcast> = steps
            .iter()
            .map(|(from, field, source)| Upcast {
                from: *from,
                set: BTreeMap::from([((*field).to_owned(), Cel::new(*source))]),
            })
            .collect();
        Steps::compile(&upcasts)
    }

    #[test]
    fn data_goes_up_step_by_step() {
        let steps = steps(&[(1, "currency", "'EUR'"), (3, "total", "event.data.amount * 2")]).unwrap();
        for (from, data, to) in [
            (1, r#"{"amount": 1.10}"#, r#"{"amount":1.10,"currency":"EUR","total":2.20}"#),
            (2, r#"{"amount":1.10}"#, r#"{"amount":1.10,"total":2.20}"#),
            (3, r#"{"amount":3,"total":0}"#, r#"{"amount":3,"total":6}"#),
        ] {
            let mut event = event(from, data);
            steps.apply(&mut event, 4).unwrap();
            assert_eq!((event.data.as_ref(), event.schema_version), (to.as_bytes(), 4));
        }
    }

    #[test]
    fn faults_name_their_place() {
        let error = steps(&[(1, "currency", "evnt.data")]).unwrap_err().to_string();
        assert!(error.starts_with("upcast[0].set.currency: column 1: "), "{error}");
        let steps = steps(&[(1, "total", "event.data.amount * 2")]).unwrap();
        for data in ["{}", "[]"] {
            let error = steps.apply(&mut event(1, data), 2).unwrap_err();
            assert!(matches!(error, Error::FailedPrecondition { .. }), "{error}");
        }
    }
}
