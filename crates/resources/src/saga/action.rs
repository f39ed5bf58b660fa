//! What a step does: a call, or an event.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::event_stream::any_object;
use crate::shared::{ClientTls, DataRef, SecretKeyRef, StreamRef, TemplateText};

/// A kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ActionType {
    /// An HTTP request.
    #[serde(rename = "HTTP")]
    Http,
    /// An event that is appended.
    Append,
    /// A unary gRPC call.
    #[serde(rename = "GRPC")]
    Grpc,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) == (self.type == 'HTTP')").message("http is needed for type HTTP, and for no other; write both, or neither"),
    validation = Rule::new("has(self.append) == (self.type == 'Append')").message("append is needed for type Append, and for no other; write both, or neither"),
    validation = Rule::new("has(self.grpc) == (self.type == 'GRPC')").message("grpc is needed for type GRPC, and for no other; write both, or neither")
)]
pub struct Action {
    /// HTTP, Append or GRPC.
    pub r#type: ActionType,
    /// An HTTP request. For type HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAction>,
    /// An event that is appended. For type Append.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<AppendAction>,
    /// A unary gRPC call. For type GRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
}

/// A kind of compensation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CompensationType {
    /// An HTTP request.
    #[serde(rename = "HTTP")]
    Http,
    /// An event that is appended.
    Append,
    /// A unary gRPC call.
    #[serde(rename = "GRPC")]
    Grpc,
    /// There is nothing to undo.
    None,
}

/// How a step is undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) == (self.type == 'HTTP')").message("http is needed for type HTTP, and for no other; write both, or neither"),
    validation = Rule::new("has(self.append) == (self.type == 'Append')").message("append is needed for type Append, and for no other; write both, or neither"),
    validation = Rule::new("has(self.grpc) == (self.type == 'GRPC')").message("grpc is needed for type GRPC, and for no other; write both, or neither")
)]
pub struct Compensation {
    /// HTTP, Append, GRPC, or None: there is nothing to undo.
    pub r#type: CompensationType,
    /// An HTTP request. For type HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAction>,
    /// An event that is appended. For type Append.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<AppendAction>,
    /// A unary gRPC call. For type GRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAction>,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Read.
    Get,
    /// Create, or do.
    Post,
    /// Replace.
    Put,
    /// Change.
    Patch,
    /// Remove.
    Delete,
}

impl HttpMethod {
    /// As requests and manifests have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// An HTTP request. It carries the step's idempotency key in the header `Idempotency-Key`. An answer of 2xx is success, 408,
/// 425, 429 and 5xx are repeated, and any other is failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpAction {
    /// GET, POST, PUT, PATCH or DELETE.
    pub method: HttpMethod,
    /// Where to: a template whose values are percent-encoded. Variables: those of the saga.
    pub url: TemplateText,
    /// Headers besides those that are always sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers: Vec<Header>,
    /// The JSON that is sent; each string in it is an expression. Variables: those of the saga. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_json")]
    pub body: Option<serde_json::Value>,
    /// TLS of the connection. Default: what the URL's scheme says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// Headers that say how a message is framed: with another value than the transport's, its end would be in doubt.
pub const FRAMING_HEADERS: [&str; 7] =
    ["connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"];

/// A header of an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)").message("a header has either value or valueFrom; write one of them"))]
pub struct Header {
    /// Its name.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"))]
    pub name: String,
    /// Its value: a template. Variables: those of the saga.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<TemplateText>,
    /// Where its value is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_from: Option<HeaderSource>,
}

/// Where a header's value is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderSource {
    /// A key of a Secret.
    pub secret_key_ref: SecretKeyRef,
}

/// An event that is appended. Its id comes from the step's idempotency key, so a repeat is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppendAction {
    /// The EventStream. Default: the saga's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_ref: Option<StreamRef>,
    /// The stream id: a template. Variables: those of the saga.
    pub stream_id: TemplateText,
    /// The event's type.
    #[schemars(length(min = 1, max = 255))]
    pub r#type: String,
    /// The event's data; each string in it is an expression. Variables: those of the saga.
    #[schemars(schema_with = "any_object")]
    pub data: serde_json::Value,
}

/// A unary gRPC call. It carries the step's idempotency key in the metadata `idempotency-key`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcAction {
    /// Where to, host and port.
    #[schemars(length(min = 1, max = 1024))]
    pub address: String,
    /// The method, for example payments.v1.Payments/Debit.
    #[schemars(
        length(min = 3, max = 512),
        regex(pattern = "^[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*$")
    )]
    pub method: String,
    /// The message, as JSON; each string in it is an expression. Variables: those of the saga.
    #[schemars(schema_with = "any_object")]
    pub request: serde_json::Value,
    /// Where the descriptor set is kept that describes the method. Default: the server's reflection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor_ref: Option<DataRef>,
    /// TLS of the connection. Default: plain text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

fn any_json(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
