//! Unary gRPC calls, of methods that are described while the program runs.

mod channel;
mod descriptors;
mod message;
mod reflection;

use bytes::Bytes;
use headwater_resources::shared::{ClientTls, TlsMode};
use http::Uri;
use http::uri::{Authority, PathAndQuery};
use prost_reflect::{MethodDescriptor, ServiceDescriptor};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::answers::{self, Answered};
use super::connections::{Connections, Protocol};
use super::{Answer, Call, GrpcRequest, Response, Surroundings, http as headers};
use channel::Channel;
pub(super) use descriptors::Descriptors;

pub(super) fn what(request: &GrpcRequest) -> String {
    format!("{} at {}", request.method, request.address)
}

pub(super) async fn send(
    connections: &Connections,
    surroundings: &dyn Surroundings,
    descriptors: &Descriptors,
    call: &Call,
    request: &GrpcRequest,
) -> Answer {
    let answer = attempt(connections, surroundings, descriptors, call, request).await;
    answer.unwrap_or_else(|answer| answer.about(what(request)))
}

/// Either way an answer; `Err` is one that the participant did not give.
async fn attempt(
    connections: &Connections,
    surroundings: &dyn Surroundings,
    descriptors: &Descriptors,
    call: &Call,
    request: &GrpcRequest,
) -> Result<Answer, Answer> {
    let origin = origin(&request.address, request.tls.as_ref()).map_err(Answer::failure)?;
    let Some((service, method)) = request.method.split_once('/') else {
        return Err(Answer::failure("that is no method: write package.Service/Method"));
    };
    let (client, address) = connections.client(Protocol::Grpc, &origin, request.tls.as_ref())?;
    let channel = Channel { client, origin, address };

    // What is known of the service may be of before its last roll-out. Asking once more costs little, and nothing was done.
    let mut fresh = false;
    loop {
        let (known, of_now) =
            descriptors.service(&channel, surroundings, request.descriptor.as_ref(), service, fresh).await?;
        fresh = true;
        let prepared = method_of(&known, method)
            .and_then(|method| message::encode(&method, &request.message).map(|message| (method, message)));
        let (method, message) = match prepared {
            Ok(prepared) => prepared,
            Err(_) if !of_now => continue,
            Err(fault) => return Err(Answer::failure(fault)),
        };
        let answer = exchange(&channel, call, &method, message).await?;
        let unknown = matches!(&answer, Err(status) if status.code() == Code::Unimplemented);
        if unknown && !of_now {
            continue;
        }
        return Ok(match answer {
            Ok(answer) => success(&method, &answer),
            Err(status) => judge(&status),
        });
    }
}

/// `Err` when no gRPC server answered.
async fn exchange(
    channel: &Channel,
    call: &Call,
    method: &MethodDescriptor,
    message: Bytes,
) -> Result<Result<tonic::Response<Bytes>, Status>, Answer> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = PathAndQuery::try_from(path).map_err(|error| Answer::failure(error.to_string()))?;
    let mut metadata = ::http::HeaderMap::new();
    metadata.insert(headers::IDEMPOTENCY_KEY, headers::ascii(&call.key));
    metadata.extend(headers::trace(&call.trace));
    let mut request = tonic::Request::new(message);
    *request.metadata_mut() = MetadataMap::from_headers(metadata);
    request.set_timeout(call.timeout);
    channel.unary(request, path).await
}

fn success(method: &MethodDescriptor, answer: &tonic::Response<Bytes>) -> Answer {
    let headers = answer.metadata().clone().into_headers();
    let (body, note) = match message::decode(method, answer.get_ref().clone()) {
        Ok(body) => (Some(body), String::new()),
        Err(fault) => (None, format!(" ({fault})")),
    };
    let headers = answers::headers(&headers, |name| name.starts_with("grpc-") || name.ends_with("-bin"));
    Answer::Success(Response {
        summary: format!("OK{note}"),
        value: Answered { status: "OK", headers, body }.into_json(),
    })
}

/// What a status means that is not OK.
fn judge(status: &Status) -> Answer {
    let code = code(status.code());
    let reason = match answers::short(status.message()) {
        message if message.is_empty() => code.to_owned(),
        message => format!("{code}: {message}"),
    };
    if may_pass(status.code()) {
        return Answer::unanswered(reason);
    }
    let headers = status.metadata().clone().into_headers();
    let headers = answers::headers(&headers, |name| name.starts_with("grpc-") || name.ends_with("-bin"));
    let response = Response {
        summary: code.to_owned(),
        value: Answered { status: code, headers, body: answers::body(status.message()) }.into_json(),
    };
    Answer::Failure { reason, response: Some(response) }
}

/// Whether another attempt may be answered otherwise, or nobody knows what this one did.
fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
    )
}

fn method_of(service: &ServiceDescriptor, name: &str) -> Result<MethodDescriptor, String> {
    let Some(method) = service.methods().find(|it| it.name() == name) else {
        let known: Vec<_> = service.methods().map(|it| it.name().to_owned()).collect();
        return Err(format!(
            "service {} has no method \"{name}\"; it has: {}",
            service.full_name(),
            answers::short(&known.join(", "))
        ));
    };
    if method.is_client_streaming() || method.is_server_streaming() {
        return Err(format!(
            "{name} is a streaming method; a step calls one that takes and gives one message"
        ));
    }
    Ok(method)
}

/// Where to call, or why that is nowhere.
fn origin(address: &str, tls: Option<&ClientTls>) -> Result<Uri, String> {
    let wrong = || "that is no address: write HOST:PORT".to_owned();
    let authority: Authority = address.parse().map_err(|_| wrong())?;
    if authority.port_u16().is_none() || authority.host().is_empty() || address.contains('@') {
        return Err(wrong());
    }
    let secure = tls.is_some_and(|tls| tls.mode != TlsMode::Disable);
    Uri::builder()
        .scheme(if secure { "https" } else { "http" })
        .authority(authority)
        .path_and_query("/")
        .build()
        .map_err(|_| wrong())
}

/// A code's name, as gRPC writes it.
fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
