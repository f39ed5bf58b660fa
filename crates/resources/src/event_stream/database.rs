//! The database that keeps an event stream.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{ClientTls, SecretKeyRef};

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DatabaseType {
    /// CockroachDB, 23.2 or later.
    CockroachDB,
    /// PostgreSQL, 13 or later.
    PostgreSQL,
}

/// The database that keeps the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.schema) == has(oldSelf.schema) && (!has(self.schema) || self.schema == oldSelf.schema)").message("schema cannot be changed: the events are there; write what it was, or make another EventStream"))]
pub struct Database {
    /// CockroachDB or PostgreSQL. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("type cannot be changed: make another EventStream"))]
    pub r#type: DatabaseType,
    /// The Secret's key that holds the connection URL: the shape of the Secrets of CloudNativePG and CockroachDB.
    pub url_secret_ref: SecretKeyRef,
    /// The database schema that holds the tables. Default: `hw_NAME`, with `_` for `-`. Immutable.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z][a-z0-9_]*$"))]
    pub schema: Option<String>,
    /// The Secret's key that holds the URL of a follower, for reads.
    #[serde(rename = "readURLSecretRef", skip_serializing_if = "Option::is_none")]
    pub read_url_secret_ref: Option<SecretKeyRef>,
    /// Connections that one pod opens at most.
    #[serde(default = "Database::default_max_connections")]
    #[schemars(range(min = 2, max = 1000))]
    pub max_connections: u32,
    /// TLS of the connections. Default: what the URL says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

impl Database {
    fn default_max_connections() -> u32 {
        20
    }
}
