//! Events as expressions see them: read where they lie, brought up to date first.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

use headwater_core::RecordedEvent;

use crate::expression::Expression;
use crate::scope::Variables;
use crate::types::Type;
use crate::value::{Map, Object, Value};

/// The type of the variable `event`, whose data is `data`.
pub fn event_type(data: Type) -> Type {
    Type::object([
        ("id", Type::Text),
        ("type", Type::Text),
        ("streamId", Type::Text),
        ("version", Type::Number),
        ("partition", Type::Number),
        ("position", Type::Number),
        ("schemaVersion", Type::Number),
        ("data", data),
        ("metadata", Type::map(Type::Any)),
        ("time", Type::Timestamp),
    ])
}

const FIELDS: &[&str] = &[
    "id",
    "type",
    "streamId",
    "version",
    "partition",
    "position",
    "schemaVersion",
    "data",
    "metadata",
    "time",
];

/// An event with its data parsed and brought up to date.
#[derive(Debug)]
pub struct EventView<'e> {
    /// The event as it was recorded.
    pub event: &'e RecordedEvent,
    schema_version: u32,
    /// Absent when the data is not JSON.
    data: Option<Value<'e>>,
    /// Read when first asked for.
    metadata: OnceLock<Value<'e>>,
    id: OnceLock<String>,
}

impl<'e> EventView<'e> {
    /// Reads the event's data and takes it through `upcasts`.
    ///
    /// # Errors
    /// Why it has no data that expressions can read: where in the definition, and what is wrong.
    pub fn new(event: &'e RecordedEvent, upcasts: &Upcasts) -> Result<Self, (String, String)> {
        let data = if event.is_json() {
            Some(Value::parse_json(&event.data).map_err(|error| ("data".to_owned(), error.to_string()))?)
        } else {
            None
        };
        let view = Self {
            event,
            schema_version: event.schema_version,
            data,
            metadata: OnceLock::new(),
            id: OnceLock::new(),
        };
        upcasts.apply(view)
    }

    fn metadata(&self) -> &Value<'e> {
        // The log takes nothing but JSON objects.
        self.metadata.get_or_init(|| Value::parse_json(self.event.metadata.as_bytes()).unwrap_or_default())
    }
}

impl Object for EventView<'_> {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        let event = self.event;
        Some(match name {
            "data" => return self.data.clone(),
            "type" => Value::from(event.event_type.as_str()),
            "streamId" => Value::from(event.stream_id.as_str()),
            "time" => Value::from(event.recorded_at),
            "id" => Value::from(self.id.get_or_init(|| event.id.to_string()).as_str()),
            "version" => Value::from(event.version.get()),
            "partition" => Value::from(u64::from(event.partition.get())),
            "position" => Value::from(event.position.get()),
            "schemaVersion" => Value::from(u64::from(self.schema_version)),
            "metadata" => self.metadata().clone(),
            _ => return None,
        })
    }

    fn names(&self) -> &[&str] {
        FIELDS
    }
}

/// How older data is brought up to date, by event type.
#[derive(Debug, Default)]
pub struct Upcasts(HashMap<String, Upcast>);

/// How the data of one event type is brought up to date.
#[derive(Debug)]
pub struct Upcast {
    /// The version of the data that expressions see.
    pub schema_version: u32,
    /// The steps, by the version that each takes: fields, and the expressions of `event` that they are set to. Where there is none, a
    /// version is of the same shape as the next.
    pub steps: HashMap<u32, Vec<(String, Expression)>>,
}

impl Upcasts {
    /// Brings events of `event_type` up to date by `upcast`.
    pub fn insert(&mut self, event_type: impl Into<String>, upcast: Upcast) {
        self.0.insert(event_type.into(), upcast);
    }

    fn apply<'e>(&self, mut view: EventView<'e>) -> Result<EventView<'e>, (String, String)> {
        let Some(chain) = self.0.get(view.event.event_type.as_str()) else { return Ok(view) };
        while view.schema_version < chain.schema_version {
            let from = view.schema_version;
            if let Some(set) = chain.steps.get(&from) {
                let mut fields = match &view.data {
                    Some(Value::Map(map)) => map
                        .iter()
                        .map(|(name, value)| (Cow::Owned(name.to_owned()), value.clone()))
                        .collect::<Vec<_>>(),
                    _ => {
                        return Err((
                            format!("upcast from version {from}"),
                            "the event's data is no JSON object".to_owned(),
                        ));
                    }
                };
                let variables = Variables::new().with("event", &view as &dyn Object);
                for (field, expression) in set {
                    let value = expression.evaluate(&variables).map_err(|error| {
                        (format!("upcast from version {from}, {field}"), error.to_string())
                    })?;
                    fields.push((Cow::Owned(field.clone()), value.into_owned()));
                }
                // Of equal keys the last wins: what is set stands for what was there.
                view.data = Some(Value::Map(Map::from(fields)));
            }
            view.schema_version += 1;
        }
        Ok(view)
    }
}
