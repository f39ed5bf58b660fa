use axum::response::{IntoResponse, Response};
use headwater_core::Error;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::{Problem, to_status};

/// The answer that says `error` to a request with these headers, in the words of whoever asks: gRPC's, or HTTP's.
pub fn refusal(headers: &HeaderMap, error: &Error) -> Response {
    let content_type = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if content_type.is_some_and(|it| it.starts_with(b"application/grpc")) {
        return to_status(error).into_http::<axum::body::Body>().into_response();
    }
    Problem::from(error).into_response()
}
