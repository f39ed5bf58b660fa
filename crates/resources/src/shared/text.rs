//! Text with a meaning: expressions, templates, lengths of time, counts beyond 53 bits.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! source {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes the source as it is written; validation compiles it.
            pub fn new(source: impl Into<String>) -> Self {
                Self(source.into())
            }

            /// The source.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(source: &str) -> Self {
                Self(source.to_owned())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

source!(
    /// The source of a CEL expression: at most 4,096 bytes. The field says which variables and which result.
    Cel,
    { "type": "string", "format": "cel", "minLength": 1, "maxLength": 4096 }
);
source!(
    /// A text with `${expression}` in it: at most 4,096 bytes. The field says which variables.
    TemplateText,
    { "type": "string", "minLength": 1, "maxLength": 4096 }
);

/// A length of time in whole milliseconds, written as Kubernetes does: `168h`, `1m30s`, `100ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duration(time::Duration);

/// Text that is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time; write whole numbers with their units h, m, s, ms, for example 1m30s")]
pub struct ParseDurationError(String);

/// What a length of time looks like. At most nine digits a unit, so that sums fit.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]{1,9}(h|m|s|ms))+$";

impl Duration {
    /// So many whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(time::Duration::from_millis(millis))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(time::Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn get(self) -> time::Duration {
        self.0
    }
}

impl From<Duration> for time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || ParseDurationError(text.chars().take(40).collect());
        let mut total = time::Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fault)?;
            if !(1..=9).contains(&digits) {
                return Err(fault());
            }
            let count: u64 = rest[..digits].parse().map_err(|_| fault())?;
            let unit_end = rest[digits..]
                .find(|c: char| c.is_ascii_digit())
                .map_or(rest.len(), |length| digits + length);
            let millis = match &rest[digits..unit_end] {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(fault()),
            };
            total = total.checked_add(time::Duration::from_millis(count * millis)).ok_or_else(fault)?;
            rest = &rest[unit_end..];
        }
        if text.is_empty() { Err(fault()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, name) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if millis >= unit {
                write!(f, "{}{name}", millis / unit)?;
                millis %= unit;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DURATION_PATTERN, "maxLength": 48 })
    }
}

/// A count or position, written as a string of digits: readers that make floats of numbers would spoil it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| {
            serde::de::Error::custom(format!(
                "{text:?} is no count; write digits in quotes, for example \"42\""
            ))
        })
    }
}

/// What a time looks like: what an API server takes for one and readers do not, or the other way round, is left out.
pub(crate) const TIME_PATTERN: &str = "^[12][0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// What a count looks like: a number of 63 bits has at most nineteen digits.
pub(crate) const COUNT_PATTERN: &str = "^(0|[1-9][0-9]{0,18})$";

impl JsonSchema for Count {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": COUNT_PATTERN, "maxLength": 19 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        fn check(text: &str, expected: Option<(u64, &str)>) {
            let parsed = text.parse::<Duration>();
            match (&parsed, expected) {
                (Ok(duration), Some((millis, written))) => {
                    assert_eq!(duration.get(), time::Duration::from_millis(millis), "{text}");
                    assert_eq!(duration.to_string(), written);
                    assert_eq!(written.parse::<Duration>().as_ref(), Ok(duration));
                }
                (Err(_), None) => {}
                _ => panic!("{text:?} gave {parsed:?}"),
            }
        }
        check("24h", Some((86_400_000, "24h")));
        check("90s", Some((90_000, "1m30s")));
        check("1m30s", Some((90_000, "1m30s")));
        check("100ms", Some((100, "100ms")));
        check("0s", Some((0, "0s")));
        check("", None);
        check("5", None);
        check("5d", None);
        check("-5s", None);
        check("1.5s", None);
        check("1 h", None);
        check("9999999999s", None);
    }

    #[test]
    fn counts_are_text() {
        let count: Count = serde_json::from_str("\"9223372036854775807\"").unwrap();
        assert_eq!(serde_json::to_string(&count).unwrap(), "\"9223372036854775807\"");
        assert!(serde_json::from_str::<Count>("7").is_err());
        assert!(serde_json::from_str::<Count>("\"-7\"").is_err());
    }
}
