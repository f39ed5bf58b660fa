//! What happens to an instance, as it is kept: the events of the instance's stream in the saga's log.

use std::collections::BTreeMap;

use headwater_core::{Error, EventType, NewEvent, RecordedEvent, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::json::Json;

/// The version of these forms. An older program refuses a history of a newer one.
pub(crate) const FORMAT: u32 = 1;

/// Which way a step is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// It is done.
    Do,
    /// It is undone.
    Undo,
}

impl Direction {
    /// As it stands in keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
        }
    }
}

/// One entry of an instance's history.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// The instance began.
    Started(Started),
    /// A step is going to be done, or undone: recorded before anything is sent.
    StepBegun(StepBegun),
    /// The participant has taken the request; its reply comes as an event.
    StepSent(StepSent),
    /// An attempt ended without an answer, and another one follows.
    AttemptUnanswered(AttemptUnanswered),
    /// A step was done, or undone.
    StepSucceeded(StepSucceeded),
    /// A step was certainly not done, or cannot be undone.
    StepFailed(StepFailed),
    /// Nobody knows whether a step was done, and it is not tried again.
    StepUnknown(StepUnknown),
    /// An event came that a step may be waiting for.
    ReplySeen(ReplySeen),
    /// From here on everything that was done is undone.
    Turned(Turned),
    /// The instance does not go on by itself, or not as it should.
    AttentionNeeded(AttentionNeeded),
    /// A person said what to do.
    Commanded(Commanded),
    /// All steps are done.
    Completed(Ended),
    /// All steps that were done have been undone.
    Compensated(Ended),
}

/// See [`Entry::Started`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// The form of this history.
    pub format: u32,
    /// The namespace that stands in its keys to its end, wherever it is worked on later. `None` in histories that are older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The instance's name.
    pub instance: String,
    /// The digest of the definition that it follows to its end.
    pub definition: String,
    /// The event that started it.
    pub event: Cause,
    /// What was kept of that event.
    pub variables: BTreeMap<String, Json>,
}

/// An event of the event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Its id.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Its aggregate.
    pub stream_id: String,
    /// Its partition.
    pub partition: u16,
    /// Its position there.
    pub position: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// Its `correlation_id`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Its trace context, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// See [`Entry::StepBegun`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBegun {
    /// Which.
    pub step: String,
    /// Which way.
    pub direction: Direction,
    /// Who is called, for people.
    pub call: String,
    /// The key of all its attempts.
    pub key: String,
    /// What the event has to match that says how it went, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<WaitsFor>,
}

/// The reply that a step waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsFor {
    /// The types of event.
    pub events: Vec<String>,
    /// The value that correlates, for people: it may be cut.
    pub value: String,
}

/// See [`Entry::StepSent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSent {
    /// Which.
    pub step: String,
    /// What was answered, for people.
    pub answer: String,
    /// What expressions see of the answer.
    pub response: Json,
    /// Until when the reply is waited for.
    pub until: Timestamp,
}

/// See [`Entry::AttemptUnanswered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptUnanswered {
    /// Which.
    pub step: String,
    /// Which way.
    pub direction: Direction,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Why.
    pub reason: String,
    /// When the next one is made.
    pub next: Timestamp,
}

/// See [`Entry::StepSucceeded`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSucceeded {
    /// Which.
    pub step: String,
    /// Which way.
    pub direction: Direction,
    /// What was answered, for people.
    pub answer: String,
    /// What is kept of the answer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub captured: BTreeMap<String, Json>,
    /// A person said so, and nobody answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// See [`Entry::StepFailed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailed {
    /// Which.
    pub step: String,
    /// Which way.
    pub direction: Direction,
    /// Why.
    pub reason: String,
}

/// See [`Entry::StepUnknown`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUnknown {
    /// Which.
    pub step: String,
    /// Why.
    pub reason: String,
}

/// See [`Entry::ReplySeen`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplySeen {
    /// The step that waits for it.
    pub step: String,
    /// The event.
    pub event: Cause,
    /// Its data, brought up to date, if it is JSON.
    pub data: Json,
    /// The data had this many bytes, more than a history keeps, and `data` is null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
}

/// Why an instance turned back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A step failed.
    Failed,
    /// Nobody knows whether a step was done.
    Unknown,
    /// The saga's time was up.
    TimedOut,
    /// A person aborted it.
    Aborted,
}

/// See [`Entry::Turned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turned {
    /// In short.
    pub why: Why,
    /// The step at which, if it was a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// In words.
    pub reason: String,
}

/// See [`Entry::AttentionNeeded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionNeeded {
    /// The step at which; `None`: the saga's time is up, and it goes on all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why, and what can be done.
    pub reason: String,
}

/// What a person can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Try a step now.
    Retry,
    /// Take a step as done, or as undone.
    Skip,
    /// Undo everything.
    Abort,
    /// Try everything now that waits or is stuck.
    Resume,
}

/// See [`Entry::Commanded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commanded {
    /// What.
    pub command: Command,
    /// Which step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The longest reason, in bytes: it is kept in the instance's history for good.
const MAX_REASON_BYTES: usize = 4 << 10;

/// Words for people, cut where they are longer than a history keeps.
pub(crate) fn brief(mut words: String) -> String {
    if words.len() > MAX_REASON_BYTES {
        words.truncate(words.floor_char_boundary(MAX_REASON_BYTES - '…'.len_utf8()));
        words.push('…');
    }
    words
}

impl Commanded {
    /// What a person wants of an instance.
    ///
    /// # Errors
    /// `Invalid` for a step where none is meant, and for a reason that is too long.
    pub fn new(command: Command, step: Option<String>, reason: Option<String>) -> Result<Self> {
        if step.is_some() && matches!(command, Command::Abort | Command::Resume) {
            return Err(Error::invalid(
                "step",
                "abort and resume are about the whole instance: give no step",
            ));
        }
        if reason.as_ref().is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
            let message = format!("it has more than {MAX_REASON_BYTES} bytes: be brief");
            return Err(Error::invalid("reason", message));
        }
        // Whoever gives none, by an empty variable say, gives none.
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        Ok(Self { command, step, reason })
    }
}

/// See [`Entry::Completed`] and [`Entry::Compensated`]: what a list shows of an instance that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The instance.
    pub instance: String,
    /// The digest of its definition.
    pub definition: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Why it was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The event types of the entries.
pub(crate) const STARTED: &str = "Started";
pub(crate) const REPLY_SEEN: &str = "ReplySeen";
pub(crate) const COMMANDED: &str = "Commanded";
pub(crate) const COMPLETED: &str = "Completed";
pub(crate) const COMPENSATED: &str = "Compensated";

impl Entry {
    /// What it is called in the log.
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Started(_) => STARTED,
            Self::StepBegun(_) => "StepBegun",
            Self::StepSent(_) => "StepSent",
            Self::AttemptUnanswered(_) => "AttemptUnanswered",
            Self::StepSucceeded(_) => "StepSucceeded",
            Self::StepFailed(_) => "StepFailed",
            Self::StepUnknown(_) => "StepUnknown",
            Self::ReplySeen(_) => REPLY_SEEN,
            Self::Turned(_) => "Turned",
            Self::AttentionNeeded(_) => "AttentionNeeded",
            Self::Commanded(_) => COMMANDED,
            Self::Completed(_) => COMPLETED,
            Self::Compensated(_) => COMPENSATED,
        }
    }

    /// What is stored, under an id of its own.
    ///
    /// # Errors
    /// `Internal`: never, for these forms.
    pub(crate) fn encode(&self) -> Result<NewEvent> {
        let data = match self {
            Self::Started(it) => serde_json::to_vec(it),
            Self::StepBegun(it) => serde_json::to_vec(it),
            Self::StepSent(it) => serde_json::to_vec(it),
            Self::AttemptUnanswered(it) => serde_json::to_vec(it),
            Self::StepSucceeded(it) => serde_json::to_vec(it),
            Self::StepFailed(it) => serde_json::to_vec(it),
            Self::StepUnknown(it) => serde_json::to_vec(it),
            Self::ReplySeen(it) => serde_json::to_vec(it),
            Self::Turned(it) => serde_json::to_vec(it),
            Self::AttentionNeeded(it) => serde_json::to_vec(it),
            Self::Commanded(it) => serde_json::to_vec(it),
            Self::Completed(it) | Self::Compensated(it) => serde_json::to_vec(it),
        };
        let data = data.map_err(|error| Error::internal(format!("writing a saga's history: {error}")))?;
        Ok(NewEvent::json(EventType::new(self.event_type())?, data))
    }

    /// Reads what [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// `Corrupt` when it is no entry, or one of a newer version.
    pub(crate) fn decode(event: &RecordedEvent) -> Result<Self> {
        Ok(match event.event_type.as_str() {
            STARTED => {
                let started: Started = read(event)?;
                if started.format > FORMAT {
                    return Err(corrupt(
                        event,
                        &format!(
                            "it has format {}, and this version knows {FORMAT}: it was written by a newer Headwater; run that one",
                            started.format
                        ),
                    ));
                }
                Self::Started(started)
            }
            "StepBegun" => Self::StepBegun(read(event)?),
            "StepSent" => Self::StepSent(read(event)?),
            "AttemptUnanswered" => Self::AttemptUnanswered(read(event)?),
            "StepSucceeded" => Self::StepSucceeded(read(event)?),
            "StepFailed" => Self::StepFailed(read(event)?),
            "StepUnknown" => Self::StepUnknown(read(event)?),
            REPLY_SEEN => Self::ReplySeen(read(event)?),
            "Turned" => Self::Turned(read(event)?),
            "AttentionNeeded" => Self::AttentionNeeded(read(event)?),
            COMMANDED => Self::Commanded(read(event)?),
            COMPLETED => Self::Completed(read(event)?),
            COMPENSATED => Self::Compensated(read(event)?),
            _ => {
                return Err(corrupt(
                    event,
                    "this version does not know its type; run the newer one that wrote it",
                ));
            }
        })
    }
}

fn read<T: DeserializeOwned>(event: &RecordedEvent) -> Result<T> {
    serde_json::from_slice(&event.data).map_err(|error| corrupt(event, &error.to_string()))
}

fn corrupt(event: &RecordedEvent, why: &str) -> Error {
    Error::corrupt(format!(
        "reading the history of a saga's instance, {} at version {} of \"{}\": {why}",
        event.event_type, event.version, event.stream_id
    ))
}
