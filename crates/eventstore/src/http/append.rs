use std::sync::Arc;

use axum::extract::rejection::{BytesRejection, FailedToBufferBody, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;
use headwater_api::Problem;
use headwater_api::model::{AppendedBody, parse_append};
use headwater_core::Error;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::query::Parameters;
use super::{MAX_BODY_BYTES, json, stream_id};
use crate::budget;
use crate::metrics::Api;
use crate::store::Store;
use crate::traced::Caller;

/// `POST /v1/streams/{stream_id}/events`
pub(super) async fn append(
    State(store): State<Arc<Store>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    caller: Option<Extension<Caller>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let caller = caller.map(|Extension(caller)| caller).unwrap_or_default();
    let stream_id = stream_id(path)?;
    Parameters::of(&uri, &[])?;
    if let Some(problem) = other_than_json(&headers) {
        return Err(problem);
    }
    let body = body.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            Problem::too_large(MAX_BODY_BYTES)
        }
        BytesRejection::FailedToBufferBody(FailedToBufferBody::UnknownBodyError(broken))
            if let Some(refusal) = budget::refusal(&broken) =>
        {
            refusal.into()
        }
        other => Error::invalid("body", format!("it broke off: {}; send it again", other.body_text())).into(),
    })?;
    let append = parse_append(stream_id.clone(), &body)?;
    let appended = store.append(Api::http, &caller, append).await?;
    Ok(json(StatusCode::CREATED, &AppendedBody::new(&stream_id, &appended))?)
}

/// What is wrong with the request's media type, if anything.
fn other_than_json(headers: &HeaderMap) -> Option<Problem> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("that is no text"));
    let essence = content_type.and_then(|value| value.split(';').next()).map(str::trim);
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => None,
        _ => Some(Problem::unsupported_media_type(content_type, "application/json")),
    }
}
