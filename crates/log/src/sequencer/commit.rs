//! What becomes of a batch that is sent, and what is done meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, OptionFuture, Shared};
use headwater_core::{Error, Result, StreamId, Version};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::lane::Lane;
use super::stats::add;
use crate::{Backoff, Batch, CommitError, Committed, LogStore, StoredEvent};

/// The part of the last commit's time after which a batch is sent behind the one that is under way, although fewer wait than are
/// in that one.
const AHEAD_PART: u32 = 2;

/// What came of a commit.
pub(super) enum Outcome {
    Committed(Committed),
    /// Nothing was stored, and what is believed stands.
    Failed(Error),
    /// An id or a version is taken.
    Taken,
    /// Another writer, or nobody knows: acquire and look.
    Lost(Error),
}

/// A commit that has begun.
pub(super) struct Commit {
    since: Instant,
    pub(super) answer: Shared<BoxFuture<'static, Result<Committed, CommitError>>>,
}

impl Commit {
    pub(super) fn begin(store: &Arc<dyn LogStore>, batch: &Arc<Batch>) -> Self {
        let (store, batch) = (Arc::clone(store), Arc::clone(batch));
        let answer = async move { store.commit(batch).await };
        Self { since: Instant::now(), answer: answer.boxed().shared() }
    }
}

/// The versions that some stream ids are at, on their way.
pub(super) struct Loading {
    stream_ids: Vec<StreamId>,
    /// A task of its own: it may hold a connection that the lane itself waits for, and must go on whatever the lane waits for.
    pub(super) versions: AbortOnDropHandle<Result<Vec<Version>>>,
}

impl Lane {
    /// Waits for a commit of so many requests, and repeats it while the outcome is unknown.
    ///
    /// A batch that was sent behind another may have come there before it, and is then refused: it is sent again.
    pub(super) async fn commit(
        &mut self,
        batch: &Arc<Batch>,
        begun: Commit,
        mut may_have_overtaken: bool,
        requests: usize,
    ) -> Outcome {
        let mut begun = Some(begun);
        let mut unknown: Option<Error> = None;
        let mut overtook = false;
        let mut backoff = Backoff::new(self.pause, self.pause.saturating_mul(100));
        for _ in 0..=self.repeats.saturating_add(may_have_overtaken.into()) {
            if unknown.is_some() {
                tokio::select! {
                    () = tokio::time::sleep(backoff.pause()) => {}
                    () = self.stop.cancelled() => {}
                    // What is behind goes on meanwhile.
                    () = self.go_on_behind() => {}
                }
            }
            let commit = begun.take().unwrap_or_else(|| Commit::begin(&self.store, batch));
            match self.wait_and_gather(commit, batch, requests).await {
                Ok(committed) => {
                    add(&self.counters.overtook, overtook.into());
                    return Outcome::Committed(committed);
                }
                Err(CommitError::Fenced) if may_have_overtaken && unknown.is_none() => {
                    (may_have_overtaken, overtook) = (false, true);
                    continue;
                }
                Err(CommitError::Fenced) => {
                    add(&self.counters.fenced, 1);
                    return Outcome::Lost(Error::unavailable("another writer has taken over the partition"));
                }
                // After a try of unknown fate, what is taken may be taken by that try.
                Err(CommitError::Duplicate) => return unknown.map_or(Outcome::Taken, Outcome::Lost),
                Err(CommitError::Failed(error)) if unknown.is_none() => return Outcome::Failed(error),
                // This try stored nothing, but an earlier one may have, or be under way: only acquiring settles that.
                Err(CommitError::Failed(error)) => unknown = Some(error),
                Err(CommitError::Unknown(error)) => {
                    add(&self.counters.unknown, 1);
                    unknown = Some(error);
                    if !self.stop.is_cancelled() {
                        continue;
                    }
                }
            }
            break;
        }
        Outcome::Lost(unknown.unwrap_or_else(|| Error::unavailable("the batch's fate is unknown")))
    }

    /// Waits for a commit of so many requests, and meanwhile takes others from the inbox, asks for the versions that they will need, and
    /// sends a batch of them behind this one.
    async fn wait_and_gather(
        &mut self,
        mut commit: Commit,
        batch: &Batch,
        requests: usize,
    ) -> Result<Committed, CommitError> {
        let mut looked_at = 0;
        let sends_behind = self.store.takes_batches_behind() && self.last_commit >= self.long_commit;
        let mut may_send = sends_behind && self.ahead.is_none();
        // As many as are under way do not wait for more; fewer wait for others that may come.
        let mut due = false;
        let patience = tokio::time::sleep(self.last_commit / AHEAD_PART);
        tokio::pin!(patience);
        let outcome = loop {
            if self.loading.is_none() {
                self.begin_loading(looked_at);
                looked_at = self.waiting.len();
            }
            if may_send && !self.waiting.is_empty() && (due || self.waiting.len() >= requests) {
                may_send = false;
                looked_at -= self.send_ahead(batch).min(looked_at);
            }
            let room = self.batch_events.saturating_sub(self.waiting.len());
            let loading: OptionFuture<_> = self.loading.as_mut().map(|loading| &mut loading.versions).into();
            let ahead = self.ahead.as_ref().map(|sent| sent.begun.commit.answer.clone());
            let ahead: OptionFuture<_> = ahead.filter(|answer| answer.peek().is_none()).into();
            tokio::select! {
                biased;
                outcome = &mut commit.answer => break outcome,
                Some(versions) = loading => {
                    self.loaded(versions);
                    may_send = sends_behind && self.ahead.is_none();
                }
                // It goes on while it is looked at. What came of it is asked when it is its turn.
                Some(_) = ahead => {}
                _ = self.inbox.recv_many(&mut self.waiting, room), if room > 0 && !self.inbox.is_closed() => {}
                () = &mut patience, if may_send && !due => due = true,
            }
        };
        self.last_commit = commit.since.elapsed();
        add(&self.counters.commit_micros, self.last_commit.as_micros() as u64);
        outcome
    }

    /// Has what was sent behind go on, for as long as this is waited for.
    async fn go_on_behind(&self) {
        if let Some(sent) = &self.ahead {
            // What came of it is asked when it is its turn.
            let _ = sent.begun.commit.answer.clone().await;
        }
        std::future::pending::<()>().await;
    }

    /// Asks for the versions of those waiting, beyond the first `looked_at`, that are not remembered.
    fn begin_loading(&mut self, looked_at: usize) {
        let mut missing: Vec<StreamId> =
            self.waiting[looked_at..].iter().map(|request| request.append.stream_id.clone()).collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|stream_id| self.versions.get(stream_id).is_none());
        if missing.is_empty() {
            return;
        }
        let (store, partition, stream_ids) = (Arc::clone(&self.store), self.partition, missing.clone());
        let versions = tokio::spawn(async move { store.stream_versions(partition, &stream_ids).await });
        self.loading = Some(Loading { stream_ids: missing, versions: AbortOnDropHandle::new(versions) });
    }

    /// Remembers what was asked for. What has been learnt since, by a commit, is newer. An error is met again, and answered, when the
    /// next batch is planned.
    pub(super) fn loaded(&mut self, versions: Result<Result<Vec<Version>>, JoinError>) {
        let Some(loading) = self.loading.take() else { return };
        let versions = versions.ok().and_then(Result::ok).unwrap_or_default();
        for (stream_id, version) in loading.stream_ids.into_iter().zip(versions) {
            if self.versions.get(&stream_id).is_none() {
                self.versions.insert(stream_id, version);
            }
        }
    }

    pub(super) fn committed(&mut self, batch: &Batch, committed: Committed) -> Result<()> {
        let expected = batch.head.plus(batch.events.len() as u64);
        if committed.head != expected {
            self.place = None;
            return Err(Error::internal(format!(
                "a commit to partition {} moved its head to {} instead of {expected}; please report this",
                self.partition, committed.head
            )));
        }
        self.remember(batch);
        self.place = Some((batch.epoch, committed.head));
        Ok(())
    }

    /// Remembers what a batch has written.
    pub(super) fn remember(&mut self, batch: &Batch) {
        let mut bytes = 0;
        let mut position = batch.head;
        for event in &batch.events {
            position = position.next();
            bytes += event.event.data.len() + event.event.metadata.as_bytes().len();
            self.versions.insert(event.stream_id.clone(), event.version);
            self.ids.insert(
                event.event.id,
                StoredEvent {
                    id: event.event.id,
                    digest: event.digest,
                    stream_id: event.stream_id.clone(),
                    version: event.version,
                    partition: batch.partition,
                    position,
                },
            );
        }
        let events = batch.events.len() as u64;
        add(&self.counters.batches, 1);
        add(&self.counters.events, events);
        add(&self.counters.bytes, bytes as u64);
        self.counters.largest_batch.fetch_max(events, Ordering::Relaxed);
    }
}
