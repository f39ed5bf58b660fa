use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error as _;

use headwater_core::{Error, StreamId, Token, Version};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::kind;
use crate::expected;
use crate::v1::Failure;

/// The domain of our `google.rpc.ErrorInfo`.
const DOMAIN: &str = "headwater.dev";

/// A status travels in headers, twice (as text and in its details), and clients refuse more than 16 KiB of them.
const MAX_MESSAGE_BYTES: usize = 1500;

/// The status that says `error`, with details from which [`from_status`] makes the same error. Messages over 1,500 bytes are cut.
pub fn to_status(error: &Error) -> Status {
    let kind = kind(error);
    let mut metadata = HashMap::new();
    let mut details = ErrorDetails::new();
    match error {
        Error::Invalid { field, message } => {
            details.add_bad_request_violation(field, cut(message));
        }
        Error::WrongVersion { stream_id, expected, current } => {
            metadata.insert("stream_id".to_owned(), stream_id.to_string());
            metadata.insert("expected".to_owned(), expected::to_text(*expected));
            metadata.insert("current_version".to_owned(), current.to_string());
        }
        Error::DeadlineExceeded { reached: Some(token), .. } => {
            metadata.insert("reached".to_owned(), token.to_string());
        }
        Error::Unavailable { retry_after: Some(delay), .. } => {
            details.set_retry_info(Some(*delay));
        }
        _ => {}
    }
    details.set_error_info(kind.reason, DOMAIN, metadata);
    Status::with_error_details(kind.code, cut(&error.to_string()), details)
}

/// What a failed call says, in the words of core. Statuses that are not ours (a transport's, a proxy's) are told by their code.
pub fn from_status(status: &Status) -> Error {
    let details = status.get_error_details();
    let message = || status.message().to_owned();
    let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
        return foreign(status);
    };
    match info.reason.as_str() {
        "INVALID" => match details.bad_request().and_then(|request| request.field_violations.first()) {
            Some(violation) => Error::invalid(&violation.field, &violation.description),
            None => Error::invalid("request", message()),
        },
        "UNAUTHENTICATED" => Error::unauthenticated(message()),
        "PERMISSION_DENIED" => Error::permission_denied(message()),
        "NOT_FOUND" => Error::not_found(message()),
        "WRONG_VERSION" => wrong_version(&info.metadata).unwrap_or_else(|| Error::internal(message())),
        "ALREADY_EXISTS" => Error::already_exists(message()),
        "FAILED_PRECONDITION" => Error::failed_precondition(message()),
        "EXHAUSTED" => Error::exhausted(message()),
        "DEADLINE_EXCEEDED" => Error::DeadlineExceeded {
            message: message(),
            reached: info.metadata.get("reached").and_then(|token| token.parse::<Token>().ok()),
        },
        "UNAVAILABLE" => Error::Unavailable {
            message: message(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        },
        "SHUTTING_DOWN" => Error::Cancelled,
        "CORRUPT" => Error::corrupt(message()),
        "INTERNAL" => Error::internal(message()),
        // A newer server: its code still says what to do.
        _ => foreign(status),
    }
}

fn wrong_version(metadata: &HashMap<String, String>) -> Option<Error> {
    Some(Error::WrongVersion {
        stream_id: StreamId::new(metadata.get("stream_id")?).ok()?,
        expected: expected::from_text(metadata.get("expected")?).ok()?,
        current: Version::new(metadata.get("current_version")?.parse().ok()?),
    })
}

/// A status without our details.
fn foreign(status: &Status) -> Error {
    let message = describe(status);
    match status.code() {
        Code::Ok => Error::internal("the server answered a failure with code OK"),
        Code::InvalidArgument | Code::OutOfRange => Error::invalid("request", message),
        Code::NotFound => Error::not_found(message),
        Code::AlreadyExists => Error::already_exists(message),
        Code::FailedPrecondition => Error::failed_precondition(message),
        Code::Unauthenticated => Error::unauthenticated(message),
        Code::PermissionDenied => Error::permission_denied(message),
        Code::Unimplemented => Error::failed_precondition(format!(
            "the server does not know this call ({message}); is it a Headwater event store, and as new as this client?"
        )),
        Code::ResourceExhausted => Error::exhausted(message),
        Code::DeadlineExceeded => Error::DeadlineExceeded { message, reached: None },
        Code::DataLoss => Error::corrupt(message),
        // Connections that break show as any of these.
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => {
            Error::unavailable(message)
        }
    }
}

/// The status's message and what caused it: a transport error says little by itself.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = status.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = if text.is_empty() { cause_text } else { format!("{text}: {cause_text}") };
        }
        source = cause.source();
    }
    if text.is_empty() { status.code().description().to_owned() } else { text }
}

/// `error` inside a stream.
pub fn to_failure(error: &Error) -> Failure {
    let status = to_status(error);
    // Its details are an encoded google.rpc.Status, whose fields `Failure` shares.
    Failure::decode(status.details()).unwrap_or_else(|_| Failure {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// The error that a failure inside a stream says.
pub fn from_failure(failure: &Failure) -> Error {
    let code = Code::from_i32(failure.code);
    from_status(&Status::with_details(code, failure.message.clone(), failure.encode_to_vec().into()))
}

fn cut(message: &str) -> Cow<'_, str> {
    if message.len() <= MAX_MESSAGE_BYTES {
        return Cow::Borrowed(message);
    }
    let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
    Cow::Owned(format!("{}…", &message[..end]))
}
