//! JSON that is kept as it came: numbers lose no digit on their way through the history.

use std::fmt;

use bytes::Bytes;
use headwater_core::Metadata;
use headwater_expr::{JsonError, Numbers, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Levels of nesting that a history and its readers put around a value, with some to spare.
const ENVELOPE: usize = 16;

/// One JSON value, as text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// What expressions gave.
    ///
    /// # Panics
    /// Never: the writer of values writes JSON.
    pub fn of(value: &Value<'_>) -> Self {
        Self(RawValue::from_string(value.to_json(Numbers::Exact)).expect("values are written as JSON"))
    }

    /// `text`, if it is JSON.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.into()).map(Self)
    }

    /// A text as JSON.
    ///
    /// # Panics
    /// Never: every text has a JSON form.
    pub fn text(text: &str) -> Self {
        Self(serde_json::value::to_raw_value(text).expect("a text has a JSON form"))
    }

    /// Whether a log takes it within what a history and its readers put around it.
    pub(crate) fn fits_within_others(&self) -> bool {
        let (open, close) = ("[".repeat(ENVELOPE), "]".repeat(ENVELOPE));
        let wrapped = format!("{{\"a\":{open}{}{close}}}", self.as_str());
        Metadata::new(Bytes::from(wrapped)).is_ok()
    }

    /// Null.
    pub(crate) fn null() -> Self {
        Self::of(&Value::Null)
    }

    /// What serde gives.
    pub(crate) fn of_value(value: &serde_json::Value) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("a value has a JSON form"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// For expressions.
    ///
    /// # Errors
    /// A number that fits in no exact decimal, or nesting that is too deep.
    pub fn value(&self) -> Result<Value<'_>, JsonError> {
        Value::parse_json(self.0.get().as_bytes())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
