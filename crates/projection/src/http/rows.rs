//! Rows: one by its key, or a page of them.

use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use headwater_api::{Problem, UrlPath};
use headwater_core::{Error, Positions, Result, Token};
use headwater_view::{Answer, Cell, Query, QueryError, RevisionRecord, TableSchema, ViewStore};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::parameters::{self, Parameters};
use super::{PARKED_HEADER, TOKEN_HEADER, cursor};
use crate::catalog::{Catalog, Entry};
use crate::plan::names;
use crate::service::OTHERS;
use crate::travel::positions_of;

pub(super) async fn rows(
    State(catalog): State<Catalog>,
    UrlPath((projection, table)): UrlPath<(String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::read(&uri, &headers)?;
    let entry = catalog.entry(&projection)?;
    let found = find(&catalog, &entry, &parameters, |record| {
        let (table, schema) = table_of(record, &table)?;
        let order = Query::total_order(schema, &parameters.order(schema)?);
        let after = parameters.after.as_deref().map(|after| cursor::decode(after, &order)).transpose()?;
        Ok(Query {
            revision: record.revision,
            active: true,
            table,
            filter: parameters.filter(schema)?,
            order,
            after,
            limit: parameters.limit(),
        })
    })
    .await?;
    let schema = &found.record.tables[found.query.table];
    let next = match found.answer.rows.last().filter(|_| found.answer.more) {
        Some(last) => Some(cursor::encode(&found.query.order, found.query.cursor(last))?),
        None => None,
    };
    let page = Page { rows: Rows { schema, rows: &found.answer.rows }, next, token: &found.token };
    Ok(respond(&found, &page)?)
}

pub(super) async fn row(
    State(catalog): State<Catalog>,
    UrlPath((projection, table, _)): UrlPath<(String, String, String)>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::read(&uri, &headers)?;
    parameters.of_one_row()?;
    // As they came: a slash within a segment is not one between them.
    let segments = parameters::segments(uri.path(), 4)?;
    let entry = catalog.entry(&projection)?;
    let found = find(&catalog, &entry, &parameters, |record| {
        let (table, schema) = table_of(record, &table)?;
        Ok(Query::by_key(record.revision, table, schema, &parameters::key(schema, &segments)?))
    })
    .await?;
    let schema = &found.record.tables[found.query.table];
    if let Some(cells) = found.answer.rows.first() {
        return Ok(respond(&found, &Row { schema, cells })?);
    }
    let missing = Error::not_found(format!(
        "table \"{table}\" of projection \"{projection}\" has no row \"{}\"; a row that was just written may not be there yet: \
         give min_token",
        segments.join("/")
    ));
    let mut response = Problem::from(missing).into_response();
    set_headers(&mut response, &found);
    Ok(response)
}

/// An answer and what it is about.
struct Found {
    record: Arc<RevisionRecord>,
    query: Query,
    answer: Answer,
    token: String,
}

/// Asks until the answer is of the active revision and covers the token to wait for.
async fn find(
    catalog: &Catalog,
    entry: &Entry,
    parameters: &Parameters,
    query: impl Fn(&RevisionRecord) -> Result<Query>,
) -> Result<Found> {
    let service = &entry.service;
    if !service.is_queryable() {
        return Err(Error::failed_precondition(format!(
            "projection \"{}\" does not answer queries: its `query.state` is Disabled, or its `state` Stopped",
            service.name()
        )));
    }
    let deadline = Instant::now() + parameters.timeout;
    let descriptor = service.reader().descriptor();
    if let Some(as_of) = &parameters.as_of {
        let record = entry.active(None).await?.ok_or_else(|| not_built(entry))?;
        let positions = positions_of(&**service.reader(), as_of).await?;
        let mut query = query(&record)?;
        let arrived = catalog.travels().go(service, &record, &positions, deadline).await?;
        query.revision = arrived.revision;
        let answer = ask(&*arrived.store, &query)
            .await?
            .ok_or_else(|| Error::internal("a scratch store has no active revision"))?;
        let token = Token::new(descriptor.log_id, answer.positions.clone()).to_string();
        return Ok(Found { record, query, answer, token });
    }

    let minimum = match &parameters.min_token {
        Some(token) => {
            token.positions_in(descriptor.log_id, descriptor.partitions).map_err(of_min_token)?.clone()
        }
        None => Positions::default(),
    };
    let mut moves = service.moves();
    // Those of another process tell nothing. Those of this one say when it is worth it to ask the store.
    let mut look_at = Instant::now() + OTHERS.1;
    let mut stale = None;
    let mut reached = Positions::default();
    loop {
        moves.seen();
        match entry.active(stale).await? {
            Some(record) if service.is_behind(record.revision, &minimum) && Instant::now() < look_at => {}
            Some(record) => {
                let query = query(&record)?;
                match ask(&**service.store(), &query).await? {
                    Some(answer) if answer.positions.cover(&minimum) => {
                        let token = Token::new(descriptor.log_id, answer.positions.clone()).to_string();
                        return Ok(Found { record, query, answer, token });
                    }
                    Some(answer) => reached = answer.positions,
                    // Another revision has taken over since: ask that one.
                    None => {
                        stale = Some(record.revision);
                        continue;
                    }
                }
            }
            None if parameters.min_token.is_none() => return Err(not_built(entry)),
            None => {}
        }
        if Instant::now() >= look_at {
            look_at = Instant::now() + OTHERS.1;
        }
        tokio::select! {
            moved = moves.next() => moved?,
            () = tokio::time::sleep_until(deadline) => {
                return Err(Error::DeadlineExceeded {
                    message: format!(
                        "projection \"{}\" has not come to the token within {} ms; ask again, or look at its lag",
                        service.name(),
                        parameters.timeout.as_millis()
                    ),
                    reached: Some(Token::new(descriptor.log_id, reached)),
                });
            }
        }
    }
}

/// The answer; `None` when another revision is active.
async fn ask(store: &dyn ViewStore, query: &Query) -> Result<Option<Answer>> {
    match store.query(query).await {
        Ok(answer) => Ok(Some(answer)),
        Err(QueryError::NotActive { .. }) => Ok(None),
        Err(QueryError::Failed(error)) => Err(error),
    }
}

fn of_min_token(error: Error) -> Error {
    match error {
        Error::Invalid { message, .. } => Error::invalid("min_token", message),
        other => other,
    }
}

fn not_built(entry: &Entry) -> Error {
    let status = entry.service.status();
    let message = status.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
    // Paused, it comes no further by itself.
    let state = if status.state == "Running" { String::new() } else { format!("{}, ", status.state) };
    Error::unavailable(format!(
        "projection \"{}\" has no revision that answers yet ({state}{}{message}); ask again when it is built",
        entry.service.name(),
        status.rollout
    ))
}

fn table_of<'r>(record: &'r RevisionRecord, name: &str) -> Result<(usize, &'r TableSchema)> {
    record.tables.iter().enumerate().find(|(_, table)| table.name == name).ok_or_else(|| {
        Error::not_found(format!(
            "there is no table \"{name}\"; there is {}",
            names(record.tables.iter().map(|table| table.name.as_str()))
        ))
    })
}

fn respond(found: &Found, body: &impl Serialize) -> Result<Response> {
    let body =
        serde_json::to_vec(body).map_err(|error| Error::corrupt(format!("writing rows as JSON: {error}")))?;
    let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
    set_headers(&mut response, found);
    Ok(response)
}

fn set_headers(response: &mut Response, found: &Found) {
    let headers = response.headers_mut();
    if let Ok(token) = found.token.parse() {
        headers.insert(TOKEN_HEADER, token);
    }
    if found.answer.parked > 0 {
        headers.insert(PARKED_HEADER, found.answer.parked.into());
    }
}

#[derive(Serialize)]
struct Page<'a> {
    rows: Rows<'a>,
    next: Option<String>,
    token: &'a str,
}

struct Rows<'a> {
    schema: &'a TableSchema,
    rows: &'a [Vec<Cell>],
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.rows.len()))?;
        for cells in self.rows {
            rows.serialize_element(&Row { schema: self.schema, cells })?;
        }
        rows.end()
    }
}

/// A row as a JSON object: what a reader could round is text, what is JSON stays as it is.
struct Row<'a> {
    schema: &'a TableSchema,
    cells: &'a [Cell],
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(Some(self.cells.len()))?;
        for (column, cell) in self.schema.columns.iter().zip(self.cells) {
            match cell {
                Cell::Null => row.serialize_entry(&column.name, &())?,
                Cell::Boolean(value) => row.serialize_entry(&column.name, value)?,
                Cell::Text(text) => row.serialize_entry(&column.name, text)?,
                Cell::Json(text) => {
                    let raw: &RawValue = serde_json::from_str(text).map_err(S::Error::custom)?;
                    row.serialize_entry(&column.name, raw)?;
                }
                other => row.serialize_entry(&column.name, &other.to_string())?,
            }
        }
        row.end()
    }
}
