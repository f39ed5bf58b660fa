//! The typed client.
//!
//! ```text
//! Client ──gRPC──▶ eventstore     one connection, made when first needed and again when lost
//!   append      again with the same event ids, while the error may pass
//!   read        again from the last token
//!   subscribe   again from the last token, for as long as each try gets somewhere
//! RemoteLog = Client as a LogReader
//! ```

mod connect;
mod remote;
mod resume;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use headwater_core::{
    Append, Appended, Error, LogId, Partition, Position, RecordedEvent, Result, RetryPolicy, StreamId, Token,
    Version,
};
use headwater_log::{Direction, Filter, StartFrom};
use jiff::Timestamp;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub use remote::RemoteLog;

use crate::convert;
use crate::credentials::Credentials;
use crate::errors::{from_failure, from_status};
use crate::v1::{self, event_store_client::EventStoreClient};
use crate::{FORWARDED, MAX_MESSAGE_BYTES};

/// Connecting takes milliseconds on a healthy network; a host that is away does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that answers once. Longer than [`convert`]'s waits on the server, so that a wait ends by its own answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a silent connection is probed: a subscription must notice that its server is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What a stream may send ahead of its reader: two batches, so that the next is under way while one is worked on.
const STREAM_WINDOW: u32 = 4 << 20;

/// The generated client, which proves who calls.
type Grpc = EventStoreClient<InterceptedService<Channel, connect::Proof>>;

/// A client of one event store. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    grpc: Grpc,
    address: Arc<str>,
    retry: RetryPolicy,
    forwards: bool,
    traceparent: Option<MetadataValue<Ascii>>,
}

/// What to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// Where to begin.
    pub from: StartFrom,
    /// Stop after what this covers; the log's end by default.
    pub up_to: Option<Token>,
    /// Only these events.
    pub filter: Filter,
    /// Only this partition.
    pub partition: Option<Partition>,
    /// Events at most.
    pub limit: Option<u64>,
    /// Bytes of data and metadata at most, roughly; at least one event is read.
    pub max_bytes: Option<u64>,
    /// Give data in the newest declared shape.
    pub upcast: bool,
}

/// What to subscribe to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribe {
    /// Where to begin.
    pub from: StartFrom,
    /// Only these events.
    pub filter: Filter,
    /// Events a batch at most; 1 gives a token for each event.
    pub max_batch: Option<u32>,
    /// Give data in the newest declared shape.
    pub upcast: bool,
}

/// Events as they come from a read or a subscription: in position order within each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// May be empty: then only the token has moved.
    pub events: Vec<RecordedEvent>,
    /// The place after this batch.
    pub token: Token,
    /// Of a subscription: all that was there has come.
    pub caught_up: bool,
    /// Of a read: where the partitions that are read ended when it began.
    pub head: Option<Token>,
}

/// What to read of one stream id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadStream {
    /// Which.
    pub stream_id: StreamId,
    /// The first version to give. `None`: the first forwards, the last backwards.
    pub from: Option<Version>,
    /// Which way.
    pub direction: Direction,
    /// Events at most.
    pub limit: Option<u64>,
    /// Bytes of data and metadata at most, roughly; at least one event is read.
    pub max_bytes: Option<u64>,
    /// Give data in the newest declared shape.
    pub upcast: bool,
}

impl ReadStream {
    /// All events of `stream_id`, from the first on.
    pub const fn all(stream_id: StreamId) -> Self {
        Self {
            stream_id,
            from: None,
            direction: Direction::Forwards,
            limit: None,
            max_bytes: None,
            upcast: false,
        }
    }
}

/// Events of one stream id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamBatch {
    /// In the direction asked for, without holes.
    pub events: Vec<RecordedEvent>,
    /// The stream id's version; 0: it has no events.
    pub version: Version,
}

/// Where a stream id stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHead {
    /// Which.
    pub stream_id: StreamId,
    /// Its partition.
    pub partition: Partition,
    /// Of its last event.
    pub version: Version,
    /// Of its last event.
    pub position: Position,
    /// Of its last event.
    pub recorded_at: Timestamp,
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogHead {
    /// Which log.
    pub log_id: LogId,
    /// The place after all events.
    pub token: Token,
    /// By partition.
    pub partitions: Vec<PartitionHead>,
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionHead {
    /// Which.
    pub partition: Partition,
    /// Of its last event; 0: there is none.
    pub position: Position,
    /// Of its last event.
    pub recorded_at: Option<Timestamp>,
    /// The fencing number of its writer.
    pub epoch: u64,
}

/// Which heads to get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadAt {
    /// Those of now.
    #[default]
    Now,
    /// Where the log ended just before this time.
    Before(Timestamp),
    /// Those of now, but wait up to 20 seconds for this partition to have more than this position.
    WaitBeyond(Partition, Position),
}

impl Client {
    /// How calls that may pass are repeated.
    pub const RETRY: RetryPolicy = RetryPolicy {
        name: "event store call",
        attempts: 6,
        initial: Duration::from_millis(100),
        max: Duration::from_secs(2),
    };

    /// A client of the event store at `address`, for example `http://127.0.0.1:50051` or `127.0.0.1:50051`. Connects when first used.
    ///
    /// # Errors
    /// `Invalid` when `address` is none. Must be called within a Tokio runtime.
    pub fn new(address: &str) -> Result<Self> {
        Self::with_credentials(address, &Credentials::default())
    }

    /// The same, which shows `credentials`, and trusts whom they name when `address` begins with `https://`.
    ///
    /// # Errors
    /// As [`new`](Self::new), and as [`Credentials::check_for`].
    pub fn with_credentials(address: &str, credentials: &Credentials) -> Result<Self> {
        let client = Self::showing(address, credentials)?;
        credentials.check_for(&client.address)?;
        Ok(client)
    }

    /// A client of the event store at each of `addresses`, all of which are shown the same.
    ///
    /// # Errors
    /// As [`new`](Self::new), and as [`Credentials::check_for_all`].
    pub fn all_with_credentials(addresses: &[&str], credentials: &Credentials) -> Result<Vec<Self>> {
        let clients = addresses.iter().map(|address| Self::showing(address, credentials));
        let clients: Vec<Self> = clients.collect::<Result<_>>()?;
        let urls: Vec<&str> = clients.iter().map(Self::address).collect();
        credentials.check_for_all(&urls)?;
        Ok(clients)
    }

    /// A client that shows `credentials`, whether or not they may be.
    fn showing(address: &str, credentials: &Credentials) -> Result<Self> {
        let invalid = |why: &str| {
            Error::invalid(
                "server",
                format!(
                    "{address:?} is no address of an event store: {why}; give one such as http://127.0.0.1:50051"
                ),
            )
        };
        let url = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(invalid("only http and https are spoken"));
        }
        let mut place = connect::Place::of(&url).map_err(|why| invalid(&why))?;
        place.endpoint = place
            .endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(2 * STREAM_WINDOW);
        Ok(Self {
            grpc: EventStoreClient::with_interceptor(
                place.channel(credentials),
                connect::Proof(credentials.clone()),
            )
            .max_decoding_message_size(MAX_MESSAGE_BYTES),
            address: Arc::from(url),
            retry: Self::RETRY,
            forwards: false,
            traceparent: None,
        })
    }

    /// The same client with another policy of repeating calls.
    #[must_use]
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// The same client for an event store that forwards what it cannot write itself: see [`FORWARDED`].
    #[must_use]
    pub fn forwarding(self) -> Self {
        Self { forwards: true, ..self }
    }

    /// The same client, whose appends go on with the trace of this W3C trace context. One that cannot be a header is left out.
    #[must_use]
    pub fn in_trace(self, traceparent: Option<&str>) -> Self {
        Self { traceparent: traceparent.and_then(|it| it.parse().ok()), ..self }
    }

    /// The event store's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Appends, and repeats with the same event ids while the error may pass: whatever happens on the way, the events are there once.
    ///
    /// # Errors
    /// As [`LogWriter::append`](headwater_log::LogWriter::append), and `Unavailable` when the last try could not reach the server:
    /// then they may be stored; append the same events again to know.
    pub async fn append(&self, append: &Append) -> Result<Appended> {
        self.call(|mut grpc| {
            let mut request = timed(convert::append_to_wire(append));
            if self.forwards {
                request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("yes"));
            }
            self.trace(&mut request);
            async move { grpc.append(request).await.map(tonic::Response::into_inner) }
        })
        .await
        .and_then(|response| convert::appended_from_wire(&response))
    }

    /// Appends many requests over one call, pipelined. The outcomes come in the order of the requests, one each, but for an error of
    /// the call itself, which is the last item. Not repeated by itself: append what has no outcome again.
    pub fn append_stream(
        &self,
        appends: impl Stream<Item = Append> + Send + 'static,
    ) -> impl Stream<Item = Result<Appended>> + Send + 'static {
        let client = self.clone();
        futures_util::stream::once(async move {
            let requests = appends.map(|append| convert::append_to_wire(&append));
            let mut request = Request::new(requests);
            client.trace(&mut request);
            let outcomes = client.grpc.clone().append_stream(request).await;
            outcomes.map(tonic::Response::into_inner).map_err(|status| client.error(&status)).map(
                |outcomes| {
                    outcomes.map(move |outcome| {
                        match outcome.map_err(|status| client.error(&status))?.outcome {
                            Some(v1::append_stream_response::Outcome::Appended(appended)) => {
                                convert::appended_from_wire(&appended)
                            }
                            Some(v1::append_stream_response::Outcome::Failure(failure)) => {
                                Err(from_failure(&failure))
                            }
                            None => Err(Error::internal("the server sent an outcome that is none")),
                        }
                    })
                },
            )
        })
        .flat_map(|outcomes| match outcomes {
            Ok(outcomes) => outcomes.boxed(),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        })
    }

    /// Reads events of one stream id, all of them into memory: give a limit where they may be many or large.
    ///
    /// # Errors
    /// As [`LogReader`](headwater_log::LogReader).
    pub async fn read_stream(&self, request: &ReadStream) -> Result<StreamBatch> {
        let wire = v1::ReadStreamRequest {
            stream_id: request.stream_id.to_string(),
            from_version: request.from.map(|from| from.min(Version::MAX).get()),
            direction: convert::direction_to_wire(request.direction).into(),
            limit: request.limit,
            max_bytes: request.max_bytes,
            upcast: request.upcast,
        };
        let (events, version) = self
            .call(|mut grpc| {
                let wire = wire.clone();
                async move {
                    let mut batches = grpc.read_stream(wire).await?.into_inner();
                    let (mut events, mut version) = (Vec::new(), 0);
                    while let Some(batch) = batches.message().await? {
                        version = batch.version;
                        events.extend(batch.events);
                    }
                    Ok((events, version))
                }
            })
            .await?;
        let events = events.into_iter().map(convert::event_from_wire).collect::<Result<_>>()?;
        Ok(StreamBatch { events, version: Version::new(version) })
    }

    /// Reads events, batch after batch, up to where the log ends now.
    ///
    /// # Errors
    /// An item that is an error is the last one. Errors that may pass are repeated first, from the last token.
    pub fn read(&self, request: Read) -> impl Stream<Item = Result<Batch>> + Send + use<> {
        resume::batches(self.clone(), resume::Source::Read(request))
    }

    /// Reads events and goes on with those that are appended later. Never ends by itself; drop it to end it.
    ///
    /// # Errors
    /// An item that is an error is the last one. Errors that may pass are repeated first, from the last token; a try that
    /// brought something begins the count anew.
    pub fn subscribe(&self, request: Subscribe) -> impl Stream<Item = Result<Batch>> + Send + use<> {
        resume::batches(self.clone(), resume::Source::Subscribe(request))
    }

    /// Where a stream id stands.
    ///
    /// # Errors
    /// `NotFound` when it has no events.
    pub async fn get_stream(&self, stream_id: &StreamId) -> Result<StreamHead> {
        let head = self
            .call(|mut grpc| {
                let request = timed(v1::GetStreamRequest { stream_id: stream_id.to_string() });
                async move { grpc.get_stream(request).await.map(tonic::Response::into_inner) }
            })
            .await?;
        Ok(StreamHead {
            stream_id: stream_id.clone(),
            partition: convert::partition_from(head.partition).map_err(|error| convert::senseless(&error))?,
            version: Version::new(head.version),
            position: Position::new(head.position),
            recorded_at: convert::time_from_micros(head.recorded_at_micros)?,
        })
    }

    /// Where the log ends.
    ///
    /// # Errors
    /// As [`LogReader`](headwater_log::LogReader).
    pub async fn get_head(&self, at: HeadAt) -> Result<LogHead> {
        let request = match at {
            HeadAt::Now => v1::GetHeadRequest::default(),
            HeadAt::Before(time) => v1::GetHeadRequest {
                before: Some(convert::time_to_wire(time)),
                ..v1::GetHeadRequest::default()
            },
            HeadAt::WaitBeyond(partition, position) => v1::GetHeadRequest {
                wait_beyond: Some(v1::PartitionPosition {
                    partition: u32::from(partition.get()),
                    position: position.get(),
                }),
                ..v1::GetHeadRequest::default()
            },
        };
        let head = self
            .call(|mut grpc| {
                let request = timed(request);
                async move { grpc.get_head(request).await.map(tonic::Response::into_inner) }
            })
            .await?;
        let partitions = head
            .partitions
            .iter()
            .map(|head| {
                Ok(PartitionHead {
                    partition: convert::partition_from(head.partition)
                        .map_err(|error| convert::senseless(&error))?,
                    position: Position::new(head.position),
                    recorded_at: head.recorded_at_micros.map(convert::time_from_micros).transpose()?,
                    epoch: head.epoch,
                })
            })
            .collect::<Result<_>>()?;
        Ok(LogHead {
            log_id: convert::log_id_from_wire(&head.log_id)?,
            token: head.token.parse::<Token>().map_err(|error| convert::senseless(&error))?,
            partitions,
        })
    }

    /// Makes one call, again and again while its error may pass and the policy allows.
    async fn call<T, F>(&self, call: impl Fn(Grpc) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut attempt = 1;
        loop {
            let error = match call(self.grpc.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => self.error(&status),
            };
            self.pause(attempt, error).await?;
            attempt += 1;
        }
    }

    /// Waits before the next try, or gives the error back when there is none.
    async fn pause(&self, attempt: u32, error: Error) -> Result<()> {
        if !error.is_retryable() {
            return Err(error);
        }
        let Some(delay) = self.retry.delay(attempt) else { return Err(error) };
        let asked = match &error {
            Error::Unavailable { retry_after: Some(asked), .. } => (*asked).min(self.retry.max),
            _ => Duration::ZERO,
        };
        tracing::debug!(policy = self.retry.name, attempt, %error, "trying again");
        tokio::time::sleep(delay.max(asked)).await;
        Ok(())
    }

    fn trace<T>(&self, request: &mut Request<T>) {
        if let Some(traceparent) = &self.traceparent {
            request.metadata_mut().insert("traceparent", traceparent.clone());
        }
    }

    /// What a failed call says, with the address where the transport failed.
    fn error(&self, status: &Status) -> Error {
        match from_status(status) {
            Error::Unavailable { message, retry_after } if status.details().is_empty() => {
                Error::Unavailable {
                    message: format!(
                        "no answer from the event store at {}: {message}; is it running there?",
                        self.address
                    ),
                    retry_after,
                }
            }
            error => error,
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}
