//! The HTTP/JSON API.

mod append;
mod events;
mod query;
mod read;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::rejection::PathRejection;
use axum::extract::{OriginalUri, Path};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use headwater_api::Problem;
use headwater_core::{Error, Result, StreamId};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use crate::store::Store;

/// Bytes of a request's body: 4 MiB of data and metadata, base64 where they are not JSON, and the names around them.
pub(crate) const MAX_BODY_BYTES: usize = 8 << 20;

/// The document that describes the routes.
const OPENAPI: &str = include_str!("openapi.json");

/// The routes of the HTTP API, with answers in `application/problem+json` for all that they do not know.
pub(crate) fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/v1/streams/{stream_id}/events", get(read::stream_events).post(append::append))
        .route("/v1/streams/{stream_id}", get(read::stream))
        .route("/v1/events", get(read::events))
        .route("/v1/events/stream", get(events::stream))
        .route("/v1/head", get(read::head))
        .route("/v1/partitions", get(read::partitions))
        .route("/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPENAPI)))
        .fallback(unknown)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(store)
}

/// The answer of a route that is asked with a method that it does not take.
pub(crate) async fn method_not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    Problem::method_not_allowed(&method, uri.path())
}

/// No route: in the words of whoever asks.
async fn unknown(headers: HeaderMap, OriginalUri(uri): OriginalUri) -> Response {
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    if grpc {
        let message = format!("there is no {}; list the services by reflection", uri.path());
        return tonic::Status::unimplemented(message).into_http::<axum::body::Body>().into_response();
    }
    Problem::no_route(uri.path()).into_response()
}

/// The stream id in a path, percent-encoded there.
fn stream_id(path: Result<Path<String>, PathRejection>) -> Result<StreamId> {
    match path {
        Ok(Path(stream_id)) => StreamId::new(stream_id),
        Err(rejection) => Err(Error::invalid(
            "stream_id",
            format!(
                "it cannot be read from the path ({}); send UTF-8, percent-encoded",
                rejection.body_text()
            ),
        )),
    }
}

/// An answer in JSON.
fn json(status: StatusCode, body: &impl Serialize) -> Result<Response> {
    let text = serde_json::to_vec(body)
        .map_err(|error| Error::internal(format!("the answer cannot be written as JSON: {error}")))?;
    let content_type = HeaderValue::from_static("application/json");
    Ok((status, [(CONTENT_TYPE, content_type)], text).into_response())
}
