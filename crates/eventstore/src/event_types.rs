//! What an event stream declares about its events: JSON Schemas that appends must meet, and how old data is brought up to date.

mod schema;
mod upcast;

use std::collections::HashMap;

use headwater_core::{Append, Error, RecordedEvent, Result, SchemaVersion};
use headwater_resources::event_stream::EventTypeSpec;

use schema::Schema;
use upcast::Steps;

/// The declared event types of an event stream, compiled. Types that are not declared are accepted as they come.
#[derive(Debug, Default)]
pub struct EventTypes(HashMap<String, Declared>);

#[derive(Debug)]
struct Declared {
    schema_version: u32,
    schema: Option<Schema>,
    steps: Steps,
}

impl EventTypes {
    /// Compiles what an EventStream's `eventTypes` say. A schema that a ConfigMap holds has to be put in its place before.
    ///
    /// # Errors
    /// `Invalid` with the path of the first fault: a JSON Schema that is none, an expression that does not compile.
    pub fn compile(specs: &[EventTypeSpec]) -> Result<Self> {
        let mut types = HashMap::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let declared =
                Declared::compile(spec).map_err(|error| error.within(&format!("eventTypes[{index}]")))?;
            if types.insert(spec.name.clone(), declared).is_some() {
                return Err(Error::invalid(
                    format!("eventTypes[{index}].name"),
                    format!("{:?} is declared before; declare each event type once", spec.name),
                ));
            }
        }
        Ok(Self(types))
    }

    /// Lets an append pass whose events meet what is declared, and gives each event that says none its schema
    /// version.
    ///
    /// # Errors
    /// `Invalid` with the path of the first event that does not, and what is wrong within its data.
    pub(crate) fn admit(&self, append: &mut Append) -> Result<()> {
        for (index, event) in append.events.iter_mut().enumerate() {
            let Some(declared) = self.0.get(event.event_type.as_str()) else {
                continue;
            };
            let at = |field: &str| format!("events[{index}].{field}");
            match event.schema_version {
                SchemaVersion::Assumed(_) => {
                    event.schema_version = SchemaVersion::Assumed(declared.schema_version);
                }
                SchemaVersion::Given(given) if given != declared.schema_version => {
                    return Err(Error::invalid(
                        at("schema_version"),
                        format!(
                            "{} is declared in schema version {}, and the event says {given}; write the declared one, or say none",
                            event.event_type, declared.schema_version
                        ),
                    ));
                }
                SchemaVersion::Given(_) => {}
            }
            if let Some(schema) = &declared.schema {
                schema
                    .check(event, declared.schema_version)
                    .map_err(|message| Error::invalid(at("data"), message))?;
            }
        }
        Ok(())
    }

    /// Brings an event's data up to the declared schema version, where it is JSON of an older one.
    ///
    /// # Errors
    /// `FailedPrecondition` when an expression has no value for this event.
    pub(crate) fn upcast(&self, event: &mut RecordedEvent) -> Result<()> {
        match self.0.get(event.event_type.as_str()) {
            Some(declared) if event.schema_version < declared.schema_version && event.is_json() => {
                declared.steps.apply(event, declared.schema_version)
            }
            _ => Ok(()),
        }
    }
}

impl Declared {
    fn compile(spec: &EventTypeSpec) -> Result<Self> {
        if spec.schema_ref.is_some() {
            return Err(Error::invalid("schemaRef", "its ConfigMap has not been read"));
        }
        Ok(Self {
            schema_version: spec.schema_version,
            schema: spec.schema.as_ref().map(Schema::compile).transpose()?,
            steps: Steps::compile(&spec.upcast)?,
        })
    }
}
