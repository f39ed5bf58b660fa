use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;
use headwater_core::{Appended, Error, LogId, Partition, Position, Result, StreamId, Version};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::SequencerOptions;
use super::plan::{Facts, Place, Plan, Request, Verdict, plan};
use super::stats::{Counters, add};
use crate::recent::Recent;
use crate::{Backoff, Batch, CommitError, Committed, Epoch, LogStore, StoredEvent};

/// How often a batch is planned anew because the store objected (an id was taken, another writer came), before its requests
/// are answered as unavailable. Two are needed for any single cause; more than a few mean two writers fighting.
const MAX_ROUNDS: usize = 6;

/// The part of the last commit's time that a lane then lets the callers that it has answered queue their next append, so that
/// they share a commit: an eighth costs little, and what it gains is most of a commit.
const GATHER_PART: u32 = 8;
/// Bounds of that time: what tasks of this process need at least, and what nobody notices.
const GATHER: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(1));

/// The writer of one partition.
pub(super) struct Lane {
    log_id: LogId,
    partition: Partition,
    store: Arc<dyn LogStore>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    batch_events: usize,
    batch_bytes: usize,
    repeats: u32,
    pause: Duration,
    inbox: mpsc::Receiver<Request>,
    /// Taken from the inbox, not yet in a batch.
    waiting: Vec<Request>,
    /// Where the next batch goes; unknown until the partition is acquired, and again when something contradicts it.
    place: Option<(Epoch, Position)>,
    versions: Recent<StreamId, Version>,
    ids: Recent<Uuid, StoredEvent>,
    /// Versions that were asked for during a commit, and may come after it: an answer never waits for what the next batch needs.
    loading: Option<Loading>,
    /// How long it took.
    last_commit: Duration,
}

/// The versions that some stream ids are at, on their way.
struct Loading {
    stream_ids: Vec<StreamId>,
    /// A task of its own: it may hold a connection that the lane itself waits for, and must go on whatever the lane waits for.
    versions: AbortOnDropHandle<Result<Vec<Version>>>,
}

/// What came of trying a batch once.
enum Round {
    /// Every request has its answer.
    Settled(Vec<Result<Appended>>),
    /// This round's commit stored nothing.
    Failed(Vec<Verdict>, Error),
    /// Something that was believed is not so; plan again.
    Again(Error),
    /// This round's commit may have stored its events; plan again.
    Lost(Error),
}

/// What came of a commit.
enum Outcome {
    Committed(Committed),
    /// Nothing was stored, and what is believed stands.
    Failed(Error),
    /// An id or a version is taken.
    Taken,
    /// Another writer, or nobody knows: acquire and look.
    Lost(Error),
}

impl Lane {
    pub(super) fn new(
        partition: Partition,
        store: Arc<dyn LogStore>,
        options: &SequencerOptions,
        counters: Arc<Counters>,
        stop: CancellationToken,
        inbox: mpsc::Receiver<Request>,
    ) -> Self {
        let descriptor = store.descriptor();
        let share = |all: usize| (all / descriptor.partitions.get()).max(256);
        Self {
            log_id: descriptor.log_id,
            partition,
            store,
            counters,
            stop,
            batch_events: options.batch_events.max(1),
            batch_bytes: options.batch_bytes,
            repeats: options.repeats,
            pause: options.pause,
            inbox,
            waiting: Vec::new(),
            place: None,
            versions: Recent::new(share(options.cached_streams)),
            ids: Recent::new(share(options.cached_ids)),
            loading: None,
            last_commit: Duration::ZERO,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while self.wait().await {
            let requests = self.take_batch();
            let count = requests.len();
            let answers = self.settle(&requests).await;
            for (request, answer) in requests.into_iter().zip(answers) {
                add(&self.counters.requests, 1);
                add(&self.counters.refused, u64::from(answer.is_err()));
                // A caller that is gone asked for no answer.
                let _ = request.answer.send(answer);
            }
            self.gather(count).await;
        }
    }

    /// Waits for a request; false when there will be none.
    async fn wait(&mut self) -> bool {
        if !self.waiting.is_empty() {
            return true;
        }
        tokio::select! {
            biased;
            received = self.inbox.recv_many(&mut self.waiting, self.batch_events) => received > 0,
            () = self.stop.cancelled() => {
                self.inbox.close();
                self.inbox.recv_many(&mut self.waiting, self.batch_events).await > 0
            }
        }
    }

    /// Those that were answered together are likely to come again together: lets them, instead of starting a commit with
    /// the first of them. One caller alone never waits.
    async fn gather(&mut self, answered: usize) {
        if answered < 2 {
            return;
        }
        let time = (self.last_commit / GATHER_PART).clamp(GATHER.0, GATHER.1);
        let start = Instant::now();
        while self.waiting.len() < answered && start.elapsed() < time {
            tokio::task::yield_now().await;
            self.drain();
        }
    }

    fn drain(&mut self) {
        while self.waiting.len() < self.batch_events {
            match self.inbox.try_recv() {
                Ok(request) => self.waiting.push(request),
                Err(_) => break,
            }
        }
    }

    /// The next requests that fit a batch: at least one.
    fn take_batch(&mut self) -> Vec<Request> {
        self.drain();
        let (mut events, mut bytes) = (0, 0);
        let fit = self.waiting.iter().take_while(|request| {
            let first = events == 0;
            events += request.append.events.len();
            bytes += request.append.size();
            first || (events <= self.batch_events && bytes <= self.batch_bytes)
        });
        let count = fit.count();
        self.waiting.drain(..count).collect()
    }

    /// Answers every request of a batch.
    async fn settle(&mut self, requests: &[Request]) -> Vec<Result<Appended>> {
        let mut facts = Facts::default();
        let mut why = None;
        // Once a commit's fate was unknown, a later failure does not mean that nothing was stored.
        let mut lost = false;
        for _ in 0..MAX_ROUNDS {
            match self.round(requests, &mut facts).await {
                Ok(Round::Settled(answers)) => return answers,
                Ok(Round::Again(error)) => why = Some(error),
                Ok(Round::Lost(error)) => {
                    lost = true;
                    why = Some(error);
                }
                Ok(Round::Failed(verdicts, error)) => {
                    let error = if lost { self.unsettled(&error) } else { error };
                    return self.answers(verdicts, Some(&error));
                }
                Err(error) => {
                    let error = if lost { self.unsettled(&error) } else { error };
                    return vec![Err(error); requests.len()];
                }
            }
        }
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        let error = Error::unavailable(format!(
            "appending to partition {} met other writers {MAX_ROUNDS} times in a row{why}; the events may have been stored: send them again with the same ids",
            self.partition
        ));
        self.forget(&mut facts);
        vec![Err(error); requests.len()]
    }

    /// What is known when finding out about a lost commit failed.
    fn unsettled(&self, cause: &Error) -> Error {
        Error::unavailable(format!(
            "it is unknown whether an append to partition {} was stored, and finding out failed: {cause}; the events may have been stored: send them again with the same ids",
            self.partition
        ))
    }

    async fn round(&mut self, requests: &[Request], facts: &mut Facts) -> Result<Round> {
        let (epoch, head) = self.acquired().await?;
        self.load_versions(requests, facts).await?;
        self.remember_ids(requests, facts);
        let mut planned = plan(requests, self.partition, head, facts);
        // What is found for one request may be news to others; each is searched once, so this ends.
        while !planned.suspects.is_empty() {
            if !self.search(requests, &planned.suspects, facts).await? {
                self.forget(facts);
                return Ok(Round::Again(Error::unavailable(
                    "the versions in the store are not those expected",
                )));
            }
            planned = plan(requests, self.partition, head, facts);
        }
        let Plan { verdicts, events, .. } = planned;
        if events.is_empty() {
            return Ok(Round::Settled(self.answers(verdicts, None)));
        }
        let batch = Arc::new(Batch { partition: self.partition, epoch, head, events });
        match self.commit(&batch).await {
            Outcome::Committed(committed) => {
                self.committed(&batch, committed)?;
                Ok(Round::Settled(self.answers(verdicts, None)))
            }
            Outcome::Failed(error) => Ok(Round::Failed(verdicts, error)),
            Outcome::Taken => {
                add(&self.counters.duplicates, 1);
                let all: Vec<usize> = (0..requests.len()).collect();
                let known = facts.stored.len();
                if !self.search(requests, &all, facts).await? || facts.stored.len() == known {
                    self.forget(facts);
                }
                Ok(Round::Again(Error::unavailable("an event id or a version was taken")))
            }
            Outcome::Lost(error) => {
                self.forget(facts);
                Ok(Round::Lost(error))
            }
        }
    }

    /// Epoch and head. Acquiring fences every earlier batch: what of it is not there by then never will be, and what is there is met as
    /// taken ids, or when a refusal is searched for.
    async fn acquired(&mut self) -> Result<(Epoch, Position)> {
        if let Some(place) = self.place {
            return Ok(place);
        }
        let head = self.store.acquire(self.partition).await?;
        let place = (head.epoch, head.position);
        self.place = Some(place);
        Ok(place)
    }

    /// Fills in the versions of the batch's stream ids, from memory or by one query.
    async fn load_versions(&mut self, requests: &[Request], facts: &mut Facts) -> Result<()> {
        if let Some(loading) = &mut self.loading {
            let versions = (&mut loading.versions).await;
            self.loaded(versions);
        }
        let mut missing = Vec::new();
        for request in requests {
            let stream_id = &request.append.stream_id;
            if facts.versions.contains_key(stream_id) {
                continue;
            }
            let version = self.versions.get(stream_id);
            if version.is_none() {
                missing.push(stream_id.clone());
            }
            // Zero stands in until the query has answered; it also keeps a stream id from being asked for twice.
            facts.versions.insert(stream_id.clone(), version.unwrap_or_default());
        }
        if !missing.is_empty() {
            let versions = self.store.stream_versions(self.partition, &missing).await?;
            for (stream_id, version) in missing.into_iter().zip(versions) {
                self.versions.insert(stream_id.clone(), version);
                facts.versions.insert(stream_id, version);
            }
        }
        Ok(())
    }

    fn remember_ids(&mut self, requests: &[Request], facts: &mut Facts) {
        for id in requests.iter().flat_map(Request::ids) {
            if let Some(event) = self.ids.get(&id) {
                facts.stored.insert(id, event);
            }
        }
    }

    /// Looks the ids of some requests up in the store, by one query.
    async fn find(&mut self, requests: &[Request], which: &[usize], facts: &mut Facts) -> Result<()> {
        let ids: Vec<Uuid> = which.iter().flat_map(|index| requests[*index].ids()).collect();
        for event in self.store.find(&ids).await? {
            facts.stored.insert(event.id, event);
        }
        facts.searched.extend(which);
        Ok(())
    }

    /// Looks up in the store what a refusal of some requests rests on: their ids, and the versions of their stream ids.
    /// False when the versions are not those believed in: somebody else has written.
    async fn search(&mut self, requests: &[Request], which: &[usize], facts: &mut Facts) -> Result<bool> {
        self.find(requests, which, facts).await?;
        let mut stream_ids: Vec<StreamId> =
            which.iter().map(|index| requests[*index].append.stream_id.clone()).collect();
        stream_ids.sort_unstable();
        stream_ids.dedup();
        let versions = self.store.stream_versions(self.partition, &stream_ids).await?;
        Ok(stream_ids
            .iter()
            .zip(versions)
            .all(|(stream_id, version)| facts.versions.get(stream_id) == Some(&version)))
    }

    /// Commits, repeating while the outcome is unknown.
    async fn commit(&mut self, batch: &Arc<Batch>) -> Outcome {
        let mut unknown: Option<Error> = None;
        let mut backoff = Backoff::new(self.pause, self.pause.saturating_mul(100));
        for attempt in 0..=self.repeats {
            if attempt > 0 {
                tokio::select! {
                    () = tokio::time::sleep(backoff.pause()) => {}
                    () = self.stop.cancelled() => {}
                }
            }
            match self.commit_and_gather(Arc::clone(batch)).await {
                Ok(committed) => return Outcome::Committed(committed),
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

    /// Commits, and meanwhile takes requests from the inbox and asks for the versions that they will need.
    async fn commit_and_gather(&mut self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        let start = Instant::now();
        let store = Arc::clone(&self.store);
        let commit = store.commit(batch);
        tokio::pin!(commit);
        let mut looked_at = 0;
        let outcome = loop {
            if self.loading.is_none() {
                self.begin_loading(looked_at);
                looked_at = self.waiting.len();
            }
            let room = self.batch_events.saturating_sub(self.waiting.len());
            let loading: OptionFuture<_> = self.loading.as_mut().map(|loading| &mut loading.versions).into();
            tokio::select! {
                biased;
                outcome = &mut commit => break outcome,
                Some(versions) = loading => self.loaded(versions),
                _ = self.inbox.recv_many(&mut self.waiting, room), if room > 0 && !self.inbox.is_closed() => {}
            }
        };
        self.last_commit = start.elapsed();
        add(&self.counters.commit_micros, self.last_commit.as_micros() as u64);
        outcome
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
    fn loaded(&mut self, versions: Result<Result<Vec<Version>>, JoinError>) {
        let Some(loading) = self.loading.take() else { return };
        let versions = versions.ok().and_then(Result::ok).unwrap_or_default();
        for (stream_id, version) in loading.stream_ids.into_iter().zip(versions) {
            if self.versions.get(&stream_id).is_none() {
                self.versions.insert(stream_id, version);
            }
        }
    }

    fn committed(&mut self, batch: &Batch, committed: Committed) -> Result<()> {
        let expected = batch.head.plus(batch.events.len() as u64);
        if committed.head != expected {
            self.place = None;
            return Err(Error::internal(format!(
                "a commit to partition {} moved its head to {} instead of {expected}; please report this",
                self.partition, committed.head
            )));
        }
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
        self.place = Some((batch.epoch, committed.head));
        let events = batch.events.len() as u64;
        add(&self.counters.batches, 1);
        add(&self.counters.events, events);
        add(&self.counters.bytes, bytes as u64);
        self.counters.largest_batch.fetch_max(events, Ordering::Relaxed);
        Ok(())
    }

    /// Drops everything that was believed: the next round acquires the partition and looks.
    fn forget(&mut self, facts: &mut Facts) {
        self.place = None;
        self.versions.clear();
        self.loading = None;
        self.ids.clear();
        *facts = Facts::default();
    }

    fn answers(&self, verdicts: Vec<Verdict>, failure: Option<&Error>) -> Vec<Result<Appended>> {
        let answer = |verdict: Verdict| match failure {
            Some(error) if verdict.on_commit => Err(error.clone()),
            _ => {
                let Place { version, position } = verdict.answer?;
                add(&self.counters.repeated, u64::from(verdict.repeat));
                Ok(Appended { log_id: self.log_id, partition: self.partition, version, position })
            }
        };
        verdicts.into_iter().map(answer).collect()
    }
}
