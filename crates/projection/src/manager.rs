//! The task that keeps a projection's revisions as its spec wants them, and a worker for each partition of each of them that is leased to this
//! process.

mod build;
mod commands;
mod publish;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use headwater_core::{Result, RetryPolicy, StreamId};
use headwater_log::{LogDescriptor, say_failure};
use headwater_resources::projection::{ErrorPolicy, Promotion, QueryState};
use headwater_resources::shared::WorkState;
use headwater_view::{
    Change, ChangeError, NewRevision, Progress, Revision, RevisionRecord, Rollout, RolloutVersion, ViewStore,
};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::desired::Desired;
use crate::heads::Heads;
use crate::plan::{Plan, faults_error};
use crate::rollout::{Next, next};
use crate::status::{ProjectionStatus, lag};
use crate::worker::{Activity, Shared};
use build::Build;

/// The shortest time between two looks at how workers have moved: often enough for people and promotions, rarely enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long nothing may happen before the clock is looked at: a previous revision's end, an error to be tried again.
const IDLE: Duration = Duration::from_secs(1);

/// Decisions in a row before others get their turn: more than any rollout needs.
const STEPS: usize = 16;

/// How a store that fails is tried again.
const RETRY: RetryPolicy = RetryPolicy {
    name: "rollout",
    attempts: u32::MAX,
    initial: Duration::from_millis(200),
    max: Duration::from_secs(10),
};

/// A build that sets aside what the active revision folded.
const BLOCKED: &str = "Blocked";

/// The spec here is older than what others have declared.
const OUTDATED: &str = "Outdated";

/// What a person or a manifest asks for.
pub(crate) enum Command {
    Reconcile(Box<Desired>),
    Promote,
    Rollback,
    Rebuild,
    Pause(bool),
}

/// A command and where its answer goes.
pub(crate) type Request = (Command, oneshot::Sender<Result<()>>);

pub(crate) struct Manager {
    shared: Arc<Shared>,
    store: Arc<dyn ViewStore>,
    requests: mpsc::Receiver<Request>,
    status: watch::Sender<Arc<ProjectionStatus>>,
    policy: watch::Sender<ErrorPolicy>,
    query: watch::Sender<QueryState>,
    stop: CancellationToken,
    desired: Option<Desired>,
    /// Paused by command, whatever the spec says.
    paused: bool,
    builds: HashMap<Revision, Build>,
    /// What stands in the way.
    message: Option<String>,
    /// Why the newest build waits, when it does.
    blocked: Option<&'static str>,
    /// A revision cannot be folded here.
    unfit: bool,
    heads: Heads,
    /// How far revisions are in the store, when that was looked at.
    stored: HashMap<Revision, (Instant, Vec<Progress>)>,
    seen: Seen,
}

/// What there was in the store: only its being emptied, or set back to an older state, makes that untrue.
#[derive(Default)]
struct Seen {
    version: RolloutVersion,
    /// When each revision was made.
    made_at: HashMap<Revision, Timestamp>,
}

impl Seen {
    /// Takes note of `rollout`, unless it contradicts what was seen.
    fn is_followed_by(&mut self, rollout: &Rollout) -> bool {
        let is_other = |record: &RevisionRecord| {
            self.made_at.get(&record.revision).is_some_and(|known| *known != record.created_at)
        };
        if rollout.version < self.version || rollout.revisions.iter().any(is_other) {
            return false;
        }
        self.version = rollout.version;
        self.made_at.extend(rollout.revisions.iter().map(|record| (record.revision, record.created_at)));
        true
    }
}

/// What the manager is made of.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) store: Arc<dyn ViewStore>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) status: watch::Sender<Arc<ProjectionStatus>>,
    pub(crate) policy: watch::Sender<ErrorPolicy>,
    pub(crate) query: watch::Sender<QueryState>,
    pub(crate) stop: CancellationToken,
}

impl Manager {
    pub(crate) fn new(parts: Parts) -> Self {
        let heads = Heads::follow(parts.shared.name.clone(), Arc::clone(&parts.shared.reader));
        Self {
            shared: parts.shared,
            store: parts.store,
            requests: parts.requests,
            status: parts.status,
            policy: parts.policy,
            query: parts.query,
            stop: parts.stop,
            desired: None,
            paused: false,
            builds: HashMap::new(),
            message: None,
            blocked: None,
            unfit: false,
            heads,
            stored: HashMap::new(),
            seen: Seen::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        let mut moved = self.shared.moved.subscribe();
        let mut leases = self.shared.leases.changes();
        let mut failures = 0;
        let mut answer: Option<(oneshot::Sender<Result<()>>, Result<()>)> = None;
        while !self.stop.is_cancelled() {
            moved.borrow_and_update();
            leases.borrow_and_update();
            let wait = match self.work().await {
                Ok(()) => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(projection = self.shared.name, "the rollout goes on");
                    }
                    IDLE
                }
                Err(error) => {
                    failures += 1;
                    say_failure!(failures == 1, projection = self.shared.name, %error, "the rollout has stopped for now and is tried again");
                    self.message = Some(error.to_string());
                    RETRY.delay(failures).unwrap_or(IDLE)
                }
            };
            if let Err(error) = self.publish().await {
                tracing::debug!(projection = self.shared.name, %error, "the status could not be read");
            }
            self.stand();
            // Answered now, a command can be seen in the status. Whoever asked may be gone.
            if let Some((answer, result)) = answer.take() {
                let _ = answer.send(result);
            }
            let looked = Instant::now();
            let moves = async {
                // The sender is ours, so this ends only with a move.
                let _ = moved.changed().await;
                tokio::time::sleep_until(looked + LOOK_EVERY).await;
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                request = self.requests.recv() => match request {
                    Some((command, asker)) => answer = Some((asker, self.command(command).await)),
                    None => break,
                },
                () = moves => {}
                // The sender is the service's.
                _ = leases.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.requests.close();
        for (_, build) in self.builds.drain() {
            build.end().await;
        }
        self.shared.leases.leave().await;
    }

    fn is_folding(&self) -> bool {
        !self.paused && self.desired.as_ref().is_some_and(|desired| desired.state == WorkState::Running)
    }

    /// Makes decisions until there is none left to make.
    async fn work(&mut self) -> Result<()> {
        for _ in 0..STEPS {
            let rollout = self.store.rollout().await?;
            if !self.seen.is_followed_by(&rollout) {
                self.begin_again().await?;
                continue;
            }
            if rollout.version == RolloutVersion::default() {
                // Nothing says whether it was emptied since it was taken: it is taken once more.
                self.store.begin_again().await?;
            }
            self.shared.active.store(rollout.active.map_or(0, |revision| revision.0), Ordering::Relaxed);
            self.message = None;
            self.blocked = None;
            self.run_workers(&rollout).await;
            let Some(desired) = self.desired.clone() else { return Ok(()) };
            let change = match next(&rollout, desired.wanted(), Timestamp::now()) {
                Next::Nothing => return Ok(()),
                Next::Follow => {
                    self.blocked = Some(OUTDATED);
                    self.message = Some(format!(
                        "a newer spec was declared by another process, which decides about revisions; where none is to come any more, \
                         `headwater projections rebuild {}` asked of this one has its spec decide",
                        self.shared.name
                    ));
                    return Ok(());
                }
                Next::Declare(declared) => Change::Declare(Some(declared)),
                Next::Create => Change::Create(self.new_revision(&desired).await?),
                Next::Drop(revision) => {
                    if let Some(build) = self.builds.remove(&revision) {
                        build.end().await;
                    }
                    Change::Drop { revision }
                }
                Next::ReleaseHold => Change::ReleaseHold,
                Next::Promote(revision) => match self.hindrance(&rollout, revision, &desired).await? {
                    None => promotion(revision, &desired, None),
                    Some(hindrance) => {
                        if hindrance == BLOCKED {
                            self.message = Some(format!(
                                "revision {revision} sets events aside that the one before folded: `headwater projections parked {} --revision {revision}` \
                                 lists them; correct the rules, skip the events, or promote it as it is",
                                self.shared.name
                            ));
                        }
                        self.blocked = Some(hindrance);
                        return Ok(());
                    }
                },
            };
            self.change(&rollout, &change).await?;
        }
        Ok(())
    }

    /// Another store is in the place of the one that was seen: what was folded into that is worth nothing, however much the revisions' numbers and
    /// positions look alike.
    async fn begin_again(&mut self) -> Result<()> {
        for (_, build) in self.builds.drain() {
            build.end().await;
        }
        self.stored.clear();
        self.shared.era.fetch_add(1, Ordering::AcqRel);
        self.store.begin_again().await?;
        self.seen = Seen::default();
        tracing::warn!(
            projection = self.shared.name,
            "the read model was emptied, or set back to an older state: it is gone on with from what is there; what is not there is built anew from the log"
        );
        Ok(())
    }

    async fn change(&self, rollout: &Rollout, change: &Change) -> Result<()> {
        match self.store.change(rollout.version, change).await {
            Ok(after) => {
                self.shared.active.store(after.active.map_or(0, |revision| revision.0), Ordering::Relaxed);
                tracing::info!(projection = self.shared.name, what = describe(change, &after), "rollout");
                // Whoever waits for the active revision looks again.
                self.shared.moved.send_modify(|count| *count += 1);
                Ok(())
            }
            // Somebody else decided: look again.
            Err(ChangeError::Stale { .. }) => Ok(()),
            Err(ChangeError::Failed(error)) => Err(error),
        }
    }

    async fn new_revision(&self, desired: &Desired) -> Result<NewRevision> {
        let LogDescriptor { log_id, partitions } = self.shared.reader.descriptor();
        let plan = Plan::compile(&desired.definition, partitions).map_err(|faults| faults_error(&faults))?;
        Ok(NewRevision {
            digest: desired.digest.clone(),
            definition: desired.definition.encode()?,
            tables: plan.tables().to_vec(),
            log_id,
            partitions,
            start: desired.start(&*self.shared.reader, Timestamp::now()).await?,
        })
    }

    /// What keeps `revision` from being promoted by itself.
    async fn hindrance(
        &mut self,
        rollout: &Rollout,
        revision: Revision,
        desired: &Desired,
    ) -> Result<Option<&'static str>> {
        if !self.is_caught_up(revision, desired.rollout.max_lag).await? {
            return Ok(Some("Replaying"));
        }
        // The first revision replaces nothing, so there is nothing to wait for.
        let Some(active) = rollout.active else { return Ok(None) };
        if desired.rollout.promotion == Promotion::Manual {
            return Ok(Some("AwaitingPromotion"));
        }
        let is_parked_more =
            rollout.candidate == Some(revision) && parks_more(&*self.store, revision, active).await?;
        Ok(is_parked_more.then_some(BLOCKED))
    }

    /// Whether all workers of `revision` run, here and elsewhere, and it is at most `max_lag` events behind the log.
    async fn is_caught_up(&mut self, revision: Revision, max_lag: u32) -> Result<bool> {
        if !self.builds.contains_key(&revision) {
            return Ok(false);
        }
        let statuses = self.statuses(revision).await?;
        let is_running = statuses.iter().all(|status| status.activity == Activity::Running);
        // What the workers saw tells when it is worth to ask.
        if !is_running || lag(&statuses, Timestamp::now()).is_none_or(|lag| lag.events > u64::from(max_lag)) {
            return Ok(false);
        }
        let heads = self.shared.reader.heads().await?;
        let progress = self.store.progress(revision).await?;
        let behind: u64 = heads
            .iter()
            .zip(&progress)
            .map(|(head, at)| head.position.get().saturating_sub(at.position.get()))
            .sum();
        Ok(behind <= u64::from(max_lag))
    }
}

fn promotion(revision: Revision, desired: &Desired, hold: Option<String>) -> Change {
    let keep = SignedDuration::try_from(desired.rollout.keep_previous.get()).unwrap_or(SignedDuration::MAX);
    Change::Promote {
        revision,
        keep_until: Timestamp::now().checked_add(keep).unwrap_or(Timestamp::MAX),
        hold,
    }
}

fn describe(change: &Change, after: &Rollout) -> String {
    match change {
        Change::Create(_) => format!("revision {} is being built", after.last_revision),
        Change::Promote { revision, hold: None, .. } => {
            format!("revision {revision} answers queries from now on")
        }
        Change::Promote { revision, .. } => format!("rolled back to revision {revision}"),
        Change::Drop { revision } => format!("revision {revision} is dropped"),
        Change::Declare(_) => "the newest spec is that of this process".to_owned(),
        Change::ReleaseHold => "what was rolled back from may be promoted again".to_owned(),
    }
}

/// Whether `candidate` has parked an event that `active` has not.
async fn parks_more(store: &dyn ViewStore, candidate: Revision, active: Revision) -> Result<bool> {
    const PAGE: usize = 1_000;
    let mut after: Option<StreamId> = None;
    loop {
        let page = store.parked(candidate, after.as_ref(), PAGE, 1).await?;
        for entry in &page {
            let known = store.parked_stream(active, &entry.stream_id, 1).await?;
            let first =
                |entry: &headwater_view::ParkedStream| entry.events.first().map(|event| event.position);
            // What is parked behind the first event is parked because of it.
            if known.is_none_or(|known| first(&known) > first(entry)) {
                return Ok(true);
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.stream_id.clone()),
            _ => return Ok(false),
        }
    }
}
