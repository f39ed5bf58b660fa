use std::collections::BTreeMap;
use std::fmt::Write;

use headwater_core::{Error, Result};
use headwater_resources::EventStreamSpec;
use headwater_resources::event_stream::EventTypeUpcasts;
use headwater_resources::saga::{Ending, SagaSpec, Step};
use headwater_resources::shared::{Cel, Duration};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The format of a stored definition. A newer form gets another number.
const FORMAT: u32 = 1;

/// What decides how an instance goes on once it has started: stored in the saga's log, so that an instance ends by the definition that
/// it began with, whatever the manifest says by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    format: u32,
    /// The EventStream of the saga.
    pub stream: String,
    /// The names of the variables that are captured at the start.
    pub variables: BTreeMap<String, Cel>,
    /// The steps, one after the other.
    pub steps: Vec<Step>,
    /// How long an instance may take.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub timeout: Option<Duration>,
    /// What is said when all steps are done.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_completed: Option<Ending>,
    /// What is said when all steps have been undone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_compensated: Option<Ending>,
    /// How older data is brought up to date before expressions see it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub event_types: Vec<EventTypeUpcasts>,
}

impl Definition {
    /// What the saga `spec` says about its instances, over events as `stream` declares them.
    pub fn new(spec: &SagaSpec, stream: &EventStreamSpec) -> Self {
        Self {
            format: FORMAT,
            stream: spec.stream_ref.name.clone(),
            variables: spec.variables.clone(),
            steps: spec.steps.clone(),
            timeout: spec.timeout,
            on_completed: spec.on_completed.clone(),
            on_compensated: spec.on_compensated.clone(),
            event_types: EventTypeUpcasts::of(&stream.event_types),
        }
    }

    /// The stored form.
    ///
    /// # Errors
    /// `Internal`: never, for a definition that came from a manifest.
    pub fn encode(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|error| Error::internal(format!("writing a saga's definition: {error}")))
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// `Corrupt` when it is no definition, or one of a newer version.
    pub fn decode(text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let corrupt = |why: String| Error::corrupt(format!("reading a saga's definition: {why}"));
        let Format { format } = serde_json::from_slice(text).map_err(|error| corrupt(error.to_string()))?;
        if format != FORMAT {
            return Err(corrupt(format!(
                "it has format {format}, written by a newer Headwater, and this version knows {FORMAT}; run that newer version until its instances have ended"
            )));
        }
        serde_json::from_slice(text).map_err(|error| corrupt(error.to_string()))
    }

    /// What names this definition: equal definitions have equal digests.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn digest(&self) -> Result<String> {
        let mut digest = "v1:".to_owned();
        for byte in &Sha256::digest(self.encode()?)[..16] {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Ok(digest)
    }
}
