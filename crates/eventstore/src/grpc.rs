//! `headwater.eventstore.v1.EventStore`.

mod appends;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, try_unfold};
use futures_util::{Stream, StreamExt, TryStreamExt};
use headwater_api::errors::to_status;
use headwater_api::{FORWARDED, convert, v1};
use headwater_core::{Error, Positions, RecordedEvent, Result, StreamId, Token};
use headwater_log::{Direction, EventBatch, Head, ReadStream, StartFrom, Subscription};
use jiff::Timestamp;
use tonic::{Request, Response, Status, Streaming};

use crate::budget::Held;
use crate::metrics::{Api, Subscribed};
use crate::paging::{Pages, Scan, StreamPages, renamed};
use crate::store::{LONGEST_WAIT, PAGE_BYTES, PAGE_EVENTS, Store};
use crate::traced::Caller;

/// The service over a store.
pub(crate) struct Grpc(pub(crate) Arc<Store>);

pub(crate) type Batches<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl v1::event_store_server::EventStore for Grpc {
    async fn append(
        &self,
        request: Request<v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let api = if request.metadata().contains_key(FORWARDED) { Api::replica } else { Api::grpc };
        let caller = Caller::of(request.extensions());
        let append = convert::append_from_wire(request.into_inner()).map_err(|error| to_status(&error))?;
        match self.0.append(api, &caller, append).await {
            Ok(appended) => Ok(Response::new(convert::appended_to_wire(&appended))),
            Err(error) => Err(to_status(&error)),
        }
    }

    type AppendStreamStream = Batches<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let caller = Caller::of(request.extensions());
        Ok(Response::new(appends::outcomes(Arc::clone(&self.0), request.into_inner(), held, caller).boxed()))
    }

    type ReadStreamStream = Batches<v1::ReadStreamResponse>;

    async fn read_stream(
        &self,
        request: Request<v1::ReadStreamRequest>,
    ) -> Result<Response<Self::ReadStreamStream>, Status> {
        let request = request.into_inner();
        let upcast = request.upcast;
        let pages = stream_pages(request).map_err(|error| to_status(&error))?;
        let store = Arc::clone(&self.0);
        let batches = try_unfold((store, pages), move |(store, mut pages)| async move {
            let Some((events, version)) = pages.next(&store).await? else { return Ok(None) };
            let events = to_wire(store.give(events, upcast)?);
            Ok(Some((v1::ReadStreamResponse { events, version: version.get() }, (store, pages))))
        });
        Ok(Response::new(or_status(batches)))
    }

    type ReadStream = Batches<v1::ReadResponse>;

    async fn read(&self, request: Request<v1::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let request = request.into_inner();
        let upcast = request.upcast;
        let store = Arc::clone(&self.0);
        let pages = match scan(&store, request) {
            Ok(scan) => Pages::open(&store, scan).await,
            Err(error) => Err(error),
        }
        .map_err(|error| to_status(&error))?;
        let head = store.token(pages.head.clone()).to_string();
        let batches = try_unfold((store, pages, head), move |(store, mut pages, head)| async move {
            let Some(page) = pages.next(&store).await? else { return Ok(None) };
            let response = v1::ReadResponse {
                events: to_wire(store.give(page.events, upcast)?),
                token: store.token(page.reached).to_string(),
                head: head.clone(),
            };
            Ok(Some((response, (store, pages, head))))
        });
        Ok(Response::new(or_status(batches)))
    }

    type SubscribeStream = Batches<v1::SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let request = request.into_inner();
        let live = async {
            let from = convert::start_from_wire(request.from)?;
            let filter = convert::filter_from_wire(request.filter)?;
            let upcast = request.upcast;
            let most = match request.max_batch as usize {
                0 => PAGE_EVENTS,
                most => most.min(PAGE_EVENTS),
            };
            Live::open(&self.0, &from, "from", filter, most, upcast).await
        }
        .await
        .map_err(|error| to_status(&error))?;
        let batches = try_unfold(live, move |mut live| async move {
            let batch = live.next().await?;
            let response = v1::SubscribeResponse {
                events: to_wire(batch.events),
                token: batch.token.to_string(),
                caught_up: batch.caught_up,
            };
            Ok(Some((response, live)))
        });
        Ok(Response::new(or_status(batches)))
    }

    async fn get_stream(
        &self,
        request: Request<v1::GetStreamRequest>,
    ) -> Result<Response<v1::GetStreamResponse>, Status> {
        let head = async {
            let stream_id = StreamId::new(request.into_inner().stream_id)?;
            stream_head(&self.0, &stream_id).await
        };
        let event = head.await.map_err(|error| to_status(&error))?;
        Ok(Response::new(v1::GetStreamResponse {
            stream_id: event.stream_id.to_string(),
            partition: u32::from(event.partition.get()),
            version: event.version.get(),
            position: event.position.get(),
            recorded_at_micros: event.recorded_at.as_microsecond(),
        }))
    }

    async fn get_head(
        &self,
        request: Request<v1::GetHeadRequest>,
    ) -> Result<Response<v1::GetHeadResponse>, Status> {
        get_head(&self.0, request.into_inner()).await.map(Response::new).map_err(|error| to_status(&error))
    }
}

/// The last event of a stream id.
pub(crate) async fn stream_head(store: &Store, stream_id: &StreamId) -> Result<RecordedEvent> {
    let page = store
        .reader
        .read_stream(ReadStream {
            stream_id: stream_id.clone(),
            from: None,
            direction: Direction::Backwards,
            limit: 1,
            max_bytes: PAGE_BYTES,
        })
        .await?;
    page.events.into_iter().next().ok_or_else(|| {
        Error::not_found(format!(
            "stream \"{stream_id}\" has no events; check its id, or append its first event"
        ))
    })
}

async fn get_head(store: &Store, request: v1::GetHeadRequest) -> Result<v1::GetHeadResponse> {
    let descriptor = store.reader.descriptor();
    let heads = match (request.before, request.wait_beyond) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "wait_beyond",
                "before is there as well; give one of them, or neither",
            ));
        }
        (Some(time), None) => {
            let time = convert::time_from_wire(time, "before")?;
            let positions = StartFrom::Time(time).resolve(&*store.reader).await?;
            return Ok(head_response(store, &positions, None));
        }
        (None, Some(wait)) => {
            let partition =
                descriptor.partitions.check(wait.partition).map_err(|error| error.within("wait_beyond"))?;
            let position = convert::position_from(wait.position, "wait_beyond.position")?;
            wait_at_most(LONGEST_WAIT, store, store.reader.wait_beyond(partition, position)).await?;
            store.reader.heads().await?
        }
        (None, None) => store.reader.heads().await?,
    };
    let positions =
        descriptor.partitions.partitions().zip(&heads).map(|(partition, head)| (partition, head.position));
    Ok(head_response(store, &positions.collect(), Some(&heads)))
}

fn head_response(store: &Store, positions: &Positions, heads: Option<&[Head]>) -> v1::GetHeadResponse {
    let descriptor = store.reader.descriptor();
    let partitions = descriptor.partitions.partitions().map(|partition| {
        let head = heads.and_then(|heads| heads.get(partition.index()));
        v1::PartitionHead {
            partition: u32::from(partition.get()),
            position: positions.get(partition).get(),
            recorded_at_micros: head.and_then(|head| head.last_recorded_at).map(Timestamp::as_microsecond),
            epoch: head.map_or(0, |head| head.epoch.0),
        }
    });
    v1::GetHeadResponse {
        log_id: descriptor.log_id.to_string(),
        token: store.token(positions.clone()).to_string(),
        partitions: partitions.collect(),
    }
}

/// Waits for `work`, but not beyond `time` nor the server's life. Its result does not matter unless it is an error.
async fn wait_at_most<T>(time: Duration, store: &Store, work: impl Future<Output = Result<T>>) -> Result<()> {
    tokio::select! {
        result = work => result.map(drop),
        () = tokio::time::sleep(time) => Ok(()),
        () = store.shutdown.cancelled() => Err(Error::Cancelled),
    }
}

/// A subscription that ends with the server, and is counted.
pub(crate) struct Live {
    store: Arc<Store>,
    subscription: Subscription,
    most: usize,
    upcast: bool,
    /// The place after all that has been given.
    token: Token,
    /// Why it ends, when what came before has been given.
    failed: Option<Error>,
    _counted: Subscribed,
}

impl Live {
    /// Begins at `from`, which the request calls `field`.
    pub(crate) async fn open(
        store: &Arc<Store>,
        from: &StartFrom,
        field: &str,
        filter: headwater_log::Filter,
        most: usize,
        upcast: bool,
    ) -> Result<Self> {
        let subscription = Subscription::open(Arc::clone(&store.reader), from, filter)
            .await
            .map_err(|error| renamed(error, field))?;
        Ok(Self {
            store: Arc::clone(store),
            token: subscription.token(),
            subscription,
            most,
            upcast,
            failed: None,
            _counted: store.counters.subscribed(),
        })
    }

    /// The place after all that has been given.
    pub(crate) const fn token(&self) -> &Token {
        &self.token
    }

    /// The next events as the reader gets them. One that cannot be brought up to date is the end, but not for those before it.
    pub(crate) async fn next(&mut self) -> Result<EventBatch> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut batch = tokio::select! {
            batch = self.subscription.next_batch(self.most, PAGE_BYTES) => batch?,
            () = self.store.shutdown.cancelled() => return Err(Error::Cancelled),
        };
        (batch.events, self.failed) = self.store.give_until(batch.events, self.upcast);
        if self.failed.is_some() {
            batch.token = self.token.clone();
            batch.caught_up = false;
            for event in &batch.events {
                batch.token.positions.set(event.partition, event.position);
            }
        }
        if batch.events.is_empty()
            && let Some(error) = self.failed.take()
        {
            return Err(error);
        }
        self.token.clone_from(&batch.token);
        Ok(batch)
    }
}

fn scan(store: &Store, request: v1::ReadRequest) -> Result<Scan> {
    let partitions = store.reader.descriptor().partitions;
    Ok(Scan {
        from: convert::start_from_wire(request.from)?,
        up_to: if request.up_to.is_empty() {
            None
        } else {
            Some(request.up_to.parse().map_err(|error| renamed(error, "up_to"))?)
        },
        filter: convert::filter_from_wire(request.filter)?,
        partition: request.partition.map(|partition| partitions.check(partition)).transpose()?,
        limit: request.limit,
        max_bytes: request.max_bytes,
    })
}

fn stream_pages(request: v1::ReadStreamRequest) -> Result<StreamPages> {
    let from = request.from_version.map(|from| convert::version_from(from, "from_version")).transpose()?;
    Ok(StreamPages::new(
        StreamId::new(request.stream_id)?,
        convert::direction_from_wire(request.direction)?,
        from,
        request.limit,
        request.max_bytes,
    ))
}

/// The stream of an answer, whose error is its end.
pub(crate) fn or_status<T: Send + 'static>(
    items: impl Stream<Item = Result<T>> + Send + 'static,
) -> Batches<T> {
    items.map_err(|error| to_status(&error)).boxed()
}

fn to_wire(events: Vec<RecordedEvent>) -> Vec<v1::RecordedEvent> {
    events.into_iter().map(convert::event_to_wire).collect()
}
