//! The bus that relays an event stream.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::shared::{ClientTls, Duration, SecretKeyRef};

/// A kind of bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BusType {
    /// None: consumers subscribe to the event store.
    #[default]
    None,
    /// NATS JetStream.
    #[serde(rename = "NATS")]
    Nats,
    /// Apache Kafka.
    Kafka,
}

/// The bus that relays the events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.nats) == (self.type == 'NATS')").message("nats is needed for type NATS, and for no other; write both, or neither"),
    validation = Rule::new("has(self.kafka) == (self.type == 'Kafka')").message("kafka is needed for type Kafka, and for no other; write both, or neither")
)]
pub struct Bus {
    /// NATS, Kafka, or None: then consumers subscribe to the event store.
    #[serde(default)]
    pub r#type: BusType,
    /// NATS JetStream. For type NATS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nats: Option<Nats>,
    /// Apache Kafka. For type Kafka.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Kafka>,
    /// Create makes the topic or stream and keeps it as it is described here; Observe only checks that it fits.
    #[serde(default)]
    pub provision: Provision,
    /// How much of the events the bus keeps; the log keeps everything. Default: what the bus does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// TLS of the connections. Default: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// Whether the topic or stream is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Provision {
    /// Made, and kept as described.
    #[default]
    Create,
    /// Only checked.
    Observe,
}

/// How much the bus keeps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// For how long, for example 168h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
    /// How much, for example 10Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bytes_schema")]
    pub max_bytes: Option<Quantity>,
}

fn bytes_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[1-9][0-9]{0,17}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", "maxLength": 20 })
}

/// A NATS JetStream stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nats {
    /// The servers, for example nats://nats:4222.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "set"))]
    pub servers: Vec<String>,
    /// The JetStream stream. Default: the resource's name in upper case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^\\s.*>/\\\\]+$"))]
    pub stream_name: Option<String>,
    /// The subject of an event: `{stream}`, `{partition}` and `{type}` stand for its own.
    #[serde(default = "Nats::default_subject")]
    #[schemars(
        length(min = 1, max = 255),
        regex(
            pattern = r"^([^\s.*>{}$]|\{(stream|partition|type)\})([^\s.*>{}]|\{(stream|partition|type)\})*(\.([^\s.*>{}]|\{(stream|partition|type)\})+)*$"
        )
    )]
    pub subject: String,
    /// Copies that JetStream keeps.
    #[serde(default = "Nats::default_replicas")]
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u32,
    /// File or Memory.
    #[serde(default)]
    pub storage: NatsStorage,
    /// The Secret's key that holds a NATS credentials file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretKeyRef>,
}

impl Nats {
    fn default_subject() -> String {
        "hw.{stream}.{partition}.{type}".to_owned()
    }

    fn default_replicas() -> u32 {
        3
    }
}

/// Where JetStream keeps messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NatsStorage {
    /// On disk.
    #[default]
    File,
    /// In memory.
    Memory,
}

/// An Apache Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kafka {
    /// The brokers to begin with, for example kafka:9092.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 1024)), extend("x-kubernetes-list-type" = "set"))]
    pub bootstrap_servers: Vec<String>,
    /// The topic. Default: the resource's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub topic: Option<String>,
    /// Copies that Kafka keeps.
    #[serde(default = "Kafka::default_replication_factor")]
    #[schemars(range(min = 1, max = 15))]
    pub replication_factor: u32,
    /// Settings of the topic that is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub config: Vec<KafkaConfig>,
    /// How we prove who we are. Default: by TLS alone, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
}

impl Kafka {
    fn default_replication_factor() -> u32 {
        3
    }
}

/// One setting of a Kafka topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KafkaConfig {
    /// Its name, for example compression.type.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 1024))]
    pub value: String,
}

/// How we prove to Kafka who we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    pub mechanism: SaslMechanism,
    /// The Secret's key that holds the user's name.
    pub username_secret_ref: SecretKeyRef,
    /// The Secret's key that holds the password.
    pub password_secret_ref: SecretKeyRef,
}

/// A SASL mechanism, by the name that Kafka has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password as it is; only over TLS.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Challenge and response with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// Challenge and response with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}
