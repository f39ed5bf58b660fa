use axum::body::Body;
use axum::response::{IntoResponse, Response};
use headwater_core::{Error, StreamId, Token, Version};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::kind;
use crate::expected;

/// What every problem's type begins with.
const TYPE: &str = "urn:headwater:problem:";

/// A failure over HTTP: RFC 9457's members, and ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, for programs: `urn:headwater:problem:wrong-version` and its like.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// What went wrong, for people; the same for all of a type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was attempted, on what, what was wrong, what to do.
    pub detail: String,
    /// Path of the offending field or parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The stream id of a wrong expectation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_id: Option<String>,
    /// What the append expected: `any`, `no_stream`, `exists`, or a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The version that the stream id is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// The token that was reached within the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<String>,
    /// Milliseconds to wait before the next try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Problem {
    /// The media type of a problem.
    pub const CONTENT_TYPE: &str = "application/problem+json";

    fn new(kebab: &str, title: &str, status: StatusCode, detail: String) -> Self {
        Self {
            problem_type: format!("{TYPE}{kebab}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            field: None,
            stream_id: None,
            expected: None,
            current_version: None,
            reached: None,
            retry_after_ms: None,
        }
    }

    /// There is no such route.
    pub fn no_route(path: &str) -> Self {
        Self::from(&Error::not_found(format!("there is nothing at {path}; the routes are in /openapi.json")))
    }

    /// The route is there, but not with this method. Send it with an `Allow` header.
    pub fn method_not_allowed(method: &http::Method, path: &str) -> Self {
        let detail = format!("{path} does not take {method}; the Allow header says what it takes");
        Self::new("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// The body is of another media type than the route reads.
    pub fn unsupported_media_type(got: Option<&str>, wanted: &str) -> Self {
        let got = got.map_or_else(|| "no Content-Type".to_owned(), |got| format!("Content-Type {got:?}"));
        let detail = format!("the request has {got}; send {wanted}");
        Self::new(
            "unsupported-media-type",
            "Unsupported media type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            detail,
        )
    }

    /// The body has more than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let detail =
            format!("the request's body has more than {limit} bytes; send fewer events in a request");
        Self::new("too-large", "The request is too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// What the problem says, in the words of core. Problems that are not ours are told by their status.
    pub fn into_error(self) -> Error {
        let message = self.detail.clone();
        match self.problem_type.strip_prefix(TYPE).unwrap_or_default() {
            "unauthenticated" => Error::unauthenticated(message),
            "permission-denied" => Error::permission_denied(message),
            "not-found" => Error::not_found(message),
            "wrong-version" => self.wrong_version().unwrap_or_else(|| Error::internal(message)),
            "already-exists" => Error::already_exists(message),
            "failed-precondition" => Error::failed_precondition(message),
            "exhausted" => Error::exhausted(message),
            "deadline-exceeded" => Error::DeadlineExceeded {
                message,
                reached: self.reached.and_then(|token| token.parse::<Token>().ok()),
            },
            "unavailable" => {
                Error::Unavailable { message, retry_after: self.retry_after_ms.map(Duration::from_millis) }
            }
            "shutting-down" => Error::Cancelled,
            "corrupt" => Error::corrupt(message),
            "internal" => Error::internal(message),
            _ => match self.status {
                401 => Error::unauthenticated(message),
                403 => Error::permission_denied(message),
                404 => Error::not_found(message),
                429 | 502 | 503 => Error::unavailable(message),
                400..500 => {
                    let field = self.field.unwrap_or_else(|| "request".to_owned());
                    let message = match message.strip_prefix(&format!("{field}: ")) {
                        Some(rest) => rest.to_owned(),
                        None => message,
                    };
                    Error::Invalid { field, message }
                }
                504 => Error::DeadlineExceeded { message, reached: None },
                _ => Error::internal(message),
            },
        }
    }

    fn wrong_version(&self) -> Option<Error> {
        Some(Error::WrongVersion {
            stream_id: StreamId::new(self.stream_id.as_ref()?).ok()?,
            expected: expected::from_text(self.expected.as_ref()?).ok()?,
            current: Version::new(self.current_version?),
        })
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let kind = kind(error);
        let kebab = kind.reason.to_ascii_lowercase().replace('_', "-");
        let mut problem = Self::new(&kebab, kind.title, kind.http, error.to_string());
        match error {
            Error::Invalid { field, .. } => problem.field = Some(field.clone()),
            Error::WrongVersion { stream_id, expected, current } => {
                problem.stream_id = Some(stream_id.to_string());
                problem.expected = Some(expected::to_text(*expected));
                problem.current_version = Some(current.get());
            }
            Error::DeadlineExceeded { reached, .. } => {
                problem.reached = reached.as_ref().map(ToString::to_string);
            }
            Error::Unavailable { retry_after, .. } => {
                problem.retry_after_ms = retry_after.map(|delay| delay.as_millis() as u64);
            }
            _ => {}
        }
        problem
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A struct of texts and numbers always serialises.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, Body::from(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(Self::CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"headwater\""));
        }
        if let Some(delay) = self.retry_after_ms {
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.div_ceil(1000)));
        }
        response
    }
}
