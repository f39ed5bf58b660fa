//! Time travel: the rules folded up to a past place, into a store that is thrown away.
//!
//! ```text
//! as_of ──▶ job for (revision, positions) ──fold──▶ scratch store ──▶ queries, until others need the room
//!             ▲ whoever asks for the same joins         (bounded: events, jobs at once, results kept)
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use headwater_core::{Error, Partition, Positions, Result};
use headwater_log::{Filter, LogDescriptor, LogReader, ReadPartition};
use headwater_view::{
    ApplyError, Change, MemoryView, NewRevision, Revision, RevisionRecord, ViewSink, ViewStore,
};
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::folder::Folder;
use crate::plan::Plan;
use crate::service::ProjectionService;

/// Events of a page.
const PAGE: usize = 2_000;
/// Bytes of a page, roughly.
const PAGE_BYTES: usize = 4 << 20;

/// Makes the store that a travel folds into. It goes when the travel is dropped.
pub type ScratchStores = Arc<dyn Fn() -> Result<Arc<dyn ViewStore>> + Send + Sync>;

/// What time travels may cost.
#[derive(Clone)]
pub struct TravelOptions {
    /// Events that one travel folds at most.
    pub max_events: u64,
    /// Travels that are folded at once; others wait.
    pub at_once: usize,
    /// Travels that are kept, finished or not; the one that was asked for longest ago goes first.
    pub kept: usize,
    /// How long a travel that nobody asks for goes on.
    pub patience: Duration,
    /// Where they fold into.
    pub scratch: ScratchStores,
}

impl Default for TravelOptions {
    /// Up to a million events into memory.
    fn default() -> Self {
        Self {
            max_events: 1_000_000,
            at_once: 1,
            kept: 4,
            patience: Duration::from_mins(1),
            scratch: Arc::new(|| Ok(Arc::new(MemoryView::new()))),
        }
    }
}

/// How far a travel is, in events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TravelProgress {
    pub(crate) folded: u64,
    pub(crate) total: u64,
}

/// The store of a travel that has arrived.
#[derive(Clone)]
pub(crate) struct Arrived {
    pub(crate) store: Arc<dyn ViewStore>,
    pub(crate) revision: Revision,
}

#[derive(Clone)]
enum State {
    Folding(TravelProgress),
    Arrived(Arrived),
    Failed(Error),
}

/// What a travel is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Goal {
    projection: String,
    revision: Revision,
    positions: Positions,
    /// What people skipped changes what is folded.
    decisions: u64,
}

struct Job {
    goal: Goal,
    state: watch::Receiver<State>,
    asked: Arc<Mutex<Instant>>,
    /// Ends the folding when the job goes.
    _stop: DropGuard,
}

/// All travels of one process.
pub(crate) struct Travels {
    options: TravelOptions,
    turns: Arc<Semaphore>,
    /// The one that was asked for last is last.
    jobs: Mutex<VecDeque<Job>>,
}

impl Default for Travels {
    fn default() -> Self {
        Self::new(TravelOptions::default())
    }
}

impl Travels {
    pub(crate) fn new(options: TravelOptions) -> Self {
        Self { turns: Arc::new(Semaphore::new(options.at_once.max(1))), options, jobs: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the travels of a projection.
    pub(crate) fn forget(&self, projection: &str) {
        self.lock().retain(|job| job.goal.projection != projection);
    }

    /// Folds the events up to `positions` by the rules of `record`, or waits for who does, until `deadline`.
    pub(crate) async fn go(
        &self,
        service: &ProjectionService,
        record: &RevisionRecord,
        positions: &Positions,
        deadline: Instant,
    ) -> Result<Arrived> {
        let known =
            service.store().partition(record.revision, Partition::ZERO).await.map_err(
                |error| match error {
                    ApplyError::Failed(error) => error,
                    other => Error::unavailable(format!("{other}; ask again")),
                },
            )?;
        let goal = Goal {
            projection: service.name().to_owned(),
            revision: record.revision,
            positions: positions.clone(),
            decisions: known.decisions.0,
        };
        let mut state = match self.join(&goal) {
            Some(state) => state,
            None => self.begin(service, record, goal, known.skips).await?,
        };
        loop {
            match &*state.borrow_and_update() {
                State::Arrived(arrived) => return Ok(arrived.clone()),
                State::Failed(error) => return Err(error.clone()),
                State::Folding(_) => {}
            }
            tokio::select! {
                changed = state.changed() => changed.map_err(|_| Error::unavailable("as_of: others needed the room; ask again"))?,
                () = tokio::time::sleep_until(deadline) => {
                    let TravelProgress { folded, total } = match &*state.borrow() {
                        State::Folding(progress) => *progress,
                        State::Arrived(_) | State::Failed(_) => continue,
                    };
                    return Err(Error::DeadlineExceeded {
                        message: format!("as_of: {folded} of {total} events are folded so far; ask again soon, it goes on, or give a longer timeout"),
                        reached: None,
                    });
                }
            }
        }
    }

    /// The state of the travel to `goal`, if there is one that has not failed.
    fn join(&self, goal: &Goal) -> Option<watch::Receiver<State>> {
        let mut jobs = self.lock();
        let at = jobs
            .iter()
            .position(|job| job.goal == *goal && !matches!(*job.state.borrow(), State::Failed(_)))?;
        let job = jobs.remove(at)?;
        *job.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let state = job.state.clone();
        jobs.push_back(job);
        Some(state)
    }

    async fn begin(
        &self,
        service: &ProjectionService,
        record: &RevisionRecord,
        goal: Goal,
        skips: HashSet<Uuid>,
    ) -> Result<watch::Receiver<State>> {
        let start = service.store().rollout().await?.start;
        let partitions = service.reader().descriptor().partitions;
        let total: u64 = partitions
            .partitions()
            .map(|partition| goal.positions.get(partition).get().saturating_sub(start.get(partition).get()))
            .sum();
        if total > self.options.max_events {
            return Err(Error::invalid(
                "as_of",
                format!(
                    "{total} events would have to be folded, and at most {} are; declare a projection of its own for far places",
                    self.options.max_events
                ),
            ));
        }
        let progress = TravelProgress { folded: 0, total };
        let (sender, state) = watch::channel(State::Folding(progress));
        let stop = CancellationToken::new();
        let asked = Arc::new(Mutex::new(Instant::now()));
        let travel = Travel {
            plan: Arc::new(service.plan(record)?),
            service: service.clone(),
            record: record.clone(),
            start,
            positions: goal.positions.clone(),
            skips,
            state: sender,
            asked: Arc::clone(&asked),
            options: self.options.clone(),
        };
        let job = Job { goal, state: state.clone(), asked, _stop: stop.clone().drop_guard() };
        {
            let mut jobs = self.lock();
            jobs.push_back(job);
            while jobs.len() > self.options.kept.max(1) {
                jobs.pop_front();
            }
        }
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = travel.run(&turns) => {}
            }
        });
        Ok(state)
    }
}

/// One travel on its way.
struct Travel {
    plan: Arc<Plan>,
    service: ProjectionService,
    record: RevisionRecord,
    start: Positions,
    positions: Positions,
    skips: HashSet<Uuid>,
    state: watch::Sender<State>,
    asked: Arc<Mutex<Instant>>,
    options: TravelOptions,
}

impl Travel {
    async fn run(self, turns: &Semaphore) {
        let Ok(_turn) = turns.acquire().await else { return };
        let state = match self.fold().await {
            Ok(arrived) => State::Arrived(arrived),
            Err(error) => State::Failed(error),
        };
        self.state.send_replace(state);
    }

    async fn fold(&self) -> Result<Arrived> {
        let scratch = Arc::clone(&self.options.scratch);
        let store = tokio::task::spawn_blocking(move || scratch())
            .await
            .map_err(|error| Error::internal(format!("making a scratch store: {error}")))??;
        let LogDescriptor { log_id, partitions } = self.service.reader().descriptor();
        let create = Change::Create(NewRevision {
            digest: self.record.digest.clone(),
            definition: self.record.definition.clone(),
            tables: self.plan.tables().to_vec(),
            log_id,
            partitions,
            start: self.start.clone(),
        });
        let created = store.change(store.rollout().await?.version, &create).await?;
        let revision =
            created.candidate.ok_or_else(|| Error::internal("a scratch store has no candidate"))?;
        let promote = Change::Promote { revision, keep_until: Timestamp::UNIX_EPOCH, hold: None };
        store.change(created.version, &promote).await?;
        let turn = (partitions.get() > 1).then(Arc::default);
        let parts = partitions
            .partitions()
            .map(|partition| self.fold_partition(&store, revision, partition, turn.clone()));
        try_join_all(parts).await?;
        Ok(Arrived { store, revision })
    }

    async fn fold_partition(
        &self,
        store: &Arc<dyn ViewStore>,
        revision: Revision,
        partition: Partition,
        turn: Option<Arc<tokio::sync::Mutex<()>>>,
    ) -> Result<()> {
        let until = self.positions.get(partition);
        let sink = Arc::clone(store) as Arc<dyn ViewSink>;
        let mut folder = Folder::open(sink, Arc::clone(&self.plan), revision, partition, turn)
            .await
            .map_err(unexpected)?;
        folder.skip(self.skips.clone());
        let event_types = self.plan.event_types()?;
        while folder.progress().position < until {
            let before = folder.progress().position;
            let page = self
                .service
                .reader()
                .read_partition(ReadPartition {
                    partition,
                    after: before,
                    up_to: Some(until),
                    filter: Filter { event_types: event_types.clone(), stream_id_prefix: None },
                    limit: PAGE,
                    max_bytes: PAGE_BYTES,
                })
                .await?;
            let applied = folder.fold(&page, self.service.policy()).await.map_err(unexpected)?;
            if let Some(failure) = applied.halted {
                return Err(Error::failed_precondition(format!(
                    "as_of: a rule fails at partition {partition}, position {}, and halts the fold: {}",
                    failure.position, failure.error
                )));
            }
            let after = folder.progress().position;
            if after <= before {
                return Err(Error::internal(format!(
                    "as_of: partition {partition} cannot be read beyond position {before}"
                )));
            }
            self.advance(after.get() - before.get())?;
        }
        Ok(())
    }

    /// Counts what was folded, and gives up when nobody wants it any more.
    fn advance(&self, events: u64) -> Result<()> {
        self.state.send_modify(|state| {
            if let State::Folding(progress) = state {
                progress.folded += events;
            }
        });
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.elapsed() > self.options.patience {
            return Err(Error::unavailable("as_of: nobody has asked for a while; ask again"));
        }
        Ok(())
    }
}

fn unexpected(error: ApplyError) -> Error {
    match error {
        ApplyError::Failed(error) => error,
        other => Error::internal(format!("folding into a scratch store: {other}")),
    }
}

/// The positions that `as_of` names.
///
/// # Errors
/// `Invalid` for a token of another log or ahead of the head, and for what is neither token nor time.
pub(crate) async fn positions_of(reader: &dyn LogReader, text: &str) -> Result<Positions> {
    let LogDescriptor { log_id, partitions } = reader.descriptor();
    if let Ok(time) = text.parse::<Timestamp>() {
        // What was recorded at that moment belongs to it.
        let after = Timestamp::from_microsecond(time.as_microsecond().saturating_add(1))
            .map_err(|_| Error::invalid("as_of", "the time is out of range"))?;
        let mut positions = Positions::default();
        for partition in partitions.partitions() {
            positions.set(partition, reader.position_before(partition, after).await?);
        }
        return Ok(positions);
    }
    let token = text.parse::<headwater_core::Token>().map_err(|_| {
        let fault = headwater_expr::parse_moment(text).err().unwrap_or_default();
        Error::invalid(
            "as_of",
            format!("no token, and it {fault}; give a token exactly as it was given, or a time"),
        )
    })?;
    let positions = token.positions_in(log_id, partitions).map_err(|error| match error {
        Error::Invalid { message, .. } => Error::invalid("as_of", message),
        other => other,
    })?;
    let heads = reader.heads().await?;
    for (partition, position) in positions.iter() {
        if heads.get(partition.index()).is_none_or(|head| head.position < position) {
            return Err(Error::invalid(
                "as_of",
                format!("position {position} of partition {partition} is ahead of the event stream"),
            ));
        }
    }
    Ok(positions.clone())
}
