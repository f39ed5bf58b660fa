//! Money: an exact decimal, which JSON carries as a number written digit by digit. It never passes through a float.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

/// The largest price or sum: leaves 15 of the 28 digits that a decimal holds to what follows the point.
const MAX: u64 = 1_000_000_000_000;

/// An amount of money: 0 to 1,000,000,000,000, with as many digits after the point as its writer gave.
///
/// ```text
/// JSON  59.70  ◀──▶  Amount  ◀── "59.70"   (text is read too, for writers whose numbers are floats)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(Decimal);

/// Text or a number that is no [`Amount`].
#[derive(Debug, thiserror::Error)]
#[error("{text} is no amount; give a number from 0 to {MAX}")]
pub(crate) struct WrongAmount {
    text: String,
}

impl Amount {
    pub(crate) const ZERO: Self = Self(Decimal::ZERO);

    /// `self × count`.
    ///
    /// # Errors
    /// When the product is beyond the largest amount.
    pub(crate) fn times(self, count: u32) -> Result<Self, WrongAmount> {
        Self::check(self.0.checked_mul(Decimal::from(count)), || format!("{self} × {count}"))
    }

    /// `self + other`.
    ///
    /// # Errors
    /// When the sum is beyond the largest amount.
    pub(crate) fn plus(self, other: Self) -> Result<Self, WrongAmount> {
        Self::check(self.0.checked_add(other.0), || format!("{self} + {other}"))
    }

    /// How many digits after the point matter.
    pub(crate) fn scale(self) -> u32 {
        self.0.normalize().scale()
    }

    fn check(decimal: Option<Decimal>, text: impl Fn() -> String) -> Result<Self, WrongAmount> {
        decimal
            .filter(|it| !it.is_sign_negative() && *it <= Decimal::from(MAX))
            .map(Self)
            .ok_or_else(|| WrongAmount { text: text() })
    }
}

impl FromStr for Amount {
    type Err = WrongAmount;

    fn from_str(text: &str) -> Result<Self, WrongAmount> {
        let decimal = if text.contains(['e', 'E']) {
            Decimal::from_scientific(text)
        } else {
            Decimal::from_str_exact(text)
        };
        Self::check(decimal.ok(), || text.to_owned())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string()).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_digit() {
        fn check(json: &str, written: &str) {
            let amount: Amount = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), written, "{json}");
        }
        check("59.70", "59.70");
        check("\"59.70\"", "59.70");
        check("0.1", "0.1");
        check("1e2", "100");
        check("0", "0");
        check("999999999999.9999", "999999999999.9999");
        check("12.340000", "12.340000");
        check("59.699999999999996", "59.699999999999996");
    }

    #[test]
    fn other_json_is_refused() {
        for json in ["-1", "1000000000000.01", "1e13", "\"ten\"", "\"\"", "null", "true", "[1]"] {
            let error = serde_json::from_str::<Amount>(json).unwrap_err().to_string();
            assert!(error.contains("is no amount"), "{json}: {error}");
        }
    }

    #[test]
    fn arithmetic_is_exact_and_checked() {
        let amount = |text: &str| text.parse::<Amount>().unwrap();
        assert_eq!(amount("0.1").plus(amount("0.2")).unwrap(), amount("0.3"));
        assert_eq!(amount("19.90").times(3).unwrap().to_string(), "59.70");
        assert!(amount("999999999999").plus(amount("2")).is_err());
        assert!(amount("999999999999").times(10_000).is_err());
    }
}
