//! The API of the article: `eventstore.EventStore`.
//!
//! ```text
//! Event{event_id, event_type, aggregate_id, aggregate_type, event_data, stream}
//!    id = event_id (or derived)      stream id = aggregate_type-aggregate_id      data = event_data, byte for byte
//!    what these do not hold goes into the metadata, so that an event is given back as it came
//! ```

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::try_unfold;
use futures_util::{Stream, TryStreamExt};
use headwater_api::errors::to_status;
use headwater_api::seed;
use headwater_core::{
    Append, Error, EventType, Expected, Metadata, NewEvent, RecordedEvent, Result, SchemaVersion, StreamId,
};
use prost::Message;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::grpc::{Batches, or_status};
use crate::metrics::Api;
use crate::paging::{Pages, Scan, renamed};
use crate::store::Store;
use crate::traced::Caller;

/// The namespace of event ids that are derived from text that is no UUID.
const NAMESPACE: Uuid = Uuid::from_u128(0x6cbf_a8b1_7f0e_4d0c_9d5c_5c1b_2f6f_9b6a);

/// Metadata: the event id as it was given, where it is no UUID in its usual form. Stored for ever, as are the other keys; their
/// prefix keeps them apart from what writers put into metadata for themselves.
const EVENT_ID: &str = "headwater.dev/article-event-id";
/// Metadata: the aggregate type, where the stream id does not tell it.
const AGGREGATE_TYPE: &str = "headwater.dev/article-aggregate-type";
/// Metadata: the channel that the article publishes on.
const CHANNEL: &str = "headwater.dev/article-channel";

/// Events that one `GetEvents` gives.
const MOST_EVENTS: usize = 10_000;

/// Bytes of one answer of `GetEvents`: what gRPC clients take by default.
const MOST_BYTES: usize = 4 << 20;

/// The service over a store.
pub(crate) struct Article(pub(crate) Arc<Store>);

#[tonic::async_trait]
impl seed::event_store_server::EventStore for Article {
    async fn create_event(
        &self,
        request: Request<seed::CreateEventRequest>,
    ) -> Result<Response<seed::CreateEventResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let append = append_of(request.into_inner()).map_err(|error| to_status(&error))?;
        self.0
            .append(Api::article, &caller, append)
            .await
            .map_err(|error| to_status(&in_its_words(error)))?;
        Ok(Response::new(seed::CreateEventResponse { is_success: true, error: String::new() }))
    }

    async fn get_events(
        &self,
        request: Request<seed::GetEventsRequest>,
    ) -> Result<Response<seed::GetEventsResponse>, Status> {
        let mut found = std::pin::pin!(find(Arc::clone(&self.0), request.into_inner()));
        let mut response = seed::GetEventsResponse::default();
        let mut bytes = 0;
        loop {
            match found.try_next().await {
                Ok(Some(event)) => {
                    bytes += encoded_len(&event);
                    response.events.push(event);
                }
                Ok(None) => return Ok(Response::new(response)),
                Err(error) => return Err(to_status(&error)),
            }
            if response.events.len() > MOST_EVENTS || bytes > MOST_BYTES {
                return Err(to_status(&Error::failed_precondition(format!(
                    "more than {MOST_EVENTS} events or {MOST_BYTES} bytes fit the request; use GetEventsStream"
                ))));
            }
        }
    }

    type GetEventsStreamStream = Batches<seed::Event>;

    async fn get_events_stream(
        &self,
        request: Request<seed::GetEventsRequest>,
    ) -> Result<Response<Self::GetEventsStreamStream>, Status> {
        Ok(Response::new(or_status(find(Arc::clone(&self.0), request.into_inner()))))
    }
}

/// The log from its beginning, and of it what fits.
fn find(
    store: Arc<Store>,
    request: seed::GetEventsRequest,
) -> impl Stream<Item = Result<seed::Event>> + Send + 'static {
    let pages = try_unfold((store, None), |(store, pages)| async move {
        let mut pages = match pages {
            Some(pages) => pages,
            None => Pages::open(&store, Scan::all()).await?,
        };
        let Some(page) = pages.next(&store).await? else { return Ok(None) };
        let events = store.give(page.events, false)?;
        Ok(Some((events, (store, Some(pages)))))
    });
    pages
        .map_ok(move |events| {
            let fitting: Vec<_> =
                events.iter().map(event_of).filter(|event| fits(event, &request)).map(Ok).collect();
            futures_util::stream::iter(fitting)
        })
        .try_flatten()
}

fn fits(event: &seed::Event, request: &seed::GetEventsRequest) -> bool {
    let same_id = || {
        event.event_id == request.event_id
            || Uuid::parse_str(&request.event_id)
                .is_ok_and(|id| Uuid::parse_str(&event.event_id).is_ok_and(|other| id == other))
    };
    (request.aggregate_id.is_empty() || event.aggregate_id == request.aggregate_id)
        && (request.event_id.is_empty() || same_id())
}

/// What an event takes in the answer that lists it: its own bytes, and the key and length before it.
fn encoded_len(event: &seed::Event) -> usize {
    let bytes = event.encoded_len();
    1 + prost::length_delimiter_len(bytes) + bytes
}

/// An error about the append that was made of an event, as one about the event that the caller knows.
fn in_its_words(error: Error) -> Error {
    let Error::Invalid { field, message } = error else { return error };
    let field = match field.strip_prefix("events[0].").unwrap_or(&field) {
        "id" => "event.event_id",
        "type" => "event.event_type",
        "data" => "event.event_data",
        "stream_id" => "event.aggregate_id",
        // The channel and the rest are kept together, and what is too large is so together.
        _ => "event",
    };
    Error::invalid(field, message)
}

/// The append that stores an event of the article.
fn append_of(request: seed::CreateEventRequest) -> Result<Append> {
    let event = request
        .event
        .ok_or_else(|| Error::invalid("event", "it is missing; send CreateEventRequest{event: Event{…}}"))?;
    append_event(event)
}

fn append_event(event: seed::Event) -> Result<Append> {
    for (field, value) in [
        ("event_type", &event.event_type),
        ("aggregate_id", &event.aggregate_id),
        ("aggregate_type", &event.aggregate_type),
    ] {
        if value.is_empty() {
            return Err(Error::invalid(format!("event.{field}"), "it is empty; every event has one"));
        }
    }
    let mut metadata = Map::new();
    let id = if event.event_id.is_empty() { Uuid::now_v7() } else { id_of(&event.event_id) };
    if !event.event_id.is_empty() && event.event_id != id.to_string() {
        metadata.insert(EVENT_ID.to_owned(), Value::String(event.event_id));
    }
    let stream_id = StreamId::new(format!("{}-{}", event.aggregate_type, event.aggregate_id))
        .map_err(|error| renamed(error, "event.aggregate_id"))?;
    if event.aggregate_type.contains('-') {
        metadata.insert(AGGREGATE_TYPE.to_owned(), Value::String(event.aggregate_type));
    }
    if !event.stream.is_empty() {
        metadata.insert(CHANNEL.to_owned(), Value::String(event.stream));
    }
    let metadata = if metadata.is_empty() {
        Metadata::empty()
    } else {
        Metadata::new(Bytes::from(Value::Object(metadata).to_string()))
            .map_err(|error| renamed(error, "event"))?
    };
    let json = serde_json::from_str::<&RawValue>(&event.event_data).is_ok();
    let event = NewEvent {
        id,
        event_type: EventType::new(&event.event_type).map_err(|error| renamed(error, "event.event_type"))?,
        schema_version: SchemaVersion::default(),
        content_type: if json { NewEvent::JSON } else { "text/plain; charset=utf-8" }.to_owned(),
        data: Bytes::from(event.event_data),
        metadata,
    };
    Ok(Append { stream_id, expected: Expected::Any, events: vec![event] })
}

/// The id that `text` names: itself where it is a UUID, else one made of it.
fn id_of(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap_or_else(|_| Uuid::new_v5(&NAMESPACE, text.as_bytes()))
}

/// An event as the article has it; also one that was not written by its API.
fn event_of(event: &RecordedEvent) -> seed::Event {
    let metadata: Map<String, Value> = if event.metadata.is_empty() {
        Map::new()
    } else {
        serde_json::from_slice(event.metadata.as_bytes()).unwrap_or_default()
    };
    let text = |key: &str| metadata.get(key).and_then(Value::as_str);
    let stream_id = event.stream_id.as_str();
    let written =
        text(AGGREGATE_TYPE).and_then(|kind| Some((kind, stream_id.strip_prefix(kind)?.strip_prefix('-')?)));
    let (aggregate_type, aggregate_id) =
        written.or_else(|| stream_id.split_once('-')).unwrap_or(("", stream_id));
    seed::Event {
        // Only of a text that names this event: whatever else metadata says, an event is found by its id.
        event_id: text(EVENT_ID)
            .filter(|text| id_of(text) == event.id)
            .map_or_else(|| event.id.to_string(), str::to_owned),
        event_type: event.event_type.to_string(),
        aggregate_id: aggregate_id.to_owned(),
        aggregate_type: aggregate_type.to_owned(),
        // Bytes that another API stored may be no text.
        event_data: String::from_utf8_lossy(&event.data).into_owned(),
        stream: text(CHANNEL).unwrap_or_default().to_owned(),
    }
}
