//! The tables of a read model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What queries say besides columns: `?limit=10`. No column is called so.
pub const QUERY_PARAMETERS: [&str; 6] = ["order_by", "limit", "after", "min_token", "timeout", "as_of"];

/// A table of the read model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The table's name: lower-case letters, digits and `_`, beginning with a letter. `hw_` at its beginning is reserved.
    #[schemars(length(min = 1, max = 48), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// The columns that identify a row, in the order in which a query's path names them.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub key: Vec<String>,
    /// The columns, those of the key included.
    #[schemars(length(min = 1, max = 128), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<Column>,
    /// What queries are to find quickly, besides the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub indexes: Vec<Index>,
    /// OneStream: each row is written from events of one stream id, so their order is known. ManyStreams: a row may be
    /// written from several, whose order is not defined where there are several partitions; its rules are then Upsert and
    /// Increment alone, do not read `row`, and of two sets of a column the later recorded one stays.
    #[serde(default)]
    pub writers: Writers,
}

impl Table {
    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the column called `name` is part of the key.
    pub fn is_key(&self, name: &str) -> bool {
        self.key.iter().any(|key| key == name)
    }
}

/// From how many stream ids a row is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Writers {
    /// From one.
    #[default]
    OneStream,
    /// From any number.
    ManyStreams,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Column {
    /// The column's name: lower-case letters, digits and `_`, beginning with a letter. `hw_` at its beginning is reserved.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub name: String,
    /// Text; Integer, of 64 bits; Decimal, exact; Boolean; Timestamp, in microseconds; or Json.
    pub r#type: ColumnType,
    /// What a new row has where no rule sets the column, written as a string and read as the column's type. Default: null,
    /// and 0 for a column that is incremented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub default: Option<String>,
    /// The field's name in Redis. Default: the column's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub field: Option<String>,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ColumnType {
    /// A string of characters.
    Text,
    /// A whole number of 64 bits, with sign.
    Integer,
    /// An exact decimal of up to 28 digits.
    Decimal,
    /// `true` or `false`.
    Boolean,
    /// A moment, in microseconds.
    Timestamp,
    /// Any JSON.
    Json,
}

impl ColumnType {
    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Integer => "Integer",
            Self::Decimal => "Decimal",
            Self::Boolean => "Boolean",
            Self::Timestamp => "Timestamp",
            Self::Json => "Json",
        }
    }

    /// Whether `Increment` can add to it.
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Decimal)
    }
}

/// Columns that queries filter and order by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The columns, the most selective first.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub columns: Vec<String>,
}
