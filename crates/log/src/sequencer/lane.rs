use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_core::{Appended, Error, LogId, Partition, Position, Result, StreamId, Version};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::SequencerOptions;
use super::ahead::Sent;
use super::commit::{Commit, Loading, Outcome};
use super::plan::{Facts, Place, Plan, Request, Verdict, plan};
use super::stats::{Counters, add};
use crate::recent::Recent;
use crate::{Batch, Epoch, LogStore, StoredEvent};

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
    pub(super) partition: Partition,
    pub(super) store: Arc<dyn LogStore>,
    pub(super) counters: Arc<Counters>,
    pub(super) stop: CancellationToken,
    pub(super) batch_events: usize,
    batch_bytes: usize,
    pub(super) long_commit: Duration,
    pub(super) repeats: u32,
    pub(super) pause: Duration,
    pub(super) inbox: mpsc::Receiver<Request>,
    /// Taken from the inbox, not yet in a batch.
    pub(super) waiting: Vec<Request>,
    /// Where the next batch goes; unknown until the partition is acquired, and again when something contradicts it.
    pub(super) place: Option<(Epoch, Position)>,
    pub(super) versions: Recent<StreamId, Version>,
    pub(super) ids: Recent<Uuid, StoredEvent>,
    /// Versions that were asked for during a commit, and may come after it: an answer never waits for what the next batch needs.
    pub(super) loading: Option<Loading>,
    /// Sent behind the batch that is being settled, before it is known what becomes of that one.
    pub(super) ahead: Option<Sent>,
    /// How long it took.
    pub(super) last_commit: Duration,
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

/// A plan that is being carried out.
pub(super) struct Begun {
    pub(super) verdicts: Vec<Verdict>,
    pub(super) batch: Arc<Batch>,
    pub(super) commit: Commit,
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
            long_commit: options.long_commit,
            repeats: options.repeats,
            pause: options.pause,
            inbox,
            waiting: Vec::new(),
            place: None,
            versions: Recent::new(share(options.cached_streams)),
            ids: Recent::new(share(options.cached_ids)),
            loading: None,
            ahead: None,
            last_commit: Duration::ZERO,
        }
    }

    /// Writes until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            let (requests, facts, begun) = match self.ahead.take() {
                Some(sent) => (sent.requests, sent.facts, Some(sent.begun)),
                None if self.wait().await => (self.take_batch(), Facts::default(), None),
                None => break,
            };
            let count = requests.len();
            let (answers, is_there) = self.settle(&requests, facts, begun).await;
            self.send(requests, answers);
            if !is_there {
                self.take_back(&mut Facts::default()).await;
            }
            if self.ahead.is_none() {
                self.gather(count).await;
            }
        }
    }

    pub(super) fn send(&self, requests: Vec<Request>, answers: Vec<Result<Appended>>) {
        for (request, answer) in requests.into_iter().zip(answers) {
            add(&self.counters.requests, 1);
            add(&self.counters.refused, u64::from(answer.is_err()));
            // A caller that is gone asked for no answer.
            let _ = request.answer.send(answer);
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
        let count = self.fit();
        self.waiting.drain(..count).collect()
    }

    /// How many of those waiting fit a batch.
    pub(super) fn fit(&self) -> usize {
        let (mut events, mut bytes) = (0, 0);
        let fit = self.waiting.iter().take_while(|request| {
            let first = events == 0;
            events += request.append.events.len();
            bytes += request.append.size();
            first || (events <= self.batch_events && bytes <= self.batch_bytes)
        });
        fit.count()
    }

    /// The answers to all requests of a batch, which may be on its way already, planned by these facts; and whether it is there as planned.
    async fn settle(
        &mut self,
        requests: &[Request],
        mut facts: Facts,
        mut begun: Option<Begun>,
    ) -> (Vec<Result<Appended>>, bool) {
        let mut why = None;
        // Once a commit's fate was unknown, a later failure does not mean that nothing was stored.
        let mut lost = requests.iter().any(|request| request.unsettled);
        for _ in 0..MAX_ROUNDS {
            match self.round(requests, begun.take(), lost, &mut facts).await {
                Ok(Round::Settled(answers)) => return (answers, true),
                Ok(Round::Again(error)) => why = Some(error),
                Ok(Round::Lost(error)) => {
                    lost = true;
                    why = Some(error);
                }
                Ok(Round::Failed(verdicts, error)) => {
                    let error = if lost { self.unsettled(&error) } else { error };
                    return (self.answers(verdicts, Some(&error)), false);
                }
                Err(error) => {
                    let error = if lost { self.unsettled(&error) } else { error };
                    return (vec![Err(error); requests.len()], false);
                }
            }
        }
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        let error = Error::unavailable(format!(
            "appending to partition {} met other writers {MAX_ROUNDS} times in a row{why}; the events may have been stored: send them again with the same ids",
            self.partition
        ));
        self.forget(&mut facts);
        (vec![Err(error); requests.len()], false)
    }

    /// What is known when finding out about a lost commit failed.
    fn unsettled(&self, cause: &Error) -> Error {
        Error::unavailable(format!(
            "it is unknown whether an append to partition {} was stored, and finding out failed: {cause}; the events may have been stored: send them again with the same ids",
            self.partition
        ))
    }

    async fn round(
        &mut self,
        requests: &[Request],
        begun: Option<Begun>,
        lost: bool,
        facts: &mut Facts,
    ) -> Result<Round> {
        let is_behind = begun.is_some();
        let Begun { verdicts, batch, commit } = match begun {
            Some(begun) => begun,
            None => match self.begin(requests, lost, facts).await? {
                Ok(begun) => begun,
                Err(round) => return Ok(round),
            },
        };
        match self.commit(&batch, commit, is_behind, requests.len()).await {
            Outcome::Committed(committed) => {
                self.committed(&batch, committed)?;
                Ok(Round::Settled(self.answers(verdicts, None)))
            }
            Outcome::Failed(error) => Ok(Round::Failed(verdicts, error)),
            Outcome::Taken => {
                // Before anything is asked for: it may hold the connection that is waited for.
                self.take_back(facts).await;
                add(&self.counters.duplicates, 1);
                let all: Vec<usize> = (0..requests.len()).collect();
                let known = facts.stored.len();
                if !self.search(requests, &all, facts).await? || facts.stored.len() == known {
                    self.forget(facts);
                }
                Ok(Round::Again(Error::unavailable("an event id or a version was taken")))
            }
            Outcome::Lost(error) => {
                self.take_back(facts).await;
                self.forget(facts);
                Ok(Round::Lost(error))
            }
        }
    }

    /// Plans a batch and sends it, unless there is nothing to send, or no plan to be made by what is known. What an earlier one of unknown
    /// fate may have stored, as it has where one was `lost`, is looked for first.
    async fn begin(
        &mut self,
        requests: &[Request],
        lost: bool,
        facts: &mut Facts,
    ) -> Result<std::result::Result<Begun, Round>> {
        let (epoch, head) = self.acquired().await?;
        if lost {
            let all: Vec<usize> = (0..requests.len()).collect();
            self.find(requests, &all, facts).await?;
        }
        self.load_versions(requests, facts).await?;
        self.remember_ids(requests, facts);
        let mut planned = plan(requests, self.partition, head, facts);
        // What is found for one request may be news to others; each is searched once, so this ends.
        while !planned.suspects.is_empty() {
            if !self.search(requests, &planned.suspects, facts).await? {
                self.forget(facts);
                let error = Error::unavailable("the versions in the store are not those expected");
                return Ok(Err(Round::Again(error)));
            }
            planned = plan(requests, self.partition, head, facts);
        }
        let Plan { verdicts, events, .. } = planned;
        if events.is_empty() {
            return Ok(Err(Round::Settled(self.answers(verdicts, None))));
        }
        let batch = Arc::new(Batch { partition: self.partition, epoch, head, events });
        let commit = Commit::begin(&self.store, &batch);
        Ok(Ok(Begun { verdicts, batch, commit }))
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
        Ok(())
    }

    /// Looks up in the store what a refusal of some requests rests on: their ids, and the versions of their stream ids.
    /// False when the versions are not those believed in: somebody else has written.
    async fn search(&mut self, requests: &[Request], which: &[usize], facts: &mut Facts) -> Result<bool> {
        self.find(requests, which, facts).await?;
        facts.searched.extend(which);
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

    /// Drops everything that was believed: the next round acquires the partition and looks.
    pub(super) fn forget(&mut self, facts: &mut Facts) {
        self.place = None;
        self.versions.clear();
        self.loading = None;
        self.ids.clear();
        *facts = Facts::default();
    }

    pub(super) fn answers(&self, verdicts: Vec<Verdict>, failure: Option<&Error>) -> Vec<Result<Appended>> {
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
