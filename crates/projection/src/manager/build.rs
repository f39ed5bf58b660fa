//! The workers of this process: one for each partition that is leased to it, of each revision with a role.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use headwater_core::{Partition, Result};
use headwater_view::{Revision, RevisionRecord, Rollout, Standing, Writers};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Manager;
use crate::definition::Definition;
use crate::plan::{Plan, faults_error};
use crate::report;
use crate::worker::{Activity, RevisionWork, Worker, WorkerStatus};

/// A revision that is folded, as far as its partitions are leased to this process.
pub(super) struct Build {
    pub(super) work: Arc<RevisionWork>,
    pub(super) workers: BTreeMap<Partition, Running>,
    pub(super) started: Instant,
    /// Sum of positions when it was first known of all partitions.
    pub(super) first: Option<u64>,
}

pub(super) struct Running {
    status: watch::Receiver<WorkerStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(self, revision: Revision) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%revision, %error, "a worker has panicked");
        }
    }
}

impl Build {
    /// What the worker of `partition` says, where there is one here.
    pub(super) fn status(&self, partition: Partition) -> Option<WorkerStatus> {
        self.workers.get(&partition).map(|worker| worker.status.borrow().clone())
    }

    /// Ends the workers of all partitions but `ours`.
    async fn keep(&mut self, ours: &BTreeSet<Partition>) {
        let workers = std::mem::take(&mut self.workers);
        let (keep, end): (BTreeMap<_, _>, BTreeMap<_, _>) =
            workers.into_iter().partition(|(partition, _)| ours.contains(partition));
        self.workers = keep;
        join_all(end.into_values().map(|worker| worker.end(self.work.revision))).await;
    }

    pub(super) async fn end(mut self) {
        self.keep(&BTreeSet::new()).await;
    }
}

impl Manager {
    /// Sees to it that every revision with a role has a worker for each partition that is leased to this process, and no other has.
    pub(super) async fn run_workers(&mut self, rollout: &Rollout) {
        let previous = rollout.previous.map(|previous| previous.revision);
        let wanted: BTreeSet<Revision> = [rollout.active, rollout.candidate, previous]
            .into_iter()
            .flatten()
            .filter(|_| self.is_folding())
            .collect();
        let ours = self.shared.leases.view().ours;
        // What is begun now is not given up before it has ended.
        self.shared.leases.folding(self.folding().union(&ours).copied().collect());
        let ended: Vec<Revision> =
            self.builds.keys().filter(|revision| !wanted.contains(revision)).copied().collect();
        for revision in ended {
            if let Some(build) = self.builds.remove(&revision) {
                build.end().await;
            }
        }
        join_all(self.builds.values_mut().map(|build| build.keep(&ours))).await;
        self.unfit = false;
        for revision in wanted {
            if !self.builds.contains_key(&revision)
                && let Some(record) = rollout.record(revision)
            {
                match self.start(record) {
                    Ok(build) => {
                        self.builds.insert(revision, build);
                    }
                    Err(error) => {
                        self.message = Some(format!("revision {revision} cannot be folded: {error}"));
                        self.unfit = true;
                    }
                }
            }
            let limit = self.desired.as_ref().map_or(0, |desired| desired.rollout.max_events_per_second);
            let Some(mut build) = self.builds.remove(&revision) else { continue };
            build.work.limiter.set(if rollout.candidate == Some(revision) { limit } else { 0 });
            for partition in &ours {
                if !build.workers.contains_key(partition) {
                    build.workers.insert(*partition, self.spawn(&build.work, *partition));
                }
            }
            self.builds.insert(revision, build);
        }
        self.shared.leases.folding(self.folding());
    }

    /// The partitions that have a worker here.
    fn folding(&self) -> BTreeSet<Partition> {
        self.builds.values().flat_map(|build| build.workers.keys().copied()).collect()
    }

    /// Tells the others what is done here, and whether partitions are to be shared out to this process.
    pub(super) fn stand(&self) {
        let standing = match (self.is_folding(), self.unfit || self.heads.is_silent()) {
            (true, false) => Standing::Folds,
            // Others may see the log, or know how to fold what is new.
            (true, true) => Standing::Reserve,
            (false, _) => Standing::Watches,
        };
        let workers = self.builds.iter().flat_map(|(revision, build)| {
            let activity = |worker: &Running| worker.status.borrow().activity.clone();
            build.workers.iter().map(move |(partition, worker)| (*revision, *partition, activity(worker)))
        });
        self.shared.leases.stand(standing, report::write(workers));
    }

    fn start(&self, record: &RevisionRecord) -> Result<Build> {
        let partitions = self.shared.reader.descriptor().partitions;
        let definition = Definition::decode(&record.definition)?;
        let plan = Plan::compile(&definition, partitions).map_err(|faults| faults_error(&faults))?;
        let is_shared = plan.tables().iter().any(|table| table.writers == Writers::ManyStreams);
        let work = Arc::new(RevisionWork {
            revision: record.revision,
            event_types: plan.event_types()?,
            plan: Arc::new(plan),
            limiter: crate::limiter::Limiter::default(),
            turn: is_shared.then(Arc::default),
        });
        Ok(Build { work, workers: BTreeMap::new(), started: Instant::now(), first: None })
    }

    fn spawn(&self, work: &Arc<RevisionWork>, partition: Partition) -> Running {
        let stop = self.stop.child_token();
        let starting = WorkerStatus { progress: None, head: None, activity: Activity::Starting };
        let (sender, status) = watch::channel(starting);
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            work: Arc::clone(work),
            partition,
            status: sender,
            stop: stop.clone(),
        };
        Running { status, stop, task: tokio::spawn(worker.run()) }
    }
}
