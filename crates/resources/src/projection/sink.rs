//! Where the rows are kept.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::SecretKeyRef;

/// A kind of sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SinkType {
    /// PostgreSQL or CockroachDB.
    #[default]
    #[serde(rename = "SQL")]
    Sql,
    /// Redis hashes.
    Redis,
}

/// Where the rows are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.sql) || self.type == 'SQL'").message("sql is for type SQL alone; remove it, or write type: SQL"),
    validation = Rule::new("has(self.redis) == (self.type == 'Redis')").message("redis is needed for type Redis, and for no other; write both, or neither")
)]
pub struct Sink {
    /// SQL or Redis.
    #[serde(default)]
    pub r#type: SinkType,
    /// A SQL database. Default: the event stream's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlSink>,
    /// Redis. For type Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisSink>,
}

/// Tables in a SQL database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlSink {
    /// The Secret's key that holds the connection URL. Default: the event stream's database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
    /// The database schema that holds the tables. Default: `hw_NAME_view`, with `_` for `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub schema: Option<String>,
}

/// Hashes in Redis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisSink {
    /// The Secret's key that holds the connection URL.
    pub url_secret_ref: SecretKeyRef,
    /// What every key begins with; also the hash tag that keeps the projection in one slot. Default: the resource's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$"))]
    pub key_prefix: Option<String>,
}
