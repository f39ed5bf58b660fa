//! What events do to rows.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::Cel;

/// What a rule does to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RuleType {
    /// Sets the columns that it names; a new row gets defaults for the rest.
    Upsert,
    /// As `Upsert`, but does nothing where there is no row.
    Update,
    /// Removes the row.
    Delete,
    /// Adds to columns of the row, which is made with defaults where there is none.
    Increment,
}

impl RuleType {
    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "Upsert",
            Self::Update => "Update",
            Self::Delete => "Delete",
            Self::Increment => "Increment",
        }
    }
}

/// What some types of event do to rows of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.by) == (self.type == 'Increment')").message("by is needed for type Increment, and for no other; write both, or neither"),
    validation = Rule::new("!has(self.set) || self.type == 'Upsert' || self.type == 'Update'").message("set is for types Upsert and Update alone; remove it, or write another type"),
    validation = Rule::new("self.type != 'Update' || has(self.set)").message("set is needed for type Update; add set: {column: expression}")
)]
pub struct Rule {
    /// What the rule is called in messages and metrics. Default: its index in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z][a-zA-Z0-9_-]*$"))]
    pub name: Option<String>,
    /// The types of event that it is for.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<String>,
    /// Whether the rule applies. Variables: `event` (id, type, streamId, version, partition, position, data, metadata, time,
    /// schemaVersion), `row` (the row with the rule's key, or null; not for ManyStreams), and those of forEach. Result: bool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Cel>,
    /// Upsert sets the columns that it names, and makes the row where there is none; Update sets them where there is a row;
    /// Delete removes it; Increment adds to columns, and makes the row where there is none.
    pub r#type: RuleType,
    /// The table that it writes.
    #[schemars(length(min = 1, max = 48))]
    pub table: String,
    /// Once for each element of a list in the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_each: Option<ForEach>,
    /// Which row: an expression for each column of the table's key. Variables: `event`, and those of forEach. Result: a
    /// value of the column's type, not null.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8))]
    pub key: BTreeMap<String, Cel>,
    /// What to set: an expression for each column. Variables: `event`, `row`, and those of forEach. Result: a value of the
    /// column's type, or null.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 128))]
    pub set: BTreeMap<String, Cel>,
    /// What to add: an expression for each column, which is Integer or Decimal. Variables: `event`, `row`, and those of
    /// forEach. Result: a number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 128))]
    pub by: BTreeMap<String, Cel>,
}

/// Once for each element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ForEach {
    /// The list. Variables: `event`. Result: a list.
    pub r#in: Cel,
    /// The variable that holds the element.
    #[serde(rename = "as", default = "ForEach::default_item")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub item: String,
    /// The variable that holds the element's index, from 0. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub index: Option<String>,
}

impl ForEach {
    fn default_item() -> String {
        "item".to_owned()
    }
}
