//! The query API and the administration API over HTTP.
//!
//! ```text
//! GET  /v1/projections                                    what there is
//! GET  /v1/projections/{projection}/{table}               rows: ?column=value&order_by=-col&limit=&after=
//! GET  /v1/projections/{projection}/{table}/{key…}        one row
//!        ?min_token= (or header Headwater-Min-Token) &timeout=    wait for one's own write
//!        ?as_of=TOKEN|TIME                                        as it was
//! GET  /openapi.json                                      this, for the tables that there are
//!
//! GET  /v1/admin/projections[/{projection}[/parked]]      on a listener of its own
//! POST /v1/admin/projections/{projection}/promote|rollback|rebuild|pause|resume|replay|skip
//! ```
//!
//! Every failure is `application/problem+json`.

mod admin;
mod cursor;
mod openapi;
mod parameters;
mod rows;

use axum::Router;
use axum::extract::{OriginalUri, State};
use axum::http::Method;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use headwater_api::{Problem, UrlPath};
use serde_json::{Value, json};

use crate::catalog::Catalog;

/// The token of the answer.
pub(crate) const TOKEN_HEADER: &str = "headwater-token";
/// How many events of the answer's revision are parked, where some are.
pub(crate) const PARKED_HEADER: &str = "headwater-parked";
/// The token to wait for.
pub(crate) const MIN_TOKEN_HEADER: &str = "headwater-min-token";

/// The query API of all projections of `catalog`.
pub fn query_router(catalog: Catalog) -> Router {
    Router::new()
        .route("/v1/projections", get(list))
        .route("/v1/projections/{projection}", get(describe))
        .route("/v1/projections/{projection}/{table}", get(rows::rows))
        .route("/v1/projections/{projection}/{table}/{*key}", get(rows::row))
        .route("/openapi.json", get(openapi::document))
        .fallback(no_route)
        .method_not_allowed_fallback(not_allowed)
        .with_state(catalog)
}

/// The administration API of all projections of `catalog`. It changes things and asks nobody who they are: serve it where only
/// administrators reach it.
pub fn admin_router(catalog: Catalog) -> Router {
    admin::routes().fallback(no_route).method_not_allowed_fallback(not_allowed).with_state(catalog)
}

async fn no_route(OriginalUri(uri): OriginalUri) -> Response {
    Problem::no_route(uri.path()).into_response()
}

async fn not_allowed(method: Method, OriginalUri(uri): OriginalUri) -> Response {
    Problem::method_not_allowed(&method, uri.path()).into_response()
}

async fn list(State(catalog): State<Catalog>) -> Result<Json<Value>, Problem> {
    let mut projections = Vec::new();
    for entry in catalog.entries() {
        projections.push(summary(&entry).await?);
    }
    Ok(Json(json!({ "projections": projections })))
}

async fn describe(
    State(catalog): State<Catalog>,
    UrlPath(projection): UrlPath<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(summary(&catalog.entry(&projection)?).await?))
}

async fn summary(entry: &crate::catalog::Entry) -> headwater_core::Result<Value> {
    let active = entry.service.store().rollout().await?.active_record().cloned();
    let tables: Vec<Value> = active
        .iter()
        .flat_map(|record| &record.tables)
        .map(|table| {
            let columns: Vec<Value> = table
                .columns
                .iter()
                .map(|column| json!({ "name": column.name, "type": column.column_type.name() }))
                .collect();
            let key: Vec<&str> =
                table.key.iter().map(|column| table.columns[*column].name.as_str()).collect();
            json!({ "name": table.name, "key": key, "columns": columns })
        })
        .collect();
    let revision = active.map(|record| record.revision.to_string());
    Ok(json!({ "name": entry.service.name(), "revision": revision, "tables": tables }))
}
