use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use headwater_api::model::{
    EventBody, EventsBody, HeadBody, PartitionBody, PartitionHeadBody, PartitionsBody, RelayBody, StreamBody,
    StreamEventsBody, next_version,
};
use headwater_api::{Problem, convert};
use headwater_core::{Error, Positions, RecordedEvent, Result, Version};
use headwater_log::{Direction, ReadAll, StartFrom, read_all};
use http::StatusCode;
use jiff::Timestamp;

use super::query::Parameters;
use super::{json, stream_id};
use crate::grpc::stream_head;
use crate::paging::{StreamPages, renamed};
use crate::store::Store;

/// Events of a page when the request does not say.
const DEFAULT_LIMIT: usize = 100;

/// Events of a page at most.
const MOST_EVENTS: usize = 1_000;

/// Bytes of data and metadata of a page, roughly; a page that is full has fewer events than asked for.
const MOST_BYTES: usize = 4 << 20;

/// `GET /v1/streams/{stream_id}/events`
pub(super) async fn stream_events(
    State(store): State<Arc<Store>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let stream_id = stream_id(path)?;
    let parameters = Parameters::of(&uri, &["from_version", "limit", "direction", "upcast"])?;
    let direction = parameters
        .choose("direction", &[("forwards", Direction::Forwards), ("backwards", Direction::Backwards)])?;
    let from = parameters
        .parse("from_version", "a version such as 3")?
        .map(|version| convert::version_from(version, "from_version"))
        .transpose()?;
    let limit = parameters.limit(DEFAULT_LIMIT, MOST_EVENTS)?;
    let upcast = parameters.upcast()?;

    let mut pages = StreamPages::new(stream_id, direction, from, Some(limit as u64), Some(MOST_BYTES as u64));
    let (mut events, mut version) = (Vec::new(), Version::ZERO);
    while let Some((more, at)) = pages.next(&store).await? {
        version = at;
        events.extend(more);
    }
    let events = store.give(events, upcast)?;
    let last = events.last().map(|event| event.version);
    let body = StreamEventsBody {
        next: next_version(direction, from, last),
        version: version.get(),
        events: bodies(&events)?,
    };
    Ok(json(StatusCode::OK, &body)?)
}

/// `GET /v1/streams/{stream_id}`
pub(super) async fn stream(
    State(store): State<Arc<Store>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let stream_id = stream_id(path)?;
    Parameters::of(&uri, &[])?;
    let event = stream_head(&store, &stream_id).await?;
    let body = StreamBody {
        stream_id: event.stream_id.to_string(),
        partition: event.partition.get(),
        version: event.version.get(),
        position: event.position.get(),
        recorded_at: event.recorded_at,
    };
    Ok(json(StatusCode::OK, &body)?)
}

/// `GET /v1/events`
pub(super) async fn events(State(store): State<Arc<Store>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri, &["from", "limit", "type", "prefix", "upcast"])?;
    let filter = parameters.filter()?;
    let limit = parameters.limit(DEFAULT_LIMIT, MOST_EVENTS)?;
    let upcast = parameters.upcast()?;
    let after = parameters.start()?.resolve(&*store.reader).await.map_err(|error| renamed(error, "from"))?;
    let mut page = read_all(&*store.reader, ReadAll { after, filter, limit, max_bytes: MOST_BYTES }).await?;
    // People read a page from top to bottom; within a partition this is the order that it has already.
    page.events.sort_by_key(|event| event.recorded_at);
    let events = store.give(page.events, upcast)?;
    let body = EventsBody {
        events: bodies(&events)?,
        next: store.token(page.next).to_string(),
        caught_up: page.caught_up,
    };
    Ok(json(StatusCode::OK, &body)?)
}

/// `GET /v1/head`
pub(super) async fn head(State(store): State<Arc<Store>>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri, &["before"])?;
    let descriptor = store.reader.descriptor();
    let before: Option<Timestamp> = parameters.parse("before", "a time such as 2026-01-31T12:00:00Z")?;
    let partitions: Vec<PartitionHeadBody> = match before {
        None => {
            let heads = store.reader.heads().await?;
            descriptor
                .partitions
                .partitions()
                .zip(heads)
                .map(|(partition, head)| PartitionHeadBody {
                    partition: partition.get(),
                    position: head.position.get(),
                    recorded_at: head.last_recorded_at,
                })
                .collect()
        }
        Some(time) => {
            let positions = StartFrom::Time(time).resolve(&*store.reader).await?;
            descriptor
                .partitions
                .partitions()
                .map(|partition| PartitionHeadBody {
                    partition: partition.get(),
                    position: positions.get(partition).get(),
                    recorded_at: None,
                })
                .collect()
        }
    };
    let positions: Positions = descriptor
        .partitions
        .partitions()
        .zip(&partitions)
        .map(|(partition, head)| (partition, headwater_core::Position::new(head.position)))
        .collect();
    let body = HeadBody {
        log_id: descriptor.log_id.as_uuid(),
        token: store.token(positions).to_string(),
        partitions,
    };
    Ok(json(StatusCode::OK, &body)?)
}

/// How soon an event store that is asked how it is says that its database does not answer.
const HEADS_WITHIN: Duration = Duration::from_millis(1_500);

/// `GET /v1/partitions`
pub(super) async fn partitions(State(store): State<Arc<Store>>, uri: Uri) -> Result<Response, Problem> {
    Parameters::of(&uri, &[])?;
    let descriptor = store.reader.descriptor();
    // Whoever asks how it is waits for no database.
    let heads = tokio::time::timeout(HEADS_WITHIN, store.reader.heads()).await.map_err(|_| {
        Error::unavailable(format!(
            "the log's database has not answered within {HEADS_WITHIN:?}: see whether it can be reached"
        ))
    })??;
    let relayed = |partition| {
        let relayed = store.relays.get()?.relayed(partition)?;
        let fault = relayed.fault.map(|fault| fault.to_string());
        Some(RelayBody { position: relayed.position.get(), fault })
    };
    let partitions = descriptor.partitions.partitions().zip(heads).map(|(partition, head)| PartitionBody {
        partition: partition.get(),
        position: head.position.get(),
        epoch: head.epoch.0,
        relay: relayed(partition),
    });
    let body = PartitionsBody { log_id: descriptor.log_id.as_uuid(), partitions: partitions.collect() };
    Ok(json(StatusCode::OK, &body)?)
}

fn bodies(events: &[RecordedEvent]) -> Result<Vec<EventBody<'_>>> {
    events.iter().map(EventBody::new).collect()
}
