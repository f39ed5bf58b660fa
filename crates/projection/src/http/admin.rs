//! Administration: what there is, and what people decide.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use headwater_api::{Problem, UrlPath};
use headwater_core::{Error, Result, StreamId};
use headwater_view::{ParkedStream, Revision};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::parameters::pairs;
use crate::catalog::Catalog;
use crate::parking::{Released, SkipWhat};
use crate::service::ProjectionService;

/// Parked streams of a page that says no limit.
const DEFAULT_LIMIT: usize = 100;
/// Parked streams of a page, and events of each, at most.
const MAX_LIMIT: usize = 1_000;
/// Events that are shown of each parked stream, unless more are asked for.
const DEFAULT_EVENTS: usize = 10;

pub(super) fn routes() -> Router<Catalog> {
    Router::new()
        .route("/v1/admin/projections", get(list))
        .route("/v1/admin/projections/{projection}", get(show))
        .route("/v1/admin/projections/{projection}/parked", get(parked))
        .route("/v1/admin/projections/{projection}/replay", post(replay))
        .route("/v1/admin/projections/{projection}/skip", post(skip))
        .route("/v1/admin/projections/{projection}/{command}", post(command))
}

async fn list(State(catalog): State<Catalog>) -> Response {
    let statuses: Vec<_> = catalog.projections().iter().map(ProjectionService::status).collect();
    let statuses: Vec<_> = statuses.iter().map(AsRef::as_ref).collect();
    Json(json!({ "projections": statuses })).into_response()
}

async fn show(
    State(catalog): State<Catalog>,
    UrlPath(projection): UrlPath<String>,
) -> Result<Response, Problem> {
    let status = catalog.projection(&projection)?.status();
    Ok(Json(&*status).into_response())
}

/// Answers with the status after the command.
async fn command(
    State(catalog): State<Catalog>,
    UrlPath((projection, command)): UrlPath<(String, String)>,
    OriginalUri(uri): OriginalUri,
) -> Result<Response, Problem> {
    let service = catalog.projection(&projection)?;
    match command.as_str() {
        "promote" => service.promote().await?,
        "rollback" => service.rollback().await?,
        "rebuild" => service.rebuild().await?,
        "pause" => service.pause().await?,
        "resume" => service.resume().await?,
        _ => return Err(Problem::no_route(uri.path())),
    }
    Ok(Json(&*service.status()).into_response())
}

async fn parked(
    State(catalog): State<Catalog>,
    UrlPath(projection): UrlPath<String>,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Value>, Problem> {
    let service = catalog.projection(&projection)?;
    let (mut revision, mut after, mut limit, mut events) = (None, None, DEFAULT_LIMIT, DEFAULT_EVENTS);
    for (name, value) in pairs(uri.query().unwrap_or_default())? {
        let number = || {
            value.parse::<usize>().ok().filter(|number| *number <= MAX_LIMIT).ok_or_else(|| {
                Error::invalid(name.clone(), format!("{value:?} is not a number from 0 to {MAX_LIMIT}"))
            })
        };
        match name.as_str() {
            "revision" => {
                let number = value
                    .parse()
                    .map_err(|_| Error::invalid("revision", format!("{value:?} is no revision")))?;
                revision = Some(Revision(number));
            }
            "after" => after = Some(StreamId::new(&value).map_err(|error| error.within("after"))?),
            "limit" => limit = number()?.max(1),
            "events" => events = number()?,
            _ => {
                let message = "there is no such parameter; there is revision, after, limit, events";
                return Err(Error::invalid(name, message).into());
            }
        }
    }
    let (revision, streams) = service.parked(revision, after.as_ref(), limit, events).await?;
    let next = streams.last().filter(|_| streams.len() == limit).map(|last| last.stream_id.to_string());
    let streams: Vec<Value> = streams.iter().map(stream_json).collect();
    Ok(Json(json!({ "revision": revision.to_string(), "streams": streams, "next": next })))
}

fn stream_json(stream: &ParkedStream) -> Value {
    let events: Vec<Value> = stream
        .events
        .iter()
        .map(|event| json!({ "id": event.id, "type": event.event_type, "position": event.position.to_string() }))
        .collect();
    json!({
        "stream_id": stream.stream_id.as_str(),
        "partition": stream.partition.get(),
        "reason": stream.reason,
        "since": stream.since,
        "count": stream.count,
        "events": events,
    })
}

/// What to replay.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    stream_id: Option<String>,
    #[serde(default)]
    all: bool,
}

async fn replay(
    State(catalog): State<Catalog>,
    UrlPath(projection): UrlPath<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let service = catalog.projection(&projection)?;
    let request: Replay = read(&body, r#"{"stream_id": "order-1"} or {"all": true}"#)?;
    match (request.stream_id, request.all) {
        (Some(stream_id), false) => Ok(answer(&service.replay(&StreamId::new(stream_id)?).await?)),
        (None, true) => Ok(answer(&replay_all(&service).await?)),
        _ => Err(Error::invalid("stream_id", r#"give {"stream_id": "order-1"} or {"all": true}"#).into()),
    }
}

async fn replay_all(service: &ProjectionService) -> Result<Vec<Released>> {
    let mut all = Vec::new();
    let mut after: Option<StreamId> = None;
    loop {
        let (_, page) = service.parked(None, after.as_ref(), MAX_LIMIT, 0).await?;
        for stream in &page {
            match service.replay(&stream.stream_id).await {
                Ok(released) => all.extend(released),
                // Somebody else was quicker.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        match page.last() {
            Some(last) if page.len() == MAX_LIMIT => after = Some(last.stream_id.clone()),
            _ => return Ok(all),
        }
    }
}

/// What to skip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SkipBody {
    stream_id: Option<String>,
    event_id: Option<Uuid>,
    #[serde(default)]
    all: bool,
}

async fn skip(
    State(catalog): State<Catalog>,
    UrlPath(projection): UrlPath<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let service = catalog.projection(&projection)?;
    let form = r#"{"event_id": "…"}, {"stream_id": "order-1"} for its first parked event, or {"stream_id": "order-1", "all": true}"#;
    let request: SkipBody = read(&body, form)?;
    match (request.stream_id, request.event_id) {
        (None, Some(event_id)) if !request.all => Ok(answer(&service.skip_event(event_id).await?)),
        (Some(stream_id), None) => {
            let what = if request.all { SkipWhat::All } else { SkipWhat::First };
            Ok(answer(&service.skip(&StreamId::new(stream_id)?, &what).await?))
        }
        _ => Err(Error::invalid("event_id", format!("give {form}")).into()),
    }
}

fn read<'b, T: Deserialize<'b>>(body: &'b Bytes, form: &str) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Error::invalid("body", format!("{error}; send {form}")))
}

fn answer(released: &[Released]) -> Json<Value> {
    Json(json!({ "released": released }))
}
