use headwater_core::{Error, Result};
use headwater_resources::event_stream::{EventTypeSpec, EventTypeUpcasts};
use headwater_resources::projection::{ProjectionRule, ProjectionSpec, Table};
use serde::{Deserialize, Serialize};

/// The format of a stored definition. A newer form gets another number.
const FORMAT: u32 = 1;

/// All that decides what a revision's rows are: stored beside them, so that the revision can be folded on after a restart,
/// whatever the manifest says then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    format: u32,
    /// The tables.
    pub tables: Vec<Table>,
    /// The rules, in order.
    pub rules: Vec<ProjectionRule>,
    /// How older data is brought up to date before rules see it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventTypeUpcasts>,
}

impl Definition {
    /// What the projection `spec` says about rows, over events of `event_types`.
    pub fn new(spec: &ProjectionSpec, event_types: &[EventTypeSpec]) -> Self {
        Self {
            format: FORMAT,
            tables: spec.tables.clone(),
            rules: spec.rules.clone(),
            event_types: EventTypeUpcasts::of(event_types),
        }
    }

    /// The stored form.
    ///
    /// # Errors
    /// `Internal`: never, for a definition that came from a manifest.
    pub fn encode(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::internal(format!("writing a projection's definition: {error}")))
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// `Corrupt` when it is no definition, or one of a newer version.
    pub fn decode(text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let corrupt = |why: String| Error::corrupt(format!("reading the definition of a revision: {why}"));
        let Format { format } = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
        if format != FORMAT {
            return Err(corrupt(format!(
                "it has format {format}, written by a newer Headwater, and this version knows {FORMAT}; run that newer version, or rebuild"
            )));
        }
        serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))
    }
}
