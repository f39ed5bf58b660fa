//! One saga that runs.
//!
//! ```text
//! event stream ─▶ intake ─▶ saga's log ─▶ follower ─▶ table ─▶ dispatcher ─▶ drive, one task an instance ─▶ participants
//!                              ▲                        ▲                        │
//!                              └────── commands         └─ timekeeper            └─▶ saga's log
//! ```

mod tasks;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use headwater_core::{Error, EventType, Positions, Result, Version};
use headwater_log::{Clock, Filter, LogReader, LogWriter, ReadAll, StartFrom, Subscription, read_all};
use headwater_resources::EventStreamSpec;
use headwater_resources::saga::SagaSpec;
use headwater_resources::shared::WorkState;
use serde::Serialize;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::tasks::{check_not_beyond, dispatch, follow, keep_time, take_in, take_up};
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
}

/// One saga. A cheap handle: clones are the same saga.
#[derive(Clone)]
pub struct SagaService(Arc<Inner>);

struct Inner {
    workshop: Arc<Workshop>,
    counts: Arc<Counts>,
    starting: watch::Sender<Arc<Starting>>,
    definition: Mutex<Definition>,
    permits: Mutex<Arc<Semaphore>>,
    /// Whether instances are worked on.
    working: watch::Sender<bool>,
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
}

impl SagaService {
    /// Starts a saga over its logs: takes up the instances that have not ended, and takes events in from where it was. What was there
    /// before its first start is left alone: side effects are not for the past.
    ///
    /// # Errors
    /// `Invalid` when the definition cannot be compiled; `Corrupt` or `Unavailable` as the logs.
    pub async fn start(parts: Parts, spec: &SagaSpec, stream: &EventStreamSpec) -> Result<Self> {
        let stop = CancellationToken::new();
        let journal = Journal::new(Arc::clone(&parts.log), parts.writer, stop.clone());
        let definition = Definition::new(spec, stream);
        let starting = Starting::compile(spec, &definition, &parts.namespace)?;
        let working = watch::channel(spec.state != WorkState::Stopped).0;
        let workshop = Arc::new(Workshop {
            names: Names { namespace: parts.namespace, saga: parts.name },
            working: working.subscribe(),
            journal,
            plans: Plans::default(),
            caller: parts.caller,
            clock: parts.clock,
            metrics: parts.metrics,
            table: Table::default(),
            told: broadcast::channel(TOLD).0,
            stop: stop.clone(),
        });
        workshop.read_definitions().await?;
        workshop.define(&starting.plan, &definition).await?;
        let log_id = parts.events.descriptor().log_id;
        let end = headwater_log::end(&*parts.events).await?;
        let positions = if let Some(positions) = workshop.journal.intake(log_id).await? {
            check_not_beyond(&positions, &end)?;
            positions
        } else {
            workshop.journal.moved(log_id, &end).await?;
            end
        };
        let (starting, receiver) = watch::channel(Arc::new(starting));
        let inner = Arc::new(Inner {
            workshop: Arc::clone(&workshop),
            counts: Arc::default(),
            starting,
            definition: Mutex::new(definition),
            permits: Mutex::new(Arc::new(Semaphore::new(spec.max_in_flight as usize))),
            working,
            reached: watch::channel(positions.clone()).0,
            message: Mutex::default(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        });
        // What is written from here on is followed; what is there is taken up.
        let subscription =
            Subscription::open(Arc::clone(&parts.log), &StartFrom::End, Filter::default()).await?;
        let open = take_up(&workshop, &*parts.log).await?;
        if spec.state == WorkState::Stopped {
            // Nobody works on them, and so nobody would find out.
            for name in open {
                if let Some((_, instance)) = workshop.load(&name).await? {
                    workshop.table.is_doing(&name, instance.state());
                }
            }
        }
        let intake = Intake {
            workshop,
            events: parts.events,
            starting: receiver,
            counts: Arc::clone(&inner.counts),
            reached: inner.reached.clone(),
        };
        let service = Self(inner);
        service.spawn(follow(service.clone(), subscription));
        service.spawn(keep_time(Arc::clone(&service.0.workshop)));
        service.spawn(dispatch(service.clone()));
        service.spawn(take_in(service.clone(), intake, positions));
        Ok(service)
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
        let counts = self.0.workshop.table.counts();
        let of = |state: State| counts.get(&state).copied().unwrap_or_default();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SagaStatus {
            name: self.name().to_owned(),
            definition: self.0.starting.borrow().plan.digest.clone(),
            running: of(State::Running),
            compensating: of(State::Compensating),
            needs_attention: of(State::NeedsAttention),
            started: read(&self.0.counts.started),
            ignored: read(&self.0.counts.ignored),
            not_started: read(&self.0.counts.not_started),
            replies: read(&self.0.counts.replies),
            unmatched: read(&self.0.counts.unmatched),
            message: self.0.message.lock().unwrap_or_else(PoisonError::into_inner).clone(),
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
    /// `NotFound` for the instance; `FailedPrecondition` when it cannot be done where the instance stands; `Invalid` for the step.
    pub async fn command(&self, name: &str, commanded: Commanded) -> Result<()> {
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
