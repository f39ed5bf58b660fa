//! One saga that runs.
//!
//! ```text
//! event stream ─▶ intake ─▶ saga's log ─▶ follower ─▶ table ─▶ dispatcher ─▶ drive, one task an instance ─▶ participants
//!                              ▲                        ▲                        │
//!                              └────── commands         └─ timekeeper            └─▶ saga's log
//! ```

mod tasks;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use headwater_core::{Error, EventType, Positions, Result, Token, Version};
use headwater_log::{Clock, Filter, LogReader, LogWriter, ReadAll, StartFrom, Subscription, read_all};
use headwater_resources::EventStreamSpec;
use headwater_resources::saga::SagaSpec;
use headwater_resources::shared::WorkState;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::tasks::{check_not_beyond, dispatch, follow, keep_time, observe, take_in, take_up};
use crate::call::Caller;
use crate::definition::Definition;
use crate::drive::{Plans, Told, Workshop};
use crate::history::{COMPENSATED, COMPLETED, Command, Commanded, Entry};
use crate::instance::{Instance, State};
use crate::intake::{Counts, Intake, Starting};
use crate::journal::{self, Journal, NotStarted};
use crate::metrics::SagaMetrics;
use crate::plan::Plan;
use crate::show::{Instance as Shown, Summary};
use crate::table::Table;
use crate::variables::Names;

/// Entries of the saga's log that are looked at together.
const FOLLOWED: usize = 1_000;
/// What has happened that a slow listener may be behind.
const TOLD: usize = 1_024;
/// Bytes of entries that are looked at together.
const FOLLOWED_BYTES: usize = 4 << 20;

/// Instances that are read side by side for a list.
const LOADED: usize = 8;

/// The logs and the world of a saga.
pub struct Parts {
    /// The resource's namespace.
    pub namespace: String,
    /// The saga's name.
    pub name: String,
    /// The event stream.
    pub events: Arc<dyn LogReader>,
    /// The saga's own log, for reading.
    pub log: Arc<dyn LogReader>,
    /// The saga's own log, for writing.
    pub writer: Arc<dyn LogWriter>,
    /// Who sends what steps send.
    pub caller: Arc<dyn Caller>,
    /// The store's clock, which timers follow.
    pub clock: Clock,
    /// Where it counts what it does.
    pub metrics: SagaMetrics,
    /// What has been taken in since the process began, whoever did it.
    pub counts: Counts,
    /// Whether this process may write the saga's log, as far as it knows at the moment.
    pub leads: Leads,
}

/// Says whether a process may coordinate now, as far as it knows.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// Says which process coordinates now, as far as is known.
pub type Coordinator = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// One saga. A cheap handle: clones are the same saga.
#[derive(Clone)]
pub struct SagaService(Arc<Inner>);

struct Inner {
    workshop: Arc<Workshop>,
    counts: Counts,
    leads: Leads,
    starting: watch::Sender<Arc<Starting>>,
    definition: Mutex<Definition>,
    permits: Mutex<Arc<Semaphore>>,
    /// Whether instances are worked on.
    working: watch::Sender<bool>,
    /// Who coordinates, where this one looks on.
    coordinator: Option<Coordinator>,
    reached: watch::Sender<Positions>,
    message: Mutex<Option<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// How a saga stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SagaStatus {
    /// Its name.
    pub name: String,
    /// The digest of the definition that new instances follow.
    pub definition: String,
    /// Instances that go forward.
    pub running: usize,
    /// Instances that are being undone.
    pub compensating: usize,
    /// Instances that a person has to look at.
    pub needs_attention: usize,
    /// Instances that were completed, ever.
    pub completed: u64,
    /// Instances that were undone, ever.
    pub compensated: u64,
    /// The definitions that instances at work were started with, by digest, and how many have each.
    pub generations: Vec<Generation>,
    /// Seconds since the oldest instance at work was started.
    pub oldest_running_seconds: Option<u64>,
    /// Since this process began: instances started.
    pub started: u64,
    /// Since this process began: events that would have started an instance of a name that there was.
    pub ignored: u64,
    /// Since this process began: events that should have started an instance and could not.
    pub not_started: u64,
    /// Since this process began: replies taken in.
    pub replies: u64,
    /// Since this process began: events of an awaited type that nobody waited for.
    pub unmatched: u64,
    /// What is wrong, if something is.
    pub message: Option<String>,
    /// Whether this process coordinates it, and does not only look on.
    pub coordinates: bool,
    /// Which other process coordinates it, where this is known.
    pub coordinated_by: Option<String>,
}

/// A definition that instances at work were started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// The definition's digest.
    pub digest: String,
    /// Instances that follow it and have not ended.
    pub running: usize,
}

impl SagaService {
    /// Starts a saga over its logs: takes up the instances that have not ended, and takes events in from where it was. What was there
    /// before its first start is left alone: side effects are not for the past.
    ///
    /// Only one process at a time may do so. Whoever has become another's successor without knowing it sends nothing that the other has not,
    /// records nothing over it, and moves no place that the other has moved.
    ///
    /// # Errors
    /// `Invalid` when the definition cannot be compiled; `Corrupt` or `Unavailable` as the logs.
    pub async fn start(parts: Parts, spec: &SagaSpec, stream: &EventStreamSpec) -> Result<Self> {
        let events = Arc::clone(&parts.events);
        let service = Self::over(parts, spec, stream, None)?;
        let workshop = &service.0.workshop;
        workshop.read_definitions().await?;
        let starting = service.0.starting.subscribe();
        let plan = Arc::clone(&starting.borrow().plan);
        workshop.define(&plan, &service.definition()).await?;
        let log_id = events.descriptor().log_id;
        let end = headwater_log::end(&*events).await?;
        let (positions, kept) = if let Some((positions, kept)) = workshop.journal.intake(log_id).await? {
            check_not_beyond(&positions, &end)?;
            (positions, kept)
        } else {
            let kept = workshop.journal.moved(log_id, Version::ZERO, &end).await?;
            (end, kept)
        };
        service.0.reached.send_replace(positions.clone());
        let (subscription, open) = service.take_up().await?;
        if spec.state == WorkState::Stopped {
            // Nobody works on them, and so nobody would find out.
            for name in open {
                if let Some((_, instance)) = workshop.load(&name).await? {
                    workshop.table.is_doing(&name, instance.state());
                }
            }
        }
        let intake = Intake {
            workshop: Arc::clone(workshop),
            events,
            starting,
            counts: service.0.counts.clone(),
            kept,
            reached: service.0.reached.clone(),
        };
        service.spawn(follow(service.clone(), subscription));
        service.spawn(keep_time(Arc::clone(workshop)));
        service.spawn(dispatch(service.clone()));
        service.spawn(take_in(service.clone(), intake, positions));
        Ok(service)
    }

    /// Looks on while another process coordinates, of which `coordinator` says what it is called: answers what is asked, sends nothing, and
    /// writes nothing. What people decide is for the coordinator.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn stand_by(
        parts: Parts,
        spec: &SagaSpec,
        stream: &EventStreamSpec,
        coordinator: Coordinator,
    ) -> Result<Self> {
        let log_id = parts.events.descriptor().log_id;
        let service = Self::over(parts, spec, stream, Some(coordinator))?;
        let workshop = &service.0.workshop;
        // Of another event log it could never take over.
        workshop.journal.intake(log_id).await?;
        workshop.read_definitions().await?;
        let digest = service.0.starting.borrow().plan.digest.clone();
        if !workshop.plans.all().is_empty() && workshop.plans.get(&digest).is_none() {
            tracing::warn!(
                saga = service.name(),
                "stands by with a definition that no coordinator has had yet: events are taken in by the one of whoever coordinates when they come"
            );
        }
        let (subscription, _) = service.take_up().await?;
        service.spawn(follow(service.clone(), subscription));
        service.spawn(observe(service.clone()));
        Ok(service)
    }

    /// Nothing runs yet.
    fn over(
        parts: Parts,
        spec: &SagaSpec,
        stream: &EventStreamSpec,
        coordinator: Option<Coordinator>,
    ) -> Result<Self> {
        let stop = CancellationToken::new();
        let definition = Definition::new(spec, stream);
        let starting = Starting::compile(spec, &definition, &parts.namespace)?;
        let working = watch::channel(spec.state != WorkState::Stopped).0;
        let workshop = Arc::new(Workshop {
            names: Names { namespace: parts.namespace, saga: parts.name },
            working: working.subscribe(),
            journal: Journal::new(parts.log, parts.writer, stop.clone()),
            plans: Plans::default(),
            caller: parts.caller,
            clock: parts.clock,
            metrics: parts.metrics,
            table: Table::default(),
            told: broadcast::channel(TOLD).0,
            stop: stop.clone(),
        });
        Ok(Self(Arc::new(Inner {
            workshop,
            counts: parts.counts,
            leads: parts.leads,
            starting: watch::channel(Arc::new(starting)).0,
            definition: Mutex::new(definition),
            permits: Mutex::new(Arc::new(Semaphore::new(spec.max_in_flight as usize))),
            working,
            coordinator,
            reached: watch::channel(Positions::default()).0,
            message: Mutex::default(),
            stop,
            tasks: TaskTracker::new(),
        })))
    }

    /// What is written from here on is followed; what is there is taken up.
    async fn take_up(&self) -> Result<(Subscription, HashSet<String>)> {
        let log = &self.0.workshop.journal.reader;
        let (open, end) = take_up(&self.0.workshop, &**log).await?;
        let from = StartFrom::After(Token::new(log.descriptor().log_id, end));
        let subscription = Subscription::open(Arc::clone(log), &from, Filter::default()).await?;
        Ok((subscription, open))
    }

    /// Whether another coordinates.
    fn looks_on(&self) -> bool {
        self.0.coordinator.is_some()
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.0.stop.clone();
        self.0.tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Says what is wrong, or that nothing is.
    fn say(&self, message: Option<String>) {
        *self.0.message.lock().unwrap_or_else(PoisonError::into_inner) = message;
    }

    /// The saga's name.
    pub fn name(&self) -> &str {
        &self.0.workshop.names.saga
    }

    /// What new instances follow.
    pub fn definition(&self) -> Definition {
        self.0.definition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has new instances follow `spec`. Those that have started go on as they began.
    ///
    /// # Errors
    /// `Invalid` when it cannot be compiled: then nothing is changed.
    pub async fn reconcile(&self, spec: &SagaSpec, stream: &EventStreamSpec) -> Result<()> {
        let definition = Definition::new(spec, stream);
        let starting = Starting::compile(spec, &definition, &self.0.workshop.names.namespace)?;
        self.0.workshop.define(&starting.plan, &definition).await?;
        *self.0.definition.lock().unwrap_or_else(PoisonError::into_inner) = definition;
        *self.0.permits.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Semaphore::new(spec.max_in_flight as usize));
        self.0.working.send_replace(spec.state != WorkState::Stopped);
        self.0.starting.send_replace(Arc::new(starting));
        Ok(())
    }

    /// Stops working. What was sent and has no answer is sent again after the next start, under the same keys.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// How it stands.
    pub fn status(&self) -> SagaStatus {
        let census = self.0.workshop.table.census();
        let of = |state: State| census.states.get(&state).copied().unwrap_or_default();
        let age = |since: Timestamp| self.0.workshop.clock.now().duration_since(since).as_secs();
        let generation = |(digest, running): (&Arc<str>, &usize)| Generation {
            digest: digest.to_string(),
            running: *running,
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let taken_in = &*self.0.counts.0;
        SagaStatus {
            name: self.name().to_owned(),
            definition: self.0.starting.borrow().plan.digest.clone(),
            running: of(State::Running),
            compensating: of(State::Compensating),
            needs_attention: of(State::NeedsAttention),
            completed: census.ended.completed,
            compensated: census.ended.compensated,
            generations: census.definitions.iter().map(generation).collect(),
            oldest_running_seconds: census.oldest.map(|since| age(since).try_into().unwrap_or_default()),
            started: read(&taken_in.started),
            ignored: read(&taken_in.ignored),
            not_started: read(&taken_in.not_started),
            replies: read(&taken_in.replies),
            unmatched: read(&taken_in.unmatched),
            message: self.0.message.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            coordinates: !self.looks_on() && !self.0.stop.is_cancelled() && (self.0.leads)(),
            coordinated_by: self.0.coordinator.as_ref().and_then(|coordinator| coordinator()),
        }
    }

    /// What happens to instances, as it does; a listener that is too slow loses the oldest.
    pub fn listen(&self) -> broadcast::Receiver<Told> {
        self.0.workshop.told.subscribe()
    }

    /// Waits until events up to `positions` have been taken in.
    pub async fn taken_in(&self, positions: &Positions) {
        // The sender is ours.
        let _ = self.0.reached.subscribe().wait_for(|reached| reached.cover(positions)).await;
    }

    /// Instances in one of the `states` that have not ended, in the order of their names, after the name `after`.
    ///
    /// # Errors
    /// As the saga's log.
    pub async fn open(&self, states: &[State], after: Option<&str>, limit: usize) -> Result<Vec<Summary>> {
        let load = |name: Arc<str>| async move { self.summary(&name).await };
        let names = self.0.workshop.table.names(states, after, limit);
        let loaded: Vec<_> = stream::iter(names.into_iter().map(load)).buffered(LOADED).try_collect().await?;
        Ok(loaded.into_iter().flatten().collect())
    }

    /// `None` when it has no history.
    async fn summary(&self, name: &str) -> Result<Option<Summary>> {
        let workshop = &self.0.workshop;
        let events = workshop.journal.history(name, Version::ZERO).await?;
        match workshop.fold(name, &events).await {
            Ok(folded) => Ok(folded.map(|(plan, instance)| self.now(Summary::of(&plan, &instance)))),
            // One history that cannot be read hides no other.
            Err(error @ Error::Corrupt { .. }) => Ok(Summary::of_corrupt(name, &events, &error)),
            Err(error) => Err(error),
        }
    }

    /// What the history does not say: that it cannot be added to.
    fn now(&self, summary: Summary) -> Summary {
        match self.0.workshop.table.stuck(&summary.instance) {
            Some(reason) => Summary { state: State::NeedsAttention, reason: Some(reason), ..summary },
            None => summary,
        }
    }

    /// Instances that have ended in one of the `states`, in the order of the saga's log, after the place `after`; and the place to read
    /// on from, if there may be more.
    ///
    /// # Errors
    /// As the saga's log.
    pub async fn ended(
        &self,
        states: &[State],
        after: Positions,
        limit: usize,
    ) -> Result<(Vec<Summary>, Option<Positions>)> {
        let mut types = Vec::new();
        for (state, event_type) in [(State::Completed, COMPLETED), (State::Compensated, COMPENSATED)] {
            if states.contains(&state) {
                types.push(EventType::new(event_type)?);
            }
        }
        if types.is_empty() {
            return Ok((Vec::new(), None));
        }
        let filter = Filter { event_types: types, stream_id_prefix: Some(journal::instances().to_owned()) };
        let request = ReadAll { after, filter, limit, max_bytes: FOLLOWED_BYTES };
        let page = read_all(&*self.0.workshop.journal.reader, request).await?;
        let summaries = page.events.iter().map(Summary::of_ended).collect::<Result<_>>()?;
        Ok((summaries, (!page.caught_up).then_some(page.next)))
    }

    /// One instance with its history.
    ///
    /// # Errors
    /// `NotFound` when there is none of this name; else as the saga's log.
    pub async fn show(&self, name: &str) -> Result<Shown> {
        let events = self.0.workshop.journal.history(name, Version::ZERO).await?;
        let Some((plan, instance)) = self.0.workshop.fold(name, &events).await? else {
            return Err(self.no_instance(name));
        };
        let shown = Shown::of(&self.0.workshop.names, &plan, &instance, &events)?;
        Ok(Shown { summary: self.now(shown.summary), ..shown })
    }

    fn no_instance(&self, name: &str) -> Error {
        Error::not_found(format!(
            "saga \"{}\" has no instance \"{name}\"; `headwater sagas list {}` lists those there are",
            self.name(),
            self.name()
        ))
    }

    /// Tells an instance what a person wants of it. Answers when that is recorded.
    ///
    /// # Errors
    /// `NotFound` for the instance; `FailedPrecondition` when it cannot be done where the instance stands, or another process coordinates;
    /// `Invalid` for the step.
    pub async fn command(&self, name: &str, commanded: Commanded) -> Result<()> {
        if self.0.stop.is_cancelled() {
            return Err(Error::unavailable(format!(
                "this process coordinates saga \"{}\" no more: try again in a few seconds",
                self.name()
            )));
        }
        if let Some(coordinator) = &self.0.coordinator {
            let saga = self.name();
            return Err(Error::failed_precondition(match coordinator() {
                Some(other) => {
                    format!(
                        "saga \"{saga}\" is coordinated by {other}, and this process stands by: say it there"
                    )
                }
                None => format!(
                    "nobody coordinates saga \"{saga}\" just now, and this process stands by: try again in a few seconds"
                ),
            }));
        }
        loop {
            let Some((plan, instance)) = self.0.workshop.load(name).await? else {
                return Err(self.no_instance(name));
            };
            allow(&plan, &instance, &commanded)?;
            let entry = Entry::Commanded(commanded.clone());
            match self.0.workshop.journal.record(name, instance.version, &[entry]).await {
                // It has moved on meanwhile: whether it can still be done is looked at again.
                Err(Error::WrongVersion { .. }) => {}
                Ok(()) => {
                    self.0.workshop.table.wake(name);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Events that should have started an instance and could not, in the order in which they came, after the number `after`; and the
    /// number to read on from, if there are more.
    ///
    /// # Errors
    /// As the saga's log.
    pub async fn not_started(
        &self,
        after: Version,
        limit: usize,
    ) -> Result<(Vec<NotStarted>, Option<Version>)> {
        self.0.workshop.journal.read_not_started(after, limit).await
    }
}

impl std::fmt::Debug for SagaService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SagaService").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// Whether a command makes sense where the instance stands.
fn allow(plan: &Plan, instance: &Instance, commanded: &Commanded) -> Result<()> {
    let name = &instance.started.instance;
    if let Some(ended) = instance.ended {
        return Err(Error::failed_precondition(format!(
            "instance \"{name}\" has ended ({}): there is nothing left to do with it",
            ended.as_str()
        )));
    }
    match commanded.command {
        Command::Abort if instance.turned.is_some() => Err(Error::failed_precondition(format!(
            "instance \"{name}\" is being undone already; a compensation cannot be stopped"
        ))),
        Command::Abort if instance.is_past_pivot(plan) || instance.forward_group(plan).is_none() => {
            Err(Error::failed_precondition(format!(
                "instance \"{name}\" has begun its pivot, or done all its steps: from there on it only goes forward; retry or skip the step that it is at"
            )))
        }
        Command::Abort | Command::Resume => Ok(()),
        Command::Retry | Command::Skip => {
            let open: Vec<&str> = instance
                .open_or_stuck(plan)
                .into_iter()
                .map(|(task, _)| plan.tasks[task].name.as_str())
                .collect();
            match &commanded.step {
                None if commanded.command == Command::Skip && open.len() != 1 => {
                    Err(Error::invalid("step", format!("say which step is to be skipped: {}", list(&open))))
                }
                Some(step) if !open.contains(&step.as_str()) => Err(Error::invalid(
                    "step",
                    format!("instance \"{name}\" is not at step \"{step}\"; it is at {}", list(&open)),
                )),
                _ if open.is_empty() => Err(Error::failed_precondition(format!(
                    "instance \"{name}\" is at no step now; look again in a moment"
                ))),
                _ => Ok(()),
            }
        }
    }
}

fn list(steps: &[&str]) -> String {
    if steps.is_empty() { "none now".to_owned() } else { steps.join(", ") }
}
