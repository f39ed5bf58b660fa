//! EventStream: a durable, ordered, append-only log of events.

mod bus;
mod database;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use bus::{
    Bus, BusType, Kafka, KafkaConfig, Nats, NatsStorage, Provision, Retention, Sasl, SaslMechanism,
};
pub use database::{Database, DatabaseType};

use crate::shared::{
    AccessRule, Address, Autoscaling, Cel, ConfigMapKeyRef, Count, DeletionPolicy, LocalRef, NetworkPolicy,
    RunState, Server, Workload, conditions_schema, one,
};

/// What an EventStream is to be: where its events are kept, in how many partitions, what they look like and who else
/// gets them.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "headwater.dev",
    version = "v1alpha1",
    kind = "EventStream",
    plural = "eventstreams",
    shortname = "evs",
    category = "headwater",
    namespaced,
    status = "EventStreamStatus",
    derive = "PartialEq",
    doc = "A durable, ordered, append-only log of events, served over gRPC and HTTP and relayed to a bus.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name is at most 40 lower-case letters, digits and '-', begins with a letter and does not end with '-'"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether what the spec asks for is in force"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why"),
    printcolumn(name = "Database", type_ = "string", json_path = ".spec.database.type", description = "What keeps the events"),
    printcolumn(name = "Bus", type_ = "string", json_path = ".spec.bus.type", description = "What relays them"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicasReady", description = "Pods that are ready, of those wanted"),
    printcolumn(name = "Head", type_ = "string", json_path = ".status.head", description = "Events stored"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.address.url", description = "Where it answers", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "What is being done, or to be done", priority = 1)
)]
#[x_kube(validation = Rule::new("!has(oldSelf.database) || has(self.database)").message("database cannot be taken away: the events are there; write what it was, or make another EventStream"))]
pub struct EventStreamSpec {
    /// Number of partitions, 1 to 256. Events of one stream id share a partition, and each partition has a total order of
    /// its own. One, the default, is enough for tens of thousands of events a second. Immutable: it decides where the
    /// events of a stream id are.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("partitions cannot be changed: make another EventStream"))]
    pub partitions: u32,
    /// The database that keeps the events. A cluster needs it; `headwater dev` keeps them in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The bus that relays the events to everyone else. Default: none.
    #[serde(default)]
    pub bus: Bus,
    /// What events look like. Appends are checked against it; a type that is not named here is accepted as it comes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub event_types: Vec<EventTypeSpec>,
    /// How it is served: TLS and authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// Who may do what. Default: the service accounts of this namespace may do all but Admin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub access: Vec<AccessRule>,
    /// Number of pods. One leads each partition; the others forward to it, read, and take over.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// Scaling of the number of pods; `replicas` is then only the first count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// What the pods are like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Keeps everybody from the pods by a NetworkPolicy but this namespace, the namespaces of service accounts that
    /// `access` names, the operator, and whom it names itself. Default: none is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// Whether pods run: Running, or Stopped, which keeps the events.
    #[serde(default)]
    pub state: RunState,
    /// What becomes of the events, and of what was provisioned on the bus, when the resource is deleted: Retain keeps
    /// them for a later EventStream to adopt, Delete drops them.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What events of one type look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.schema) && has(self.schemaRef))").message("give schema or schemaRef, not both"),
    validation = Rule::new("!has(self.upcast) || self.upcast.all(u, u.from < self.schemaVersion)").message("an upcast is from a version before schemaVersion; lower from, or raise schemaVersion")
)]
pub struct EventTypeSpec {
    /// The type's name, as events carry it.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The version of the data that is written now.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub schema_version: u32,
    /// A JSON Schema (draft 2020-12 where it names no other) that the data of every appended event must meet.
    /// References lead into the schema itself only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub schema: Option<serde_json::Value>,
    /// Where the JSON Schema is kept, when not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema_ref: Option<SchemaRef>,
    /// How data of older versions is brought up to `schemaVersion`, where it is used; the log keeps what was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["from"]))]
    pub upcast: Vec<Upcast>,
}

/// How the data of one event type is brought up to date: what stored definitions keep of an [`EventTypeSpec`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTypeUpcasts {
    /// The event type.
    pub name: String,
    /// The version of the data that expressions see.
    pub schema_version: u32,
    /// The steps up to it.
    pub upcast: Vec<Upcast>,
}

impl EventTypeUpcasts {
    /// Of those event types that have any.
    pub fn of(event_types: &[EventTypeSpec]) -> Vec<Self> {
        let with_steps = event_types.iter().filter(|event_type| !event_type.upcast.is_empty());
        let upcasts = with_steps.map(|event_type| Self {
            name: event_type.name.clone(),
            schema_version: event_type.schema_version,
            upcast: event_type.upcast.clone(),
        });
        upcasts.collect()
    }
}

/// Where a JSON Schema is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchemaRef {
    /// A key of a ConfigMap whose value is the JSON Schema, in JSON or YAML.
    pub config_map_key_ref: ConfigMapKeyRef,
}

/// One step up: from one version of an event type's data to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upcast {
    /// The version that it takes; what it gives is the version after.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub from: u32,
    /// Fields of the data to set, by name; the others stay. Each value is an expression. Variables: `event`, with its
    /// data as it was before this step. Result: the field's new value, anything.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 128))]
    pub set: BTreeMap<String, Cel>,
}

pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// What an EventStream is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventStreamStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, ResolvedRefs, DatabaseReady, BusReady, ReconciliationPaused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// A Secret in the shape of the Service Binding specification, for applications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<LocalRef>,
    /// The identity of the log, a UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub log_id: Option<String>,
    /// Events stored, over all partitions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<Count>,
    /// Pods that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that are ready, of those wanted: `2/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub replicas_ready: Option<String>,
    /// Which pods they are, a label selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Each partition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["partition"]))]
    pub partitions: Vec<PartitionStatus>,
}

/// What a partition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// Its number, from 0.
    pub partition: i32,
    /// The position of its last event.
    pub head: Count,
    /// The fencing number of its writer.
    pub epoch: Count,
    /// The position up to which the bus has its events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relayed: Option<Count>,
}
