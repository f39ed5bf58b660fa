//! Values: what expressions read and give.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rust_decimal::Decimal;

use crate::json::{self, JsonError, Numbers};

mod compare;
mod map;

pub use map::Map;

/// A value, borrowed from the data that it was read from where possible.
///
/// Cheap to clone: lists and maps are shared, text is borrowed unless it had to be made.
///
/// Equality goes by value: numbers are equal whatever their scale (`1.0 == 1`), maps and objects whatever the order
/// of their keys, and values of different types are not equal. `Display` gives JSON with exact numbers, and the bare
/// text of scalars.
#[derive(Clone, Debug, Default)]
pub enum Value<'a> {
    /// No value.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An exact decimal; its scale is kept as written (`59.70`).
    Number(Decimal),
    /// Characters.
    Text(Cow<'a, str>),
    /// A moment.
    Timestamp(Timestamp),
    /// A length of time.
    Duration(SignedDuration),
    /// Values in order.
    List(Arc<[Value<'a>]>),
    /// Values by text, in order.
    Map(Map<'a>),
    /// Fields of something that is borrowed, and read only when asked for.
    Object(&'a dyn Object),
}

/// Something with named fields that expressions can read without its being converted first.
///
/// `headwater` hands events to expressions this way: the columns of the log are fields, and the data is read from its
/// bytes once, when a rule asks for it.
pub trait Object: fmt::Debug + Send + Sync {
    /// The value of a field, or `None` when there is no such field (now).
    fn field(&self, name: &str) -> Option<Value<'_>>;

    /// The names of the fields that there can be.
    fn names(&self) -> &[&str];
}

impl<'a> Value<'a> {
    /// Reads one JSON value. Numbers stay exact, and text is borrowed where it has no escapes.
    ///
    /// Of equal keys in one object the last wins, as everywhere in JSON's practice.
    ///
    /// # Errors
    /// What is not JSON in UTF-8, is nested deeper than 128, is followed by something else, or holds a number that
    /// does not fit in an exact decimal (28 significant digits, 28 of them after the point).
    pub fn parse_json(bytes: &'a [u8]) -> Result<Value<'a>, JsonError> {
        json::read(bytes)
    }

    /// A list.
    pub fn list(elements: impl IntoIterator<Item = Value<'a>>) -> Value<'a> {
        Value::List(elements.into_iter().collect())
    }

    /// A map; of equal keys the last wins.
    pub fn map<K: Into<Cow<'a, str>>>(entries: impl IntoIterator<Item = (K, Value<'a>)>) -> Value<'a> {
        Value::Map(entries.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// The value of a field of a map or object.
    pub fn field(&self, name: &str) -> Option<Value<'_>> {
        match self {
            Value::Map(map) => map.get(name).cloned(),
            Value::Object(object) => object.field(name),
            _ => None,
        }
    }

    /// The same value with nothing borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(value),
            Value::Number(value) => Value::Number(value),
            Value::Text(value) => Value::Text(Cow::Owned(value.into_owned())),
            Value::Timestamp(value) => Value::Timestamp(value),
            Value::Duration(value) => Value::Duration(value),
            Value::List(elements) => Value::List(elements.iter().cloned().map(Value::into_owned).collect()),
            Value::Map(map) => Value::Map(map.into_owned()),
            Value::Object(object) => Value::Map(
                fields(object)
                    .map(|(name, value)| (Cow::Owned(name.to_owned()), value.into_owned()))
                    .collect(),
            ),
        }
    }

    /// The name of the value's type in messages: `null`, `bool`, `number`, `text`, `timestamp`, `duration`, `list`,
    /// `map`. Objects are maps.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::Text(_) => "text",
            Value::Timestamp(_) => "timestamp",
            Value::Duration(_) => "duration",
            Value::List(_) => "list",
            Value::Map(_) | Value::Object(_) => "map",
        }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// The value of a bool. There is no other truth: numbers and text are neither true nor false.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_number(&self) -> Option<Decimal> {
        match self {
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// The characters of a text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The moment of a timestamp.
    pub fn as_timestamp(&self) -> Option<Timestamp> {
        match self {
            Value::Timestamp(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of a list.
    pub fn as_list(&self) -> Option<&[Value<'a>]> {
        match self {
            Value::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// A scalar as text, as `string()` and templates write it: numbers in plain digits with their scale, timestamps in
    /// RFC 3339 in UTC, durations in seconds (`5400s`). `None` for null, lists and maps.
    pub fn to_text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Value::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Value::Number(value) => Cow::Owned(value.to_string()),
            Value::Text(value) => Cow::Borrowed(value),
            Value::Timestamp(value) => Cow::Owned(value.to_string()),
            Value::Duration(value) => Cow::Owned(duration_text(*value)),
            Value::Null | Value::List(_) | Value::Map(_) | Value::Object(_) => return None,
        })
    }

    /// The value as JSON text. Timestamps and durations are text as in [`Value::to_text`].
    pub fn to_json(&self, numbers: Numbers) -> String {
        let mut text = String::new();
        json::write(self, numbers, &mut text);
        text
    }
}

/// The fields that an object has now.
pub(crate) fn fields(object: &dyn Object) -> impl Iterator<Item = (&str, Value<'_>)> {
    object.names().iter().filter_map(|name| Some((*name, object.field(name)?)))
}

/// Seconds with as many digits after the point as are needed, and `s`.
fn duration_text(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let whole = duration.as_secs().unsigned_abs();
    match duration.subsec_nanos().unsigned_abs() {
        0 => format!("{sign}{whole}s"),
        nanos => format!("{sign}{whole}.{}s", format!("{nanos:09}").trim_end_matches('0')),
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_text() {
            Some(text) => f.write_str(&text),
            None => f.write_str(&self.to_json(Numbers::Exact)),
        }
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl From<Decimal> for Value<'_> {
    fn from(value: Decimal) -> Self {
        Value::Number(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Number(value.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Value::Number(value.into())
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(Cow::Borrowed(value))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Value::Text(Cow::Owned(value))
    }
}

impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Value::Timestamp(value)
    }
}

impl From<SignedDuration> for Value<'_> {
    fn from(value: SignedDuration) -> Self {
        Value::Duration(value)
    }
}

impl<'a> From<&'a dyn Object> for Value<'a> {
    fn from(value: &'a dyn Object) -> Self {
        Value::Object(value)
    }
}

impl<'a> From<Map<'a>> for Value<'a> {
    fn from(value: Map<'a>) -> Self {
        Value::Map(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Numbers that serde_json read as floats are taken as it prints them; read money with [`Value::parse_json`].
///
/// # Errors
/// A float that does not fit in an exact decimal.
impl<'a> TryFrom<&'a serde_json::Value> for Value<'a> {
    type Error = JsonError;

    fn try_from(value: &'a serde_json::Value) -> Result<Self, JsonError> {
        json::from_serde(value)
    }
}
