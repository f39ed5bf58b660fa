use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{once, unfold};
use headwater_api::Problem;
use headwater_api::model::EventBody;
use headwater_core::{Error, RecordedEvent, Result, Token};
use headwater_log::EventBatch;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::query::{Parameters, start_from};
use crate::grpc::Live;
use crate::store::Store;

/// A comment is sent when there was nothing for so long: proxies cut connections that are silent for 30 seconds or more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events a chunk: small enough that a page of large ones is not held twice.
const CHUNK_EVENTS: usize = 256;

/// The header with which browsers connect again.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// `GET /v1/events/stream`: server-sent events.
///
/// Each event's id is the token after it, so that `Last-Event-ID`, which browsers send by themselves when they connect again, goes on
/// without a gap or a repeat. `event: caught-up` says that all that was there has come.
pub(super) async fn stream(
    State(store): State<Arc<Store>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri, &["from", "type", "prefix", "upcast"])?;
    let filter = parameters.filter()?;
    let upcast = parameters.upcast()?;
    let (field, from) = match headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().map_err(|_| Error::invalid(LAST_EVENT_ID, "it is no text; send a token"))?;
            (LAST_EVENT_ID, start_from(LAST_EVENT_ID, id)?)
        }
        None => ("from", parameters.start()?),
    };
    let live = Live::open(&store, &from, field, filter, CHUNK_EVENTS, upcast).await?;
    let chunks = Chunks { token: live.token().clone(), live, caught_up: false, ended: false };
    let chunks = unfold(chunks, |mut chunks| async move { Some((chunks.next().await?, chunks)) });
    let first = once(async { Bytes::from_static(b"retry: 1000\n\n") });
    let body = Body::from_stream(first.chain(chunks).map(Ok::<_, Infallible>));
    Ok(([(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-store")], body).into_response())
}

struct Chunks {
    live: Live,
    /// The place after all that has been sent.
    token: Token,
    caught_up: bool,
    ended: bool,
}

impl Chunks {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        match tokio::time::timeout(KEEP_ALIVE, self.live.next()).await {
            Ok(Ok(batch)) => self.chunk(batch).unwrap_or_else(|error| self.failure(&error)).into(),
            // An end like any other: the client connects again, to a server that is up.
            Ok(Err(Error::Cancelled)) => None,
            Ok(Err(error)) => Some(self.failure(&error)),
            Err(_) => Some(Bytes::from_static(b": keep-alive\n\n")),
        }
    }

    fn chunk(&mut self, batch: EventBatch) -> Result<Bytes> {
        let mut text = String::new();
        for event in &batch.events {
            self.token.positions.set(event.partition, event.position);
            write_event(&mut text, &self.token, event)?;
        }
        let moved = self.token != batch.token;
        self.token = batch.token;
        // Writing to a String cannot fail.
        if batch.caught_up && !self.caught_up {
            let _ = write!(text, "event: caught-up\nid: {0}\ndata: {{\"token\":\"{0}\"}}\n\n", self.token);
        } else if moved {
            // Past what the filter left out: a client takes the id over and shows nothing.
            let _ = write!(text, "id: {}\n\n", self.token);
        }
        self.caught_up = batch.caught_up;
        Ok(Bytes::from(text))
    }

    /// The end, and why. The client may connect again; what it has not got comes then.
    fn failure(&mut self, error: &Error) -> Bytes {
        self.ended = true;
        tracing::warn!(%error, "a stream of server-sent events ended");
        let problem = serde_json::to_string(&Problem::from(error)).unwrap_or_default();
        Bytes::from(format!("event: problem\ndata: {problem}\n\n"))
    }
}

/// One message: the token after the event as its id, the event as its data.
fn write_event(text: &mut String, token: &Token, event: &RecordedEvent) -> Result<()> {
    let json = serde_json::to_string(&EventBody::new(event)?)
        .map_err(|error| Error::internal(format!("event {} cannot be written as JSON: {error}", event.id)))?;
    let _ = writeln!(text, "id: {token}");
    // Data is sent as it was written, which may be over several lines: only white space of JSON can be a line's end here.
    for line in json.split(['\n', '\r']) {
        let _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
    Ok(())
}
