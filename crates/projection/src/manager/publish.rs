//! The status, put together from the rollout and from what the workers say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Partition, Positions, Result};
use headwater_resources::shared::WorkState;
use headwater_view::{Progress, Revision, Rollout};
use jiff::Timestamp;
use tokio::time::Instant;

use super::Manager;
use crate::report;
use crate::status::{Pace, ProjectionStatus, RevisionStatus, WorkerShare, token};
use crate::worker::{Activity, WorkerStatus};

/// How old what is known of the store may be: others move it.
const STORED: Duration = Duration::from_millis(300);

impl Manager {
    pub(super) async fn publish(&mut self) -> Result<()> {
        let rollout = self.store.rollout().await?;
        let now = Timestamp::now();
        self.stored.retain(|revision, _| rollout.record(*revision).is_some());
        let mut statuses = HashMap::new();
        for record in &rollout.revisions {
            let revision = record.revision;
            let workers = self.statuses(revision).await?;
            if let Some(build) = self.builds.get_mut(&revision).filter(|build| build.first.is_none())
                && workers.iter().all(|worker| worker.progress.is_some())
            {
                build.first = Some(
                    workers.iter().filter_map(|worker| worker.progress).map(|at| at.position.get()).sum(),
                );
            }
            statuses.insert(revision, workers);
        }
        let leases = self.shared.leases.view();
        let show = |revision: Option<Revision>| {
            let record = rollout.record(revision?)?;
            let pace = self.pace(record.revision, &rollout.start);
            let workers = statuses.get(&record.revision)?;
            Some(RevisionStatus::new(record, rollout.previous, workers, pace, &leases, now))
        };
        let active = show(rollout.active);
        let candidate = show(rollout.candidate);
        let log_id = self.shared.reader.descriptor().log_id;
        let status = ProjectionStatus {
            name: self.shared.name.clone(),
            state: self.state().to_owned(),
            digest: self.desired.as_ref().map(|desired| desired.digest.clone()).unwrap_or_default(),
            rollout: self.summary(&rollout, candidate.as_ref()),
            message: self.message.clone(),
            token: rollout
                .active
                .and_then(|active| statuses.get(&active))
                .map(|workers| token(log_id, workers).to_string()),
            lag: active.as_ref().and_then(|active| active.lag),
            parked: active.as_ref().map_or(0, |active| active.parked),
            previous: show(rollout.previous.map(|previous| previous.revision)),
            held_digest: rollout.held_digest,
            workers: WorkerShare::all(&leases),
            active,
            candidate,
        };
        self.status.send_if_modified(|known| {
            let is_new = **known != status;
            if is_new {
                *known = Arc::new(status);
            }
            is_new
        });
        Ok(())
    }

    /// How far each partition of the revision is: as its worker here says, or else as the store and its holder do.
    pub(super) async fn statuses(&mut self, revision: Revision) -> Result<Vec<WorkerStatus>> {
        let partitions = self.shared.reader.descriptor().partitions;
        let build = self.builds.get(&revision);
        let here: Vec<Option<WorkerStatus>> = partitions
            .partitions()
            .map(|partition| build.and_then(|build| build.status(partition)))
            .collect();
        let is_known =
            |status: &Option<WorkerStatus>| status.as_ref().is_some_and(|status| status.progress.is_some());
        let is_built = build.is_some();
        if here.iter().all(is_known) {
            return Ok(here.into_iter().flatten().collect());
        }
        let stored = self.stored(revision).await?;
        let leases = self.shared.leases.view();
        let status = |(partition, here): (Partition, Option<WorkerStatus>)| {
            let activity = match (&here, leases.holder(partition)) {
                (Some(here), _) => here.activity.clone(),
                (None, Some(member)) if is_built => report::read(member, revision, partition),
                (None, None) if is_built => Activity::Starting,
                (None, _) => Activity::Ended,
            };
            let (progress, head) = here.map_or((None, None), |here| (here.progress, here.head));
            WorkerStatus {
                progress: progress.or_else(|| stored.get(partition.index()).copied()),
                head: head.max(self.heads.of(partition)),
                activity,
            }
        };
        Ok(partitions.partitions().zip(here).map(status).collect())
    }

    /// How far the revision is in the store, a moment ago at most.
    async fn stored(&mut self, revision: Revision) -> Result<Vec<Progress>> {
        if let Some((at, progress)) = self.stored.get(&revision)
            && at.elapsed() < STORED
        {
            return Ok(progress.clone());
        }
        let progress = self.store.progress(revision).await?;
        self.stored.insert(revision, (Instant::now(), progress.clone()));
        Ok(progress)
    }

    fn pace(&self, revision: Revision, start: &Positions) -> Option<Pace> {
        let build = self.builds.get(&revision)?;
        let start = start.iter().map(|(_, position)| position.get()).sum();
        Some(Pace { start, first: build.first?, elapsed: build.started.elapsed() })
    }

    fn state(&self) -> &'static str {
        match self.desired.as_ref().map(|desired| desired.state) {
            Some(WorkState::Stopped) => "Stopped",
            Some(WorkState::Paused) => "Paused",
            _ if self.paused => "Paused",
            _ => "Running",
        }
    }

    fn summary(&self, rollout: &Rollout, candidate: Option<&RevisionStatus>) -> String {
        match (self.blocked, candidate) {
            (Some("Replaying") | None, Some(candidate)) => match candidate.percent {
                Some(percent) => format!("Replaying {percent}%"),
                None => "Replaying".to_owned(),
            },
            (Some(blocked), _) => blocked.to_owned(),
            (None, None) if rollout.held_digest.is_some() => "RolledBack".to_owned(),
            (None, None) if rollout.active.is_none() => "Pending".to_owned(),
            (None, None) => "Current".to_owned(),
        }
    }
}
