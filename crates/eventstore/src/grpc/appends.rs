//! Many appends over one call.
//!
//! ```text
//! client ──▶ requests ──▶ Call ──▶ a task for each request ──▶ Store        64 requests and 16 MiB at most
//!    ▲                      │        after the one before it of its stream id
//!    └───── outcomes ◀──────┘        in the order of the requests
//! ```
//! The tasks go on whether or not the client reads outcomes: what the log has begun for one must not hold up the others. A client
//! that does not read stops its own requests alone.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, Stream, StreamExt};
use headwater_api::errors::{to_failure, to_status};
use headwater_api::v1::append_stream_response::Outcome;
use headwater_api::{convert, v1};
use headwater_core::{Append, Appended, Error, Result, StreamId};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use crate::budget::Held;
use crate::metrics::Api;
use crate::store::Store;
use crate::traced::Caller;

/// Requests of one call that are under way at once: enough for every batch of the sequencer to find some.
const MOST_IN_FLIGHT: usize = 64;

/// Bytes of one call that are under way at once; a request over it goes alone.
const MOST_BYTES_IN_FLIGHT: usize = 16 << 20;

/// Stream ids that one call holds back after a failure. When so many fail, nothing gets through, and the call ends.
const MOST_HELD_BACK: usize = 1_024;

/// The outcomes of the requests, in their order.
pub(super) fn outcomes(
    store: Arc<Store>,
    requests: Streaming<v1::AppendRequest>,
    held: Option<Held>,
    caller: Caller,
) -> impl Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send {
    let call = Call {
        store,
        requests,
        held,
        caller,
        span: Span::current(),
        open: true,
        failed: None,
        in_flight: FuturesOrdered::new(),
        bytes: 0,
        last: HashMap::new(),
        held_back: HashSet::new(),
    };
    futures_util::stream::unfold(call, |mut call| async move {
        let outcome = call.next().await?;
        Some((outcome, call))
    })
}

/// One call of `AppendStream`.
struct Call {
    store: Arc<Store>,
    requests: Streaming<v1::AppendRequest>,
    /// What has arrived of the next request.
    held: Option<Held>,
    /// The trace that the client goes on with, and the span of the call.
    caller: Caller,
    span: Span,
    /// The client may send more.
    open: bool,
    /// Why the call ends early: told after the outcomes of what came before.
    failed: Option<Status>,
    in_flight: FuturesOrdered<BoxFuture<'static, Done>>,
    bytes: usize,
    /// The last request under way for each stream id: the next one waits for it, so that they are stored in the order sent.
    last: HashMap<StreamId, Turn>,
    /// Stream ids of which a request failed that may be sent again: none that was sent after it may be stored before it.
    held_back: HashSet<StreamId>,
}

/// Says when a request is done, and whether the next one of its stream id may be tried.
type Turn = oneshot::Receiver<Next>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Goes,
    IsHeldBack,
}

struct Done {
    stream_id: Option<StreamId>,
    bytes: usize,
    result: Result<Appended>,
}

impl Call {
    async fn next(&mut self) -> Option<Result<v1::AppendStreamResponse, Status>> {
        loop {
            let room = self.in_flight.len() < MOST_IN_FLIGHT && self.bytes < MOST_BYTES_IN_FLIGHT;
            tokio::select! {
                biased;
                Some(done) = self.in_flight.next() => return Some(Ok(self.outcome(done))),
                request = self.requests.message(), if self.open && room => match request {
                    Ok(Some(request)) => self.begin(request),
                    Ok(None) => self.open = false,
                    Err(status) => self.end(status),
                },
                () = self.store.shutdown.cancelled(), if self.open => self.end(to_status(&Error::Cancelled)),
                else => return self.failed.take().map(Err),
            }
        }
    }

    fn end(&mut self, status: Status) {
        self.open = false;
        self.failed = Some(status);
    }

    fn begin(&mut self, request: v1::AppendRequest) {
        // Given back when this request is done, whether or not the client reads what became of it.
        let held = self.held.as_ref().and_then(Held::take);
        let append = match convert::append_from_wire(request) {
            Ok(append) if self.held_back.contains(&append.stream_id) => {
                return self.answer(Some(append.stream_id.clone()), Err(held_back(&append.stream_id)));
            }
            Ok(append) => append,
            Err(error) => return self.answer(None, Err(error)),
        };
        let (stream_id, bytes) = (append.stream_id.clone(), append.size());
        self.bytes += bytes;
        let (turn, next) = oneshot::channel();
        let before = self.last.insert(stream_id.clone(), next);
        let work = append_after(Arc::clone(&self.store), self.caller.clone(), append, before, turn);
        let work = async move {
            let result = work.await;
            drop(held);
            result
        };
        let work = self.store.tasks.spawn(work.instrument(self.span.clone()));
        let done = async move {
            let result = work.await.unwrap_or_else(|error| {
                Err(Error::internal(format!(
                    "the append to \"{stream_id}\" broke off ({error}); it may have been stored: send it again with the same ids"
                )))
            });
            Done { stream_id: Some(stream_id), bytes, result }
        };
        self.in_flight.push_back(done.boxed());
    }

    /// An outcome without work, in its turn.
    fn answer(&mut self, stream_id: Option<StreamId>, result: Result<Appended>) {
        self.in_flight.push_back(std::future::ready(Done { stream_id, bytes: 0, result }).boxed());
    }

    fn outcome(&mut self, done: Done) -> v1::AppendStreamResponse {
        self.bytes -= done.bytes;
        if let Some(stream_id) = done.stream_id {
            // The last one may be done before its outcome is given: what it says must not be lost with its turn.
            let said = self.last.get_mut(&stream_id).map(oneshot::Receiver::try_recv);
            if said.as_ref().is_some_and(|said| *said != Err(TryRecvError::Empty)) {
                self.last.remove(&stream_id);
            }
            let last_failed = matches!(said, Some(Ok(Next::IsHeldBack) | Err(TryRecvError::Closed)));
            if last_failed || done.result.as_ref().is_err_and(Error::is_retryable) {
                self.held_back.insert(stream_id);
            }
        }
        if self.held_back.len() > MOST_HELD_BACK && self.open {
            self.end(to_status(&Error::unavailable(format!(
                "appends to more than {MOST_HELD_BACK} stream ids of this call failed for now; send what has failed and what has no outcome again, in order"
            ))));
        }
        let outcome = match done.result {
            Ok(appended) => Outcome::Appended(convert::appended_to_wire(&appended)),
            Err(error) => Outcome::Failure(to_failure(&error)),
        };
        v1::AppendStreamResponse { outcome: Some(outcome) }
    }
}

/// Appends when its turn comes; then says by `turn` what that means for the one after it.
async fn append_after(
    store: Arc<Store>,
    caller: Caller,
    append: Append,
    before: Option<Turn>,
    turn: oneshot::Sender<Next>,
) -> Result<Appended> {
    // One that broke off may be sent again, like one that failed for now.
    let goes = match before {
        Some(before) => before.await == Ok(Next::Goes),
        None => true,
    };
    let result =
        if goes { store.append(Api::grpc, &caller, append).await } else { Err(held_back(&append.stream_id)) };
    let next = if result.as_ref().is_err_and(Error::is_retryable) { Next::IsHeldBack } else { Next::Goes };
    // Nobody listens where this was the last.
    let _ = turn.send(next);
    result
}

fn held_back(stream_id: &StreamId) -> Error {
    Error::unavailable(format!(
        "not tried: an append to \"{stream_id}\" before it in this call failed for now, and what comes after must not be stored first; send both again, in order, over a new call"
    ))
}
