use std::cmp::Ordering;
use std::fmt;

use jiff::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::ColumnType;

/// One value in a row.
///
/// Equality is by value: `1.0` equals `1.00`. The order is that of queries: null first, then by value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Cell {
    /// Nothing.
    Null,
    /// UTF-8.
    Text(String),
    /// A signed 64-bit integer.
    Integer(i64),
    /// An exact decimal, with its digits after the point as they were given.
    #[serde(with = "decimal_text")]
    Decimal(Decimal),
    /// True or false.
    Boolean(bool),
    /// A moment with whole microseconds; see [`Cell::timestamp`].
    Timestamp(Timestamp),
    /// The text of a JSON value, without insignificant space.
    Json(String),
}

impl Cell {
    /// A moment, cut to microseconds. `None` outside the years 0 to 9999, which not every sink can hold and order.
    pub fn timestamp(moment: Timestamp) -> Option<Self> {
        let micros = moment.as_microsecond();
        let whole = Timestamp::from_microsecond(micros).ok()?;
        (FIRST_MICROSECOND..=LAST_MICROSECOND).contains(&micros).then_some(Self::Timestamp(whole))
    }

    /// Whether there is nothing.
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether a column of `column_type` can hold this. Null fits everywhere; that keys have none is for who makes the key.
    pub const fn fits(&self, column_type: ColumnType) -> bool {
        matches!(
            (self, column_type),
            (Self::Null, _)
                | (Self::Text(_), ColumnType::Text)
                | (Self::Integer(_), ColumnType::Integer)
                | (Self::Decimal(_), ColumnType::Decimal)
                | (Self::Boolean(_), ColumnType::Boolean)
                | (Self::Timestamp(_), ColumnType::Timestamp)
                | (Self::Json(_), ColumnType::Json)
        )
    }

    /// The value as JSON: integers and decimals as strings, so that no reader rounds them; moments in RFC 3339.
    ///
    /// # Errors
    /// When a [`Cell::Json`] holds no JSON, which only a damaged sink gives.
    pub fn to_json(&self) -> Result<serde_json::Value, serde_json::Error> {
        use serde_json::Value;
        Ok(match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => Value::Bool(*value),
            Self::Json(text) => return serde_json::from_str(text),
            other => Value::String(other.to_string()),
        })
    }

    /// Rough size in memory and on disk, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) | Self::Json(text) => 24 + text.len(),
            _ => 24,
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Text(_) => 1,
            Self::Integer(_) => 2,
            Self::Decimal(_) => 3,
            Self::Boolean(_) => 4,
            Self::Timestamp(_) => 5,
            Self::Json(_) => 6,
        }
    }
}

/// 0000-01-01T00:00:00Z, in microseconds.
const FIRST_MICROSECOND: i64 = -62_167_219_200_000_000;
/// The last that fits the year 9999 in every offset that `jiff` knows.
const LAST_MICROSECOND: i64 = 253_402_207_200_000_000;

/// As people read it: RFC 3339 with six digits for moments, so that text order is time order.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Text(text) | Self::Json(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Decimal(number) => number.fmt(f),
            Self::Boolean(value) => value.fmt(f),
            Self::Timestamp(moment) => write!(f, "{moment:.6}"),
        }
    }
}

impl Ord for Cell {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) | (Self::Json(a), Self::Json(b)) => a.cmp(b),
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Cell {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Cell {}

impl std::hash::Hash for Cell {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Null => {}
            Self::Text(text) | Self::Json(text) => text.hash(state),
            Self::Integer(number) => number.hash(state),
            Self::Decimal(number) => number.normalize().hash(state),
            Self::Boolean(value) => value.hash(state),
            Self::Timestamp(moment) => moment.hash(state),
        }
    }
}

/// What names a row within its table: the cells of the key columns, none of them null, decimals without trailing zeros,
/// so that equal keys are equal text in every sink.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<[Cell]>);

impl Key {
    /// Takes the cells in the order of the key columns.
    pub fn new(mut cells: Vec<Cell>) -> Self {
        for cell in &mut cells {
            if let Cell::Decimal(number) = cell {
                let normal = number.normalize();
                *number = if normal.is_zero() { Decimal::ZERO } else { normal };
            }
        }
        Self(cells.into_boxed_slice())
    }

    /// The cells in the order of the key columns.
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }
}

/// As a path of the query API shows it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cell) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("/")?;
            }
            cell.fmt(f)?;
        }
        Ok(())
    }
}

/// Decimals in stored schemas are text, as everywhere.
mod decimal_text {
    use super::Decimal;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(number: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        Decimal::from_str_exact(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Cell {
        Cell::Decimal(text.parse().unwrap())
    }

    #[test]
    fn equal_decimals_are_equal_keys_with_equal_text() {
        for (a, b) in [("1.50", "1.5"), ("100", "100.000"), ("0.00", "-0")] {
            let (a, b) = (Key::new(vec![decimal(a)]), Key::new(vec![decimal(b)]));
            assert_eq!(a, b);
            assert_eq!(a.to_string(), b.to_string());
        }
        assert_eq!(decimal("1.50"), decimal("1.5"));
        assert_eq!(decimal("1.50").to_string(), "1.50", "a cell keeps its digits");
    }

    #[test]
    fn order_is_null_first_then_by_value() {
        let mut cells = vec![decimal("10"), decimal("9"), Cell::Null, decimal("-1.5")];
        cells.sort();
        assert_eq!(cells, [Cell::Null, decimal("-1.5"), decimal("9"), decimal("10")]);
    }

    #[test]
    fn moments_are_whole_microseconds_of_four_digit_years_and_sort_as_text() {
        let cell = |text: &str| Cell::timestamp(text.parse().unwrap());
        assert_eq!(
            cell("2026-01-02T03:04:05.123456789Z").unwrap().to_string(),
            "2026-01-02T03:04:05.123456Z"
        );
        assert_eq!(cell("2026-01-02T03:04:05Z").unwrap().to_string(), "2026-01-02T03:04:05.000000Z");
        assert_eq!(cell("0000-01-01T00:00:00Z").unwrap().to_string(), "0000-01-01T00:00:00.000000Z");
        assert_eq!(Cell::timestamp(Timestamp::MIN), None);
        let last = Timestamp::from_microsecond(LAST_MICROSECOND).unwrap();
        assert!(Cell::timestamp(last).unwrap().to_string().starts_with("9999-12-3"));
    }

    #[test]
    fn json_never_holds_a_number_that_a_reader_would_round() {
        assert_eq!(Cell::Integer(i64::MAX).to_json().unwrap(), "9223372036854775807");
        assert_eq!(decimal("0.10").to_json().unwrap(), "0.10");
        assert_eq!(Cell::Json("{\"a\":[1]}".into()).to_json().unwrap(), serde_json::json!({"a": [1]}));
        assert_eq!(Cell::Null.to_json().unwrap(), serde_json::Value::Null);
    }
}
