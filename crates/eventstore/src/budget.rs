//! A bound on what clients have sent and the log has not taken yet, whoever they are and however they send it.
//!
//! ```text
//! body ──frame──▶ Counted ──▶ HTTP, gRPC ──▶ Store ──▶ the log's queue
//!                   │                           │
//!                   └─▶ Budget ◀── given back ──┘      at the answer; in a call of many appends, at each one's
//! ```
//! What does not fit is refused, not made to wait: requests that wait with half of a body would keep what the others need.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use headwater_api::errors::to_status;
use headwater_core::Error;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Bytes of request bodies in all: the log's queue of 64 MiB full, and as much on its way to it.
const MOST_BYTES: usize = 128 << 20;

/// What a request takes besides its body, so that many small ones are bounded too.
const REQUEST_BYTES: u32 = 1 << 10;

/// When to come again: the queue, full, is written in less.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// The bytes that may be held for requests.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST_BYTES)))
    }
}

/// What one request holds of the budget. Clones are of one and the same; the last gives it back.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Held {
    /// What has arrived since this was last asked, to be given back by the caller.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn add(&self, more: OwnedSemaphorePermit) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
    }
}

/// Counts each request's body against the budget until the request is answered.
pub(crate) async fn count(State(budget): State<Budget>, mut request: Request, next: Next) -> Response {
    let held = Held(Arc::default());
    request.extensions_mut().insert(held.clone());
    let counted = request.map(|body| Body::new(Counted { body, budget, held: held.clone(), begun: false }));
    let response = next.run(counted).await;
    drop(held);
    response
}

/// Why a body broke off, if it was for the budget.
pub(crate) fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<OverBudget>())
        .map(|over| over.error.clone())
}

/// A body whose frames are counted as they arrive.
struct Counted {
    body: Body,
    budget: Budget,
    held: Held,
    begun: bool,
}

/// Tonic looks for a status among an error's sources, and answers it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct OverBudget {
    error: Error,
    #[source]
    status: Status,
}

impl OverBudget {
    fn new() -> Self {
        let error = Error::Unavailable {
            message: format!(
                "nothing was stored: the event store holds {} MiB of appends that wait to be written, and takes no more for now; send it again in a moment, with the same ids",
                MOST_BYTES >> 20
            ),
            retry_after: Some(COME_AGAIN),
        };
        Self { status: to_status(&error), error }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else { return Poll::Pending };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let mut bytes = frame.data_ref().map_or(0, |data| data.len() as u32);
        if !std::mem::replace(&mut self.begun, true) {
            bytes = bytes.saturating_add(REQUEST_BYTES);
        }
        match Arc::clone(&self.budget.0).try_acquire_many_owned(bytes) {
            Ok(permit) => self.held.add(permit),
            Err(_) => return Poll::Ready(Some(Err(axum::Error::new(OverBudget::new())))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
