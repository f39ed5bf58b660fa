use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, Stream, StreamExt};
use headwater_api::errors::{to_failure, to_status};
use headwater_api::v1::append_stream_response::Outcome;
use headwater_api::{convert, v1};
use headwater_core::{Append, Appended, Error, Result, StreamId};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

use crate::metrics::Api;
use crate::store::Store;

/// Requests of one call that are under way at once: enough for every batch of the sequencer to find some.
const MOST_IN_FLIGHT: usize = 64;

/// Bytes of one call that are under way at once; a request over it goes alone.
const MOST_BYTES_IN_FLIGHT: usize = 16 << 20;

/// The outcomes of the requests, in their order.
pub(super) fn outcomes(
    store: Arc<Store>,
    requests: Streaming<v1::AppendRequest>,
) -> impl Stream<Item = Result<v1::AppendStreamResponse, Status>> + Send {
    let call = Call {
        store,
        requests,
        open: true,
        failed: None,
        in_flight: FuturesOrdered::new(),
        bytes: 0,
        last: HashMap::new(),
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
    /// The client may send more.
    open: bool,
    /// Why the client's stream broke: told after the outcomes of what came before.
    failed: Option<Status>,
    in_flight: FuturesOrdered<BoxFuture<'static, Done>>,
    bytes: usize,
    /// The last request under way for each stream id: the next one waits for it, so that they are stored in the order sent.
    last: HashMap<StreamId, CancellationToken>,
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
                    Err(status) => {
                        self.open = false;
                        self.failed = Some(status);
                    }
                },
                () = self.store.shutdown.cancelled(), if self.open => {
                    self.open = false;
                    self.failed = Some(to_status(&Error::Cancelled));
                }
                else => return self.failed.take().map(Err),
            }
        }
    }

    fn begin(&mut self, request: v1::AppendRequest) {
        let append = match convert::append_from_wire(request) {
            Ok(append) => append,
            Err(error) => {
                let done = Done { stream_id: None, bytes: 0, result: Err(error) };
                self.in_flight.push_back(std::future::ready(done).boxed());
                return;
            }
        };
        let bytes = append.size();
        self.bytes += bytes;
        let done = CancellationToken::new();
        let before = self.last.insert(append.stream_id.clone(), done.clone());
        let work = append_after(Arc::clone(&self.store), append, bytes, before, done.drop_guard());
        self.in_flight.push_back(work.boxed());
    }

    fn outcome(&mut self, done: Done) -> v1::AppendStreamResponse {
        self.bytes -= done.bytes;
        if let Some(stream_id) = done.stream_id
            && self.last.get(&stream_id).is_some_and(CancellationToken::is_cancelled)
        {
            self.last.remove(&stream_id);
        }
        let outcome = match done.result {
            Ok(appended) => Outcome::Appended(convert::appended_to_wire(&appended)),
            Err(error) => Outcome::Failure(to_failure(&error)),
        };
        v1::AppendStreamResponse { outcome: Some(outcome) }
    }
}

/// Appends once `before` is done; `done` says to whoever comes after that this is.
async fn append_after(
    store: Arc<Store>,
    append: Append,
    bytes: usize,
    before: Option<CancellationToken>,
    done: DropGuard,
) -> Done {
    if let Some(before) = before {
        before.cancelled().await;
    }
    let stream_id = Some(append.stream_id.clone());
    let result = store.append(Api::grpc, append).await;
    drop(done);
    Done { stream_id, bytes, result }
}
