//! The saga's log: what it is called there, and how it is written and read.
//!
//! ```text
//! instance:ID      the history of one instance
//! wait:DIGEST      who waits for an event with one correlation value
//! definitions      every definition that an instance may follow
//! intake           how far the event stream has been taken in
//! not-started      events that should have started an instance and could not
//! ```

use std::sync::Arc;

use headwater_core::{
    Append, Appended, Error, EventType, Expected, LogId, NewEvent, Positions, RecordedEvent, Result,
    StreamId, Version,
};
use headwater_log::{Backoff, Direction, LogReader, LogWriter, ReadStream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::definition::Definition;
use crate::history::{Cause, Entry};

const INSTANCE: &str = "instance:";
const DEFINITIONS: &str = "definitions";
const INTAKE: &str = "intake";
const NOT_STARTED: &str = "not-started";

/// The longest name of an instance: a stream id has 255 bytes.
const MAX_INSTANCE_BYTES: usize = 240;

/// Of ids that are derived from others. Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_2d9e_3b41_4e0c_9f1d_5a7e_8c42_1b60);

/// Bytes of entries that are recorded at once: an append takes 4 MiB.
const RECORD_BYTES: usize = 3 << 20;

/// Events a page.
const PAGE: usize = 1_000;
/// Bytes a page.
const PAGE_BYTES: usize = 4 << 20;

/// Who waits for an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) instance: String,
    pub(crate) step: String,
    pub(crate) events: Vec<String>,
}

/// How far the event stream has been taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Moved {
    positions: Vec<(u16, u64)>,
    /// The log that the positions are of. `None` in what is older than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_id: Option<LogId>,
}

/// An event that should have started an instance and could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotStarted {
    /// The event.
    pub event: Cause,
    /// Why.
    pub reason: String,
}

/// The saga's log.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) reader: Arc<dyn LogReader>,
    writer: Arc<dyn LogWriter>,
    stop: CancellationToken,
}

impl Journal {
    pub(crate) fn new(
        reader: Arc<dyn LogReader>,
        writer: Arc<dyn LogWriter>,
        stop: CancellationToken,
    ) -> Self {
        Self { reader, writer, stop }
    }

    /// Appends, again while that may help. What was appended before under the same ids counts.
    ///
    /// # Errors
    /// `WrongVersion`, or what does not pass; `Cancelled` at a shutdown.
    async fn append(
        &self,
        stream_id: StreamId,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended> {
        let append = Append { stream_id, expected, events };
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        loop {
            match self.writer.append(append.clone()).await {
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) if error.is_retryable() => {
                    tracing::debug!(%error, stream_id = append.stream_id.as_str(), "appending to the saga's log again");
                    tokio::select! {
                        () = tokio::time::sleep(backoff.pause()) => {}
                        () = self.stop.cancelled() => return Err(Error::Cancelled),
                    }
                }
                result => return result,
            }
        }
    }

    async fn read_all(&self, stream_id: &StreamId, after: Version) -> Result<Vec<RecordedEvent>> {
        let mut events: Vec<RecordedEvent> = Vec::new();
        loop {
            let from = events.last().map_or(after, |last| last.version).next();
            let page = self
                .reader
                .read_stream(ReadStream {
                    stream_id: stream_id.clone(),
                    from: Some(from),
                    direction: Direction::Forwards,
                    limit: PAGE,
                    max_bytes: PAGE_BYTES,
                })
                .await?;
            let done = page.events.last().is_none_or(|last| last.version >= page.version);
            events.extend(page.events);
            if done {
                return Ok(events);
            }
        }
    }

    /// Starts an instance; false when it was started before by another event.
    ///
    /// # Errors
    /// `Invalid` when the name or what is kept of the event does not fit the log; else as [`append`](Self::append).
    pub(crate) async fn start(&self, instance: &str, event: Uuid, entry: &Entry) -> Result<bool> {
        let new = NewEvent { id: derived(&[event.as_bytes(), b"start"]), ..entry.encode()? };
        match self.append(instance_stream(instance)?, Expected::NoStream, vec![new]).await {
            Ok(_) => Ok(true),
            // The id is the starting event's: whatever it was that started before, its content may have been another definition's.
            Err(Error::WrongVersion { .. } | Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds to an instance's history what its coordinator decided at `version`: in one append, or in several where it is more than one
    /// takes. Each entry can follow those before it, so that a part is a history as well.
    pub(crate) async fn record(&self, instance: &str, mut version: Version, entries: &[Entry]) -> Result<()> {
        let stream_id = instance_stream(instance)?;
        let mut events: Vec<NewEvent> = Vec::with_capacity(entries.len());
        let mut bytes = 0;
        for entry in entries {
            let event = entry.encode()?;
            if bytes + event.data.len() > RECORD_BYTES && !events.is_empty() {
                let count = events.len() as u64;
                self.append(stream_id.clone(), Expected::Version(version), std::mem::take(&mut events))
                    .await?;
                version = Version::new(version.get() + count);
                bytes = 0;
            }
            bytes += event.data.len();
            events.push(event);
        }
        self.append(stream_id, Expected::Version(version), events).await.map(drop)
    }

    /// Adds to an instance's history that a reply came.
    pub(crate) async fn reply(&self, instance: &str, step: &str, event: Uuid, entry: &Entry) -> Result<()> {
        let id = derived(&[event.as_bytes(), b"reply", instance.as_bytes(), b"/", step.as_bytes()]);
        let new = NewEvent { id, ..entry.encode()? };
        match self.append(instance_stream(instance)?, Expected::Exists, vec![new]).await {
            // Taken in before, when the event's data was brought up to date by an older declaration.
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The history of an instance after `version`.
    pub(crate) async fn history(&self, instance: &str, after: Version) -> Result<Vec<RecordedEvent>> {
        self.read_all(&instance_stream(instance)?, after).await
    }

    /// Keeps who waits for an event, by the key of the step. Repeats are ignored.
    pub(crate) async fn wait(
        &self,
        key: &str,
        expression: &str,
        value: &str,
        waiting: &Waiting,
    ) -> Result<()> {
        let new = NewEvent { id: derived(&[key.as_bytes(), b"wait"]), ..json("Waiting", waiting)? };
        self.append(wait_stream(expression, value)?, Expected::Any, vec![new]).await.map(drop)
    }

    /// Who waits for an event whose `expression` has this value.
    pub(crate) async fn waiting(&self, expression: &str, value: &str) -> Result<Vec<Waiting>> {
        let events = self.read_all(&wait_stream(expression, value)?, Version::ZERO).await?;
        events.iter().map(read).collect()
    }

    /// Keeps a definition, under its digest.
    pub(crate) async fn define(&self, digest: &str, definition: &Definition) -> Result<()> {
        let event = NewEvent {
            id: derived(&[digest.as_bytes(), b"definition"]),
            ..NewEvent::json(EventType::new("Defined")?, definition.encode()?)
        };
        self.append(StreamId::new(DEFINITIONS)?, Expected::Any, vec![event]).await.map(drop)
    }

    /// All definitions.
    pub(crate) async fn definitions(&self) -> Result<Vec<Definition>> {
        let events = self.read_all(&StreamId::new(DEFINITIONS)?, Version::ZERO).await?;
        events.iter().map(|event| Definition::decode(&event.data)).collect()
    }

    /// Keeps how far the event stream, which is the log `log_id`, has been taken in, after what was kept as `version`; gives its own version.
    ///
    /// # Errors
    /// `FailedPrecondition` when another coordinator has kept something since: then this one does not know what was taken in, and moves nothing.
    pub(crate) async fn moved(
        &self,
        log_id: LogId,
        version: Version,
        positions: &Positions,
    ) -> Result<Version> {
        let positions =
            positions.iter().map(|(partition, position)| (partition.get(), position.get())).collect();
        let event = json("Moved", &Moved { positions, log_id: Some(log_id) })?;
        match self.append(StreamId::new(INTAKE)?, Expected::Version(version), vec![event]).await {
            Ok(appended) => Ok(appended.version),
            Err(Error::WrongVersion { .. }) => Err(Error::failed_precondition(
                "another coordinator has taken events in for this saga since, and this one has been superseded: it goes no further",
            )),
            Err(error) => Err(error),
        }
    }

    /// How far the event stream, which is the log `log_id`, has been taken in, and the version under which that is kept. `None`: it never was.
    ///
    /// # Errors
    /// `FailedPrecondition` when what is kept is of another log: its positions mean nothing here.
    pub(crate) async fn intake(&self, log_id: LogId) -> Result<Option<(Positions, Version)>> {
        let page = self
            .reader
            .read_stream(ReadStream {
                stream_id: StreamId::new(INTAKE)?,
                from: None,
                direction: Direction::Backwards,
                limit: 1,
                max_bytes: PAGE_BYTES,
            })
            .await?;
        let Some(event) = page.events.first() else { return Ok(None) };
        let moved: Moved = read(event)?;
        if let Some(known) = moved.log_id.filter(|known| *known != log_id) {
            return Err(Error::failed_precondition(format!(
                "the saga has followed the event log {known} so far, and this one is {log_id}: instances would be started twice or not at all; \
                 give it the event store that it followed, or a log of its own for this one"
            )));
        }
        let positions = moved.positions.into_iter().map(|(partition, position)| {
            (headwater_core::Partition::new(partition), headwater_core::Position::new(position))
        });
        Ok(Some((positions.collect(), event.version)))
    }

    /// Keeps an event that could start nothing.
    pub(crate) async fn not_started(&self, event: Cause, reason: String) -> Result<()> {
        let id = derived(&[event.id.as_bytes(), b"not-started"]);
        let new = NewEvent { id, ..json("NotStarted", &NotStarted { event, reason })? };
        match self.append(StreamId::new(NOT_STARTED)?, Expected::Any, vec![new]).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A page of the events that could start nothing, and the number to read on from.
    pub(crate) async fn read_not_started(
        &self,
        after: Version,
        limit: usize,
    ) -> Result<(Vec<NotStarted>, Option<Version>)> {
        let request = ReadStream {
            stream_id: StreamId::new(NOT_STARTED)?,
            from: Some(after.next()),
            direction: Direction::Forwards,
            limit,
            max_bytes: PAGE_BYTES,
        };
        let page = self.reader.read_stream(request).await?;
        let last = page.events.last().map(|last| last.version).filter(|last| *last < page.version);
        Ok((page.events.iter().map(read).collect::<Result<_>>()?, last))
    }
}

/// The name of the instance whose history this stream is.
pub(crate) fn instance_of(stream_id: &str) -> Option<&str> {
    stream_id.strip_prefix(INSTANCE)
}

/// Whether this is the stream of definitions.
pub(crate) fn is_definitions(stream_id: &str) -> bool {
    stream_id == DEFINITIONS
}

/// The prefix of the streams that are histories.
pub(crate) const fn instances() -> &'static str {
    INSTANCE
}

/// Whether an instance can be called so, or why not.
pub(crate) fn check_name(instance: &str) -> Result<(), String> {
    if instance.is_empty() || instance.len() > MAX_INSTANCE_BYTES {
        return Err(format!(
            "an instance's name has 1 to {MAX_INSTANCE_BYTES} bytes, and this one has {}: correct the saga's instance",
            instance.len()
        ));
    }
    // It is asked for by its name in URLs, as streams are.
    match StreamId::new(instance).and_then(|_| instance_stream(instance)) {
        Ok(_) => Ok(()),
        Err(Error::Invalid { message, .. }) => {
            Err(format!("{instance:?} cannot name an instance: {message}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn instance_stream(instance: &str) -> Result<StreamId> {
    StreamId::new(format!("{INSTANCE}{instance}")).map_err(|error| match error {
        Error::Invalid { message, .. } => Error::invalid("instance", message),
        other => other,
    })
}

fn wait_stream(expression: &str, value: &str) -> Result<StreamId> {
    let mut hasher = Sha256::new();
    hasher.update((expression.len() as u64).to_be_bytes());
    hasher.update(expression);
    hasher.update(value);
    let digest = hasher.finalize();
    let short: [u8; 16] = std::array::from_fn(|index| digest[index]);
    StreamId::new(format!("wait:{}", Uuid::from_bytes(short).simple()))
}

fn derived(parts: &[&[u8]]) -> Uuid {
    Uuid::new_v5(&NAMESPACE, &parts.concat())
}

fn json(event_type: &str, data: &impl Serialize) -> Result<NewEvent> {
    let data = serde_json::to_vec(data)
        .map_err(|error| Error::internal(format!("writing a saga's log: {error}")))?;
    Ok(NewEvent::json(EventType::new(event_type)?, data))
}

fn read<T: serde::de::DeserializeOwned>(event: &RecordedEvent) -> Result<T> {
    serde_json::from_slice(&event.data).map_err(|error| {
        Error::corrupt(format!(
            "reading version {} of \"{}\" in a saga's log: {error}; it may be a newer Headwater's",
            event.version, event.stream_id
        ))
    })
}
