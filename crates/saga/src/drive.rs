//! Works on one instance until it has ended or waits.
//!
//! ```text
//! read its history ─▶ decide ─▶ record ─▶ send ─▶ answer ─┐
//!                       ▲                                  │
//!                       └──────── news, time ◀─────────────┘
//! ```
//! Everything is recorded at the version that was decided on: whoever else works on the same instance makes this fail, and what is
//! then read is decided on anew. Keys do not depend on who sends.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use headwater_core::{Error, RecordedEvent, Result, Version};
use headwater_log::{Backoff, Clock, say_failure};
use jiff::Timestamp;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::call::{Answer, Call, Caller};
use crate::decide::{self, Busy, Todo};
use crate::definition::Definition;
use crate::history::{Direction, Entry};
use crate::instance::{Instance, Stage, State};
use crate::journal::{Journal, Waiting};
use crate::metrics::SagaMetrics;
use crate::plan::Plan;
use crate::show::Line;
use crate::table::Table;
use crate::traced;
use crate::variables::{self, Names};

/// The definitions that instances follow, by digest.
#[derive(Debug, Default)]
pub(crate) struct Plans(RwLock<HashMap<String, Arc<Plan>>>);

impl Plans {
    pub(crate) fn get(&self, digest: &str) -> Option<Arc<Plan>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Plan>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, plan: Arc<Plan>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(plan.digest.clone(), plan);
    }
}

/// What working on instances needs.
pub(crate) struct Workshop {
    pub(crate) names: Names,
    pub(crate) journal: Journal,
    pub(crate) plans: Plans,
    pub(crate) caller: Arc<dyn Caller>,
    pub(crate) clock: Clock,
    /// Whether instances are worked on.
    pub(crate) working: watch::Receiver<bool>,
    pub(crate) table: Table,
    pub(crate) metrics: SagaMetrics,
    /// Who wants to know what happens to instances, as it does.
    pub(crate) told: broadcast::Sender<Told>,
    pub(crate) stop: CancellationToken,
}

/// Something that has happened to an instance.
#[derive(Debug, Clone)]
pub struct Told {
    /// The instance.
    pub instance: String,
    /// What.
    pub line: Line,
}

/// What came of working on an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing more comes.
    Ended(State),
    /// It waits: for news, or until then.
    Waits(State, Option<Timestamp>),
    /// It could go on, and nobody works.
    Stopped(State),
}

/// What was answered and is not recorded yet.
struct Answered {
    step: (usize, Direction),
    answer: Answer,
    sent_at: Timestamp,
}

type Sent = BoxFuture<'static, Answered>;

impl Workshop {
    /// The instance as its history says; `None` when it has none.
    ///
    /// # Errors
    /// As the log; `Corrupt` when the history contradicts itself.
    pub(crate) async fn load(&self, name: &str) -> Result<Option<(Arc<Plan>, Instance)>> {
        self.fold(name, &self.journal.history(name, Version::ZERO).await?).await
    }

    /// The instance as its whole history, `events`, says; `None` when that is empty.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) async fn fold(
        &self,
        name: &str,
        events: &[RecordedEvent],
    ) -> Result<Option<(Arc<Plan>, Instance)>> {
        let Some((first, rest)) = events.split_first() else { return Ok(None) };
        let Entry::Started(started) = Entry::decode(first)? else {
            return Err(Error::corrupt(format!(
                "the history of instance \"{name}\" begins with {}",
                first.event_type
            )));
        };
        let plan = self.plan(&started.definition).await?;
        let mut instance = Instance::new(&plan, started, first.recorded_at);
        for event in rest {
            instance.apply(&plan, &Entry::decode(event)?, event.recorded_at)?;
        }
        Ok(Some((plan, instance)))
    }

    async fn plan(&self, digest: &str) -> Result<Arc<Plan>> {
        if let Some(plan) = self.plans.get(digest) {
            return Ok(plan);
        }
        self.read_definitions().await?;
        self.plans.get(digest).ok_or_else(|| {
            Error::corrupt(format!(
                "the definition {digest} that an instance follows is not in the saga's log"
            ))
        })
    }

    /// Has instances follow `plan`, compiled from `definition`: keeps it, unless it is known.
    ///
    /// # Errors
    /// As the log.
    pub(crate) async fn define(&self, plan: &Arc<Plan>, definition: &Definition) -> Result<()> {
        if self.plans.get(&plan.digest).is_none() {
            self.journal.define(&plan.digest, definition).await?;
            self.plans.insert(Arc::clone(plan));
        }
        Ok(())
    }

    /// Compiles the definitions in the log that are not known yet.
    ///
    /// # Errors
    /// As the log.
    pub(crate) async fn read_definitions(&self) -> Result<()> {
        for definition in self.journal.definitions().await? {
            if self.plans.get(&definition.digest()?).is_none() {
                self.plans.insert(Arc::new(Plan::compile(&definition)?));
            }
        }
        Ok(())
    }

    /// Reads what was added to the history by others.
    async fn catch_up(&self, plan: &Plan, instance: &mut Instance) -> Result<()> {
        let name = instance.started.instance.clone();
        self.table.is_read(&name);
        for event in self.journal.history(&name, instance.version).await? {
            instance.apply(plan, &Entry::decode(&event)?, event.recorded_at)?;
        }
        Ok(())
    }

    /// Takes the instance `name` as far as it goes.
    ///
    /// # Errors
    /// As [`load`](Self::load); `Cancelled` at a shutdown: what is under way may be sent again later, under the same keys.
    pub(crate) async fn drive(&self, name: &str, news: &Notify) -> Result<Rest> {
        self.table.is_read(name);
        let Some((plan, mut instance)) = self.load(name).await? else {
            return Ok(Rest::Ended(State::Completed));
        };
        let mut busy = Busy::new();
        let mut under_way: FuturesUnordered<Sent> = FuturesUnordered::new();
        let mut answered: Vec<Answered> = Vec::new();
        let mut working = self.working.clone();
        loop {
            // What was sent is answered, and that is recorded; nothing more is sent.
            let stopped = !*working.borrow_and_update();
            if stopped && under_way.is_empty() && answered.is_empty() {
                return Ok(Rest::Stopped(instance.state()));
            }
            let now = self.clock.now();
            let mut next = instance.clone();
            let mut entries = Vec::new();
            for Answered { step, answer, sent_at } in &answered {
                for entry in decide::conclude(&plan, &next, *step, answer.clone(), *sent_at, now) {
                    next.apply(&plan, &entry, now)?;
                    entries.push(entry);
                }
            }
            if !stopped {
                entries.extend(decide::advance(&self.names, &plan, &mut next, &busy, now)?);
            }
            if !entries.is_empty() {
                match self.journal.record(name, instance.version, &entries).await {
                    Ok(()) => {
                        instance = next;
                        self.table.is_doing(name, instance.state());
                        self.say(&instance, &entries, now);
                    }
                    Err(Error::WrongVersion { .. }) => {
                        self.catch_up(&plan, &mut instance).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            answered.clear();
            if let Some(ended) = instance.ended {
                return Ok(Rest::Ended(ended));
            }
            let todo = if stopped { Todo::default() } else { decide::todo(&plan, &instance, &busy, now) };
            for (task, direction) in todo.calls {
                busy.insert((task, direction));
                under_way.push(self.send(&plan, &instance, task, direction));
            }
            if under_way.is_empty() && !stopped {
                return Ok(Rest::Waits(instance.state(), todo.wake));
            }
            let alarm = async {
                match todo.wake {
                    Some(wake) => tokio::time::sleep(until(now, wake)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::Cancelled),
                Some(one) = under_way.next() => {
                    busy.remove(&one.step);
                    answered.push(one);
                    // Those that came together are recorded together.
                    while let Some(Some(more)) = futures_util::FutureExt::now_or_never(under_way.next()) {
                        busy.remove(&more.step);
                        answered.push(more);
                    }
                }
                () = news.notified() => self.catch_up(&plan, &mut instance).await?,
                Ok(()) = working.changed() => {}
                () = alarm => {}
            }
        }
    }

    /// Sends a step's request; where it waits for a reply, that is known before.
    fn send(&self, plan: &Arc<Plan>, instance: &Instance, task: usize, direction: Direction) -> Sent {
        let (names, clock) = (self.names.clone(), self.clock.clone());
        let (caller, journal) = (Arc::clone(&self.caller), self.journal.clone());
        let metrics = self.metrics.clone();
        let prepared = variables::call(&names, plan, instance, task, direction);
        let known = &plan.tasks[task];
        let name = known.name.clone();
        let wait = match (direction, &known.awaits) {
            (Direction::Do, Some(awaits))
                if !matches!(instance.tasks[task].forward.stage, Stage::Sent(_)) =>
            {
                let waiting = Waiting {
                    instance: instance.started.instance.clone(),
                    step: known.name.clone(),
                    events: awaits.events().cloned().collect(),
                };
                let value = variables::correlation(instance, known);
                value.map(|value| value.map(|value| (awaits.event.source().to_owned(), value, waiting)))
            }
            _ => Ok(None),
        };
        Box::pin(async move {
            let step = (task, direction);
            let unanswered = |reason: String| Answer::Unanswered { reason };
            let answer = match (prepared, wait) {
                // What could be made when the step was begun can be made now: both see the same history.
                (Err(reason), _) | (_, Err(reason)) => Answer::Failure { reason, response: None },
                (Ok(mut call), Ok(wait)) => {
                    let kept = match &wait {
                        Some((expression, value, waiting)) => {
                            journal.wait(&call.key, expression, value, waiting).await
                        }
                        None => Ok(()),
                    };
                    let sent_at = clock.now();
                    let answer = match kept {
                        Ok(()) => {
                            let begun = Instant::now();
                            let span = traced::attempt(&names.saga, &name, direction, &mut call);
                            let answer = tried(&*caller, &call).instrument(span.clone()).await;
                            traced::answered(&span, &call.request, &answer);
                            metrics.called(&names.saga, &call.request, direction, &answer, begun.elapsed());
                            answer
                        }
                        Err(error) => unanswered(format!("nothing was sent: {error}")),
                    };
                    return Answered { step, answer, sent_at };
                }
            };
            Answered { step, answer, sent_at: clock.now() }
        })
    }

    fn say(&self, instance: &Instance, entries: &[Entry], now: Timestamp) {
        for entry in entries {
            if self.told.receiver_count() > 0 {
                let (instance, line) = (instance.started.instance.clone(), Line::of(entry, now));
                // Whoever listened is gone.
                let _ = self.told.send(Told { instance, line });
            }
            match entry {
                Entry::AttentionNeeded(attention) => tracing::warn!(
                    saga = self.names.saga,
                    instance = instance.started.instance,
                    "needs attention: {}",
                    attention.reason
                ),
                Entry::Turned(turned) => tracing::info!(
                    saga = self.names.saga,
                    instance = instance.started.instance,
                    "turns back: {}",
                    turned.reason
                ),
                Entry::Completed(_) => self.metrics.finished(&self.names.saga, State::Completed),
                Entry::Compensated(_) => self.metrics.finished(&self.names.saga, State::Compensated),
                _ => {}
            }
        }
    }
}

/// Sends the call, as soon as this process can.
async fn tried(caller: &dyn Caller, call: &Call) -> Answer {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        match caller.call(call).await {
            Answer::NotTried { reason } => {
                say_failure!(backoff.is_unused(), key = call.key, "a step cannot be sent yet: {reason}");
                tokio::time::sleep(backoff.pause()).await;
            }
            answer => {
                if backoff.reset() {
                    tracing::info!(key = call.key, "a step that could not be sent is sent");
                }
                return answer;
            }
        }
    }
}

/// How long it is until `time`; at least a millisecond, the finest that is waited for.
pub(crate) fn until(now: Timestamp, time: Timestamp) -> std::time::Duration {
    let left = std::time::Duration::try_from(time.duration_since(now)).unwrap_or_default();
    left.max(std::time::Duration::from_millis(1))
}
