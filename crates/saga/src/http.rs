//! The API of sagas over HTTP: what there is, and what people decide.
//!
//! ```text
//! GET  /v1/sagas[/{saga}]                                 how they stand
//! GET  /v1/sagas/{saga}/instances                         ?state=needs-attention (repeatable) &limit= &after=
//! GET  /v1/sagas/{saga}/instances/{instance}              its history, and what comes next
//! POST /v1/sagas/{saga}/instances/{instance}/retry|skip|abort|resume     {"step": …, "reason": …}
//! GET  /v1/sagas/{saga}/not-started                       events that should have started an instance: ?limit= &after=
//! GET  /v1/sagas/{saga}/graph                             its definition as a flow chart
//! ```
//!
//! Every failure is `application/problem+json`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{OriginalUri, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use headwater_api::{Problem, UrlPath};
use headwater_core::{Error, Result, Version};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::SagaCatalog;
use crate::graph::mermaid;
use crate::history::{Command, Commanded};
use crate::paging;
use crate::service::SagaService;
use crate::show::Instance;

/// The API of all sagas of `catalog`. It changes things and asks nobody who they are: serve it where only administrators reach it.
pub fn router(catalog: SagaCatalog) -> Router {
    Router::new()
        .route("/v1/sagas", get(list))
        .route("/v1/sagas/{saga}", get(status))
        .route("/v1/sagas/{saga}/instances", get(instances))
        .route("/v1/sagas/{saga}/instances/{instance}", get(show))
        .route("/v1/sagas/{saga}/instances/{instance}/{command}", post(command))
        .route("/v1/sagas/{saga}/not-started", get(not_started))
        .route("/v1/sagas/{saga}/graph", get(graph))
        .fallback(no_route)
        .method_not_allowed_fallback(not_allowed)
        .with_state(catalog)
}

async fn no_route(OriginalUri(uri): OriginalUri) -> Response {
    Problem::no_route(uri.path()).into_response()
}

async fn not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    Problem::method_not_allowed(&method, uri.path()).into_response()
}

async fn list(State(catalog): State<SagaCatalog>) -> Json<Value> {
    let statuses: Vec<_> = catalog.sagas().iter().map(SagaService::status).collect();
    Json(json!({ "sagas": statuses }))
}

async fn status(
    State(catalog): State<SagaCatalog>,
    UrlPath(saga): UrlPath<String>,
) -> Result<Response, Problem> {
    Ok(Json(catalog.saga(&saga)?.status()).into_response())
}

async fn instances(
    State(catalog): State<SagaCatalog>,
    UrlPath(saga): UrlPath<String>,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Value>, Problem> {
    let service = catalog.saga(&saga)?;
    let parameters = paging::Parameters::read(&uri)?;
    let (instances, next) = paging::page(&service, &parameters).await?;
    Ok(Json(json!({ "instances": instances, "next": next })))
}

async fn show(
    State(catalog): State<SagaCatalog>,
    UrlPath((saga, instance)): UrlPath<(String, String)>,
) -> Result<Json<Instance>, Problem> {
    Ok(Json(catalog.saga(&saga)?.show(&instance).await?))
}

/// What a person says beside the command.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    step: Option<String>,
    reason: Option<String>,
}

/// Answers with the instance after the command was recorded.
async fn command(
    State(catalog): State<SagaCatalog>,
    UrlPath((saga, instance, command)): UrlPath<(String, String, String)>,
    OriginalUri(uri): OriginalUri,
    body: Bytes,
) -> Result<Json<Instance>, Problem> {
    let command = match command.as_str() {
        "retry" => Command::Retry,
        "skip" => Command::Skip,
        "abort" => Command::Abort,
        "resume" => Command::Resume,
        _ => return Err(Problem::no_route(uri.path())),
    };
    let service = catalog.saga(&saga)?;
    service.command(&instance, commanded(command, &body)?).await?;
    Ok(Json(service.show(&instance).await?))
}

fn commanded(command: Command, body: &[u8]) -> Result<Commanded> {
    let said = if body.is_empty() {
        Said::default()
    } else {
        serde_json::from_slice(body).map_err(|error| {
            Error::invalid("body", format!(r#"{error}; send {{"step": "…", "reason": "…"}}, or nothing"#))
        })?
    };
    Commanded::new(command, said.step, said.reason)
}

async fn not_started(
    State(catalog): State<SagaCatalog>,
    UrlPath(saga): UrlPath<String>,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<Value>, Problem> {
    let service = catalog.saga(&saga)?;
    let (mut after, mut limit) = (Version::ZERO, paging::DEFAULT_LIMIT);
    for (name, value) in paging::pairs(&uri)? {
        match name.as_str() {
            "limit" => limit = paging::limit(&value)?,
            "after" => after = paging::number(&value)?,
            _ => {
                return Err(Error::invalid(name, "there is no such parameter; there is limit, after").into());
            }
        }
    }
    let (events, next) = service.not_started(after, limit).await?;
    Ok(Json(json!({ "events": events, "next": next.map(|next| next.to_string()) })))
}

async fn graph(
    State(catalog): State<SagaCatalog>,
    UrlPath(saga): UrlPath<String>,
) -> Result<Response, Problem> {
    let service = catalog.saga(&saga)?;
    let chart = mermaid(&service.definition(), service.name());
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], chart).into_response())
}
