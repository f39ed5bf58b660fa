//! Appends to a log that several event stores write.
//!
//! ```text
//! append ──▶ who holds its partition?  this process ──▶ Sequencer
//!                 ▲                    another      ──▶ that one, over gRPC, under the same event ids
//!                 └── again, when it has moved meanwhile
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_api::{Client, Credentials};
use headwater_core::{Append, Appended, Error, Partition, Result, RetryPolicy};
use headwater_log::{Backoff, Holder, LogWriter, Replica, Sequencer};
use headwater_runtime::Metrics;
use headwater_runtime::trace::Traceparent;
use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

/// How long an append waits for somebody to write its partition: longer than a lease that has to run out, and shorter than clients wait.
const PATIENCE: Duration = Duration::from_secs(15);

/// Clients of other event stores that are kept.
const MAX_CLIENTS: usize = 256;

/// A forwarded append is tried once: who holds the partition is looked at between tries.
const ONCE: RetryPolicy =
    RetryPolicy { name: "forward", attempts: 1, initial: Duration::ZERO, max: Duration::ZERO };

/// Writes what is held here, and has others write what they hold.
pub struct ReplicatedWriter {
    replica: Arc<Replica>,
    sequencer: Sequencer,
    clients: Mutex<HashMap<String, Client>>,
    /// Addresses of others that cannot be spoken to, of which this has been said.
    unfit: Mutex<HashSet<String>>,
    /// What this event store shows to the others: it asks in its own name, for a caller whom it has let through.
    credentials: Credentials,
    forwarded: Counter,
}

impl ReplicatedWriter {
    /// A writer for this process, whose `sequencer` writes [`Replica::store`], and who shows `credentials` to those that it forwards to.
    pub fn new(
        replica: Arc<Replica>,
        sequencer: Sequencer,
        credentials: Credentials,
        metrics: &Metrics,
    ) -> Self {
        let forwarded = metrics.register(
            "appends_forwarded",
            "Appends that another event store was asked to write, repetitions included",
            Counter::default(),
        );
        Self {
            replica,
            sequencer,
            clients: Mutex::default(),
            unfit: Mutex::default(),
            credentials,
            forwarded,
        }
    }

    /// For appends that another event store has forwarded: here or not at all.
    pub(crate) fn local(&self) -> Arc<dyn LogWriter> {
        Arc::new(self.sequencer.clone())
    }

    fn client(&self, address: &str) -> Result<Client> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(address) {
            return Ok(client.clone());
        }
        let wrong = |error: &Error| {
            format!(
                "the event store that writes this partition says that it is reached at {address}, which does not do ({error}): correct its --advertise"
            )
        };
        Client::new(address).map_err(|error| Error::failed_precondition(wrong(&error)))?;
        // While event stores are given TLS one by one, the one before is soon replaced.
        let client = Client::with_credentials(address, &self.credentials).map_err(|error| {
            let why = wrong(&error);
            let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
            if unfit.len() >= MAX_CLIENTS {
                unfit.clear();
            }
            if unfit.insert(address.to_owned()) {
                tracing::warn!(address, "{why}");
            }
            Error::unavailable(why)
        })?;
        let client = client.with_retry(ONCE).forwarding();
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(address.to_owned(), client.clone());
        Ok(client)
    }

    async fn forward(
        &self,
        address: &str,
        request: &Append,
        partition: Partition,
        holder: &Holder,
    ) -> Result<Appended> {
        self.forwarded.inc();
        let client = self.client(address)?.in_trace(Traceparent::current().as_ref().map(Traceparent::as_str));
        tokio::select! {
            appended = client.append(request) => appended.map_err(|error| refused_to_us(address, error)),
            // It does not answer, and holds the partition no longer. Whether it has written is found by the events' ids.
            () = self.replica.changed(partition, holder) => Err(Error::unavailable(format!(
                "the event store at {address} has not answered, and partition {partition} is written by another now; \
                 the events may have been stored: send them again with the same ids"
            ))),
        }
    }
}

/// What another event store refuses to this one is not the caller's fault, who was let through here.
fn refused_to_us(address: &str, error: Error) -> Error {
    match error {
        Error::Unauthenticated { message, .. } | Error::PermissionDenied { message, .. } => {
            Error::failed_precondition(format!(
                "the event store at {address} writes this partition, and does not take appends from this one ({message}): start this one with \
                 --token-file or --cert and --key, and let it append there (spec.access)"
            ))
        }
        error => error,
    }
}

#[async_trait]
impl LogWriter for ReplicatedWriter {
    async fn append(&self, request: Append) -> Result<Appended> {
        let partition = self.sequencer.store().descriptor().partitions.partition_of(&request.stream_id);
        let deadline = Instant::now() + PATIENCE;
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(250));
        loop {
            let holder = self.replica.holder(partition);
            let answer = match &holder {
                Holder::Us => self.sequencer.append(request.clone()).await,
                Holder::Other(member) => self.forward(&member.address, &request, partition, &holder).await,
                Holder::Nobody => Err(Error::unavailable(format!(
                    "no event store writes partition {partition} now; send the events again with the same ids"
                ))),
            };
            let error = match answer {
                Err(error) if error.is_retryable() => error,
                answer => return answer,
            };
            // What fails here while it is held here is the database's, and the client's to repeat.
            let is_ours = holder == Holder::Us && self.replica.holder(partition) == Holder::Us;
            if is_ours || Instant::now() >= deadline {
                return Err(error);
            }
            if self.replica.has_left() {
                return Err(Error::Cancelled);
            }
            tracing::debug!(%partition, %error, "an append is sent to whoever writes its partition now");
            self.replica.look_soon();
            // The same holder may be there again, having come back.
            let _ = tokio::time::timeout(backoff.pause(), self.replica.changed(partition, &holder)).await;
        }
    }
}

impl std::fmt::Debug for ReplicatedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicatedWriter").field("replica", &self.replica).finish_non_exhaustive()
    }
}
