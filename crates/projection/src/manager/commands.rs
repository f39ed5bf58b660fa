//! What people and manifests ask for.

use headwater_core::{Error, Result};
use headwater_resources::projection::QueryState;
use headwater_resources::shared::WorkState;
use headwater_view::{Change, Revision};

use super::{Command, Manager, promotion};
use crate::desired::Desired;
use crate::plan::{Plan, faults_error};

impl Manager {
    pub(super) async fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Reconcile(desired) => self.reconcile(*desired),
            Command::Pause(paused) => {
                if let Some(state) = self.desired.as_ref().map(|desired| desired.state)
                    && state != WorkState::Running
                    && !paused
                {
                    return Err(Error::failed_precondition(format!(
                        "resuming: its manifest says `state: {state:?}`; write `state: Running` there"
                    )));
                }
                self.paused = paused;
                // Also the way to have halted partitions try again.
                self.shared.decided.notify_waiters();
                Ok(())
            }
            Command::Promote => self.promote().await,
            Command::Rollback => self.rollback().await,
            Command::Rebuild => self.rebuild().await,
        }
    }

    fn reconcile(&mut self, desired: Desired) -> Result<()> {
        let partitions = self.shared.reader.descriptor().partitions;
        Plan::compile(&desired.definition, partitions).map_err(|faults| faults_error(&faults))?;
        self.policy.send_replace(desired.policy);
        self.query.send_replace(if desired.state == WorkState::Stopped {
            QueryState::Disabled
        } else {
            desired.query
        });
        if self.desired.as_ref().is_some_and(|known| known.state != desired.state) {
            self.paused = false;
        }
        self.desired = Some(desired);
        // A changed policy may let a halted partition go on.
        self.shared.decided.notify_waiters();
        Ok(())
    }

    fn desired(&self) -> Result<Desired> {
        self.desired
            .clone()
            .ok_or_else(|| Error::failed_precondition("the projection has not been declared yet"))
    }

    async fn promote(&mut self) -> Result<()> {
        let desired = self.desired()?;
        let rollout = self.store.rollout().await?;
        let digest = desired.wanted().deciding(&rollout);
        let wanted =
            |revision: &Revision| rollout.record(*revision).is_some_and(|record| record.digest == digest);
        let previous = rollout.previous.map(|previous| previous.revision).filter(wanted);
        let revision = rollout.candidate.or(previous).ok_or_else(|| {
            Error::failed_precondition(
                "promoting: there is no candidate, and the previous revision is not what the spec says; change the spec or rebuild",
            )
        })?;
        if !self.is_caught_up(revision, desired.rollout.max_lag).await? {
            return Err(Error::failed_precondition(format!(
                "promoting revision {revision}: it has not caught up to within {} events yet; wait, or raise rollout.maxLag",
                desired.rollout.max_lag
            )));
        }
        self.change(&rollout, &promotion(revision, &desired, None)).await
    }

    async fn rollback(&mut self) -> Result<()> {
        let desired = self.desired()?;
        let mut rollout = self.store.rollout().await?;
        let (Some(previous), Some(active)) = (rollout.previous, rollout.active_record().cloned()) else {
            return Err(Error::failed_precondition(
                "rolling back: there is no previous revision; revert the spec, which builds it again",
            ));
        };
        // A build of what is rolled back from would bring it back.
        if let Some(candidate) = rollout.candidate.filter(|candidate| {
            rollout.record(*candidate).is_some_and(|record| record.digest == active.digest)
        }) {
            if let Some(build) = self.builds.remove(&candidate) {
                build.end().await;
            }
            rollout = self.store.change(rollout.version, &Change::Drop { revision: candidate }).await?;
        }
        self.change(&rollout, &promotion(previous.revision, &desired, Some(active.digest))).await
    }

    async fn rebuild(&mut self) -> Result<()> {
        let desired = self.desired()?;
        let mut rollout = self.store.rollout().await?;
        if desired.wanted().is_outdated(&rollout) {
            // A person says that this one counts; where those with a newer one still run, they say otherwise at once.
            let declared = Change::Declare(desired.wanted().declared());
            rollout = self.store.change(rollout.version, &declared).await?;
        }
        if let Some(candidate) = rollout.candidate {
            if let Some(build) = self.builds.remove(&candidate) {
                build.end().await;
            }
            rollout = self.store.change(rollout.version, &Change::Drop { revision: candidate }).await?;
        }
        let new = self.new_revision(&desired).await?;
        self.change(&rollout, &Change::Create(new)).await
    }
}
