//! The only map between [`headwater_core::Error`] and what travels: a gRPC status or an HTTP problem (RFC 9457).
//!
//! ```text
//! Error ──to_status──▶ tonic::Status + google.rpc details ──from_status──▶ the same Error
//! Error ──Problem::from──▶ application/problem+json ──Problem::into_error──▶ the same Error
//! ```

mod problem;
mod refusal;
mod status;
#[cfg(test)]
mod tests;

use headwater_core::Error;
use http::StatusCode;
use tonic::Code;

pub use problem::Problem;
pub use refusal::refusal;
pub use status::{from_failure, from_status, to_failure, to_status};

/// One row of the map.
struct Kind {
    /// Of `google.rpc.ErrorInfo`; in kebab case, the end of the problem's type.
    reason: &'static str,
    code: Code,
    http: StatusCode,
    /// The problem's title: the same for all problems of the type.
    title: &'static str,
}

const fn kind(error: &Error) -> Kind {
    let (reason, code, http, title) = match error {
        Error::Invalid { .. } => {
            ("INVALID", Code::InvalidArgument, StatusCode::BAD_REQUEST, "The request is not valid")
        }
        Error::Unauthenticated { .. } => {
            ("UNAUTHENTICATED", Code::Unauthenticated, StatusCode::UNAUTHORIZED, "Who calls is not proven")
        }
        Error::PermissionDenied { .. } => {
            ("PERMISSION_DENIED", Code::PermissionDenied, StatusCode::FORBIDDEN, "Not allowed to this caller")
        }
        Error::NotFound { .. } => ("NOT_FOUND", Code::NotFound, StatusCode::NOT_FOUND, "Not found"),
        Error::WrongVersion { .. } => {
            ("WRONG_VERSION", Code::Aborted, StatusCode::CONFLICT, "The stream is at another version")
        }
        Error::AlreadyExists { .. } => {
            ("ALREADY_EXISTS", Code::AlreadyExists, StatusCode::CONFLICT, "The event id is taken")
        }
        Error::FailedPrecondition { .. } => {
            ("FAILED_PRECONDITION", Code::FailedPrecondition, StatusCode::CONFLICT, "Not possible now")
        }
        // 507 and not 429: it is not the caller who asked too much.
        Error::Exhausted { .. } => (
            "EXHAUSTED",
            Code::ResourceExhausted,
            StatusCode::INSUFFICIENT_STORAGE,
            "A limit of space is reached",
        ),
        Error::DeadlineExceeded { .. } => {
            ("DEADLINE_EXCEEDED", Code::DeadlineExceeded, StatusCode::GATEWAY_TIMEOUT, "Not in time")
        }
        Error::Unavailable { .. } => {
            ("UNAVAILABLE", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "Not available now")
        }
        // UNAVAILABLE is what every gRPC client takes as "try another connection".
        Error::Cancelled => {
            ("SHUTTING_DOWN", Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, "Shutting down")
        }
        Error::Corrupt { .. } => {
            ("CORRUPT", Code::DataLoss, StatusCode::INTERNAL_SERVER_ERROR, "Stored data contradicts itself")
        }
        Error::Internal { .. } => {
            ("INTERNAL", Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, "A fault of Headwater")
        }
    };
    Kind { reason, code, http, title }
}
