//! The status, put together from the rollout and from what the workers say.

use std::collections::HashMap;
use std::sync::Arc;

use headwater_core::{Positions, Result};
use headwater_resources::shared::WorkState;
use headwater_view::{Revision, RevisionRecord, Rollout};
use jiff::Timestamp;

use super::Manager;
use crate::status::{Pace, ProjectionStatus, RevisionStatus, token};
use crate::worker::{Activity, WorkerStatus};

impl Manager {
    pub(super) async fn publish(&mut self) -> Result<()> {
        let rollout = self.store.rollout().await?;
        let now = Timestamp::now();
        for build in self.builds.values_mut().filter(|build| build.first.is_none()) {
            let statuses = build.statuses();
            if statuses.iter().all(|status| status.progress.is_some()) {
                build.first = Some(
                    statuses.iter().filter_map(|status| status.progress).map(|at| at.position.get()).sum(),
                );
            }
        }
        let mut statuses = HashMap::new();
        for record in &rollout.revisions {
            statuses.insert(record.revision, self.statuses(&rollout, record).await?);
        }
        let show = |revision: Option<Revision>| {
            let record = rollout.record(revision?)?;
            let pace = self.pace(record.revision, &rollout.start);
            Some(RevisionStatus::new(record, rollout.previous, statuses.get(&record.revision)?, pace, now))
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

    /// How far the revision is: as its workers say, or as the store does where there are none.
    async fn statuses(&self, rollout: &Rollout, record: &RevisionRecord) -> Result<Vec<WorkerStatus>> {
        let mut statuses = match self.builds.get(&record.revision) {
            Some(build) => build.statuses(),
            None => Vec::new(),
        };
        let partitions = rollout.log.map_or(0, |(_, partitions)| partitions.get());
        if statuses.len() != partitions || statuses.iter().any(|status| status.progress.is_none()) {
            let activity = |number: usize| {
                statuses.get(number).map_or(Activity::Ended, |status| status.activity.clone())
            };
            let progress = self.store.progress(record.revision).await?;
            let heads = self.shared.reader.heads().await?;
            statuses = progress
                .into_iter()
                .zip(heads)
                .enumerate()
                .map(|(number, (progress, head))| WorkerStatus {
                    progress: Some(progress),
                    head: Some(head.position),
                    activity: activity(number),
                })
                .collect();
        }
        Ok(statuses)
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
