//! The shapes that more than one resource has: references, TLS, access, scaling, pods.

mod condition;
mod pod;
mod text;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{ConditionType, Reason};
pub use pod::{Autoscaling, LagAutoscaling, NetworkPolicy, Workload};
pub(crate) use pod::{conditions_schema, foreign_schema};
pub(crate) use text::{COUNT_PATTERN, DURATION_PATTERN, TIME_PATTERN};
pub use text::{Cel, Count, Duration, ParseDurationError, TemplateText};

pub(crate) fn one() -> u32 {
    1
}

/// One key of a Secret in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the Secret's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// One key of a ConfigMap in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKeyRef {
    /// The name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the ConfigMap's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// An object of a known kind in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The EventStream in the resource's namespace that is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct StreamRef {
    /// The EventStream's name.
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
}

/// Where bytes that are not a resource of their own are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DataKind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// One key of a Secret or ConfigMap in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct DataRef {
    /// Secret or ConfigMap.
    pub kind: DataKind,
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the object's data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// How far a connection that we make is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Encrypted; the other side's certificate is of a known authority.
    VerifyCA,
    /// As `VerifyCA`, and the certificate is of the host that is asked for.
    VerifyFull,
}

/// TLS of a connection that we make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// Disable is plain text, VerifyCA checks the certificate's authority, VerifyFull its host name as well.
    #[serde(default = "ClientTls::default_mode")]
    pub mode: TlsMode,
    /// The authorities that are trusted, in PEM. Default: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<DataRef>,
    /// A Secret with `tls.crt` and `tls.key`, to show to the other side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret_ref: Option<LocalRef>,
    /// The host name that the certificate must have. Default: the host that is connected to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,
}

impl ClientTls {
    fn default_mode() -> TlsMode {
        TlsMode::VerifyFull
    }
}

/// How we serve: certificates, and who callers prove to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// TLS of what is served. Default: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
    /// How callers are authenticated, beside client certificates and the cluster's service-account tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ServerAuth>,
}

/// TLS of what is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerTls {
    /// A Secret with `tls.crt` and `tls.key`, as cert-manager writes it. Re-read when it changes.
    pub secret_ref: LocalRef,
    /// The authorities of client certificates, in PEM. With it, callers may prove who they are by a certificate.
    #[serde(rename = "clientCARef", skip_serializing_if = "Option::is_none")]
    pub client_ca_ref: Option<DataRef>,
}

/// How callers are authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerAuth {
    /// A Secret whose keys are names of callers and whose values are their bearer tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_tokens_secret_ref: Option<LocalRef>,
    /// Issuers of JSON Web Tokens that are accepted, beside the cluster's. None of them gives anybody the name of a service account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["issuer"]))]
    pub jwt: Vec<JwtIssuer>,
}

/// An issuer of JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtIssuer {
    /// The claim `iss`.
    #[schemars(length(min = 1, max = 1024))]
    pub issuer: String,
    /// Accepted values of the claim `aud`, without commas; one must be there.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 1024), regex(pattern = "^[^,]+$")), extend("x-kubernetes-list-type" = "set"))]
    pub audiences: Vec<String>,
    /// The issuer's keys, a JSON Web Key Set.
    pub jwks_ref: DataRef,
}

/// What kind of proof names a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectType {
    /// A Kubernetes service account, by `namespace` and `name`.
    ServiceAccount,
    /// A client certificate, by its common name or one of its DNS or URI names.
    CertificateName,
    /// A bearer token, by its key in the Secret of tokens.
    Token,
    /// A JSON Web Token, by its claim `sub`.
    #[serde(rename = "JWT")]
    Jwt,
    /// Whoever proves nothing.
    Anonymous,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'Anonymous' ? !has(self.name) : has(self.name)").message("name is needed for every type but Anonymous; add it, or remove it from type Anonymous"),
    validation = Rule::new("!has(self.__namespace__) || self.type == 'ServiceAccount'").message("only a ServiceAccount has a namespace; remove it, or write type: ServiceAccount")
)]
pub struct Subject {
    /// What kind of proof names the caller. Anonymous is whoever proves nothing.
    pub r#type: SubjectType,
    /// The service account's namespace. Default: the resource's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The caller's name; `*` for every name of its type (and namespace).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub name: Option<String>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Verb {
    /// Append events.
    Append,
    /// Read and subscribe to events.
    Read,
    /// Query read models.
    Query,
    /// Rebuild, promote, retry, skip, abort.
    Admin,
}

/// What one caller may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Who.
    pub subject: Subject,
    /// What: Append and Read events, Query read models, Admin for rebuilding, promoting, retrying, skipping.
    #[schemars(length(min = 1, max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub verbs: Vec<Verb>,
}

/// What becomes of what a resource has made, when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays, to be adopted again.
    #[default]
    Retain,
    /// It is deleted too.
    Delete,
}

/// Whether the resource's processes run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RunState {
    /// They run.
    #[default]
    Running,
    /// None runs; what is stored stays.
    Stopped,
}

/// Whether the resource's processes run, and work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkState {
    /// They run and work.
    #[default]
    Running,
    /// They run and answer, but take on nothing new.
    Paused,
    /// None runs; what is stored stays.
    Stopped,
}

/// Where the resource answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// The address inside of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub url: Option<String>,
}
