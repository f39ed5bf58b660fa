//! Each kind of resource: what it asks for, what its workers are asked, and what its status says.

use std::fmt::Debug;

use headwater_resources::event_stream::EventStreamStatus;
use headwater_resources::projection::{
    ActiveRevision, CandidateRevision, Lag, PreviousRevision, ProjectionStatus, Promotion,
};
use headwater_resources::saga::SagaStatus;
use headwater_resources::shared::{Address, Count, Duration, LocalRef, Reason, RunState, WorkState};
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ask::{Head, LagState, ProjectionState, RevisionState, SagaState, Workers};
use crate::children::binding_name;
use crate::observe::labels;
use crate::part::{Kind, Owner, Resource};
use crate::status::{CaughtUp, Facts, Wants};

/// A kind of resource that the operator keeps.
pub trait Kept:
    kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Which.
    const KIND: Kind;
    /// What its workers say of it.
    type State: Debug + Send + Sync;

    /// It, whatever its kind.
    fn resource(&self) -> Resource;
    /// What it is to be.
    fn wants(&self) -> Wants;
    /// Its status, as it is written.
    fn status(&self) -> Value;
    /// The conditions of its status.
    fn conditions(&self) -> &[Condition];
    /// Asks its workers.
    fn ask(workers: &Workers, owner: &Owner) -> impl Future<Output = anyhow::Result<Self::State>> + Send;
    /// What follows from what they say.
    fn conclude(&self, state: &Self::State, facts: &mut Facts);
    /// The status that it is to have.
    fn next(&self, stand: &Stand, state: Option<&Self::State>) -> Value;
}

/// What statuses of all kinds say.
#[derive(Debug, Clone, Default)]
pub struct Stand {
    /// Whose it is.
    pub owner: Option<Owner>,
    /// The generation that it is about.
    pub generation: i64,
    /// How it stands.
    pub conditions: Vec<Condition>,
    /// Where it answers.
    pub url: Option<String>,
    /// Pods that there are, those that are ready, and those that are wanted.
    pub pods: Option<(i32, i32, i32)>,
}

impl Stand {
    fn replicas(&self) -> Option<i32> {
        self.pods.map(|(there, ..)| there)
    }

    fn replicas_ready(&self) -> Option<String> {
        self.pods.map(|(_, ready, wanted)| format!("{ready}/{wanted}"))
    }

    fn selector(&self) -> Option<String> {
        self.owner.as_ref().map(labels)
    }

    fn address(&self) -> Option<Address> {
        self.url.clone().map(|url| Address { url: Some(url) })
    }
}

fn as_json(status: &impl serde::Serialize) -> Value {
    serde_json::to_value(status).unwrap_or_else(|error| unreachable!("a status has a JSON form: {error}"))
}

impl Kept for EventStream {
    const KIND: Kind = Kind::EventStream;
    type State = Head;

    fn resource(&self) -> Resource {
        Resource::EventStream(Box::new(self.clone()))
    }

    fn wants(&self) -> Wants {
        if self.spec.state == RunState::Stopped { Wants::Stopped } else { Wants::Running }
    }

    fn status(&self) -> Value {
        as_json(&self.status)
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    async fn ask(workers: &Workers, owner: &Owner) -> anyhow::Result<Head> {
        workers.ask(owner, "/v1/head").await
    }

    fn conclude(&self, _: &Head, _: &mut Facts) {}

    fn next(&self, stand: &Stand, state: Option<&Head>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let name = stand.owner.as_ref().map(|owner| owner.name.clone()).unwrap_or_default();
        let (log_id, head) = match state {
            Some(state) => {
                let head = state.partitions.iter().map(|it| it.position.0).sum();
                (Some(state.log_id.clone()), Some(Count(head)))
            }
            None => (before.log_id, before.head),
        };
        as_json(&EventStreamStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            address: stand.address(),
            binding: stand.url.as_ref().map(|_| LocalRef { name: binding_name(&name) }),
            log_id,
            head,
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: stand.selector(),
            // Their epochs are not asked for yet.
            partitions: Vec::new(),
        })
    }
}

fn wants(state: WorkState) -> Wants {
    match state {
        WorkState::Running => Wants::Running,
        WorkState::Paused => Wants::Paused,
        WorkState::Stopped => Wants::Stopped,
    }
}

impl Kept for Projection {
    const KIND: Kind = Kind::Projection;
    type State = ProjectionState;

    fn resource(&self) -> Resource {
        Resource::Projection(Box::new(self.clone()))
    }

    fn wants(&self) -> Wants {
        wants(self.spec.state)
    }

    fn status(&self) -> Value {
        as_json(&self.status)
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    async fn ask(workers: &Workers, owner: &Owner) -> anyhow::Result<ProjectionState> {
        workers.ask(owner, &format!("/v1/admin/projections/{}", owner.name)).await
    }

    fn conclude(&self, state: &ProjectionState, facts: &mut Facts) {
        facts.caught_up = state
            .lag
            .as_ref()
            .map(|lag| CaughtUp { events: lag.events.0, most: u64::from(self.spec.rollout.max_lag) });
        if state.parked > 0 {
            let message = format!(
                "{} events are set aside: `kubectl headwater parked` shows them, and replays or skips them",
                state.parked
            );
            facts.attention = Some((Reason::EventsParked, message));
        }
        facts.rebuilding = match &state.candidate {
            Some(candidate)
                if candidate.percent == Some(100) && self.spec.rollout.promotion == Promotion::Manual =>
            {
                Some((true, Reason::AwaitingPromotion, state.rollout.clone()))
            }
            Some(_) => Some((true, Reason::Replaying, state.rollout.clone())),
            None if state.active.is_some() => Some((false, Reason::Promoted, state.rollout.clone())),
            None => None,
        };
    }

    fn next(&self, stand: &Stand, state: Option<&ProjectionState>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let mut status = ProjectionStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            address: stand.address(),
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: stand.selector(),
            ..before
        };
        if let Some(state) = state {
            status.active = state.active.as_ref().map(active);
            status.candidate = state.candidate.as_ref().map(candidate);
            status.previous = state.previous.as_ref().map(previous);
            status.held_digest.clone_from(&state.held_digest);
            status.rollout = Some(state.rollout.chars().take(253).collect());
            status.lag = state.lag.as_ref().map(coarse);
            status.parked = Some(state.parked as i64);
            let is_ready = stand.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
            if is_ready && state.candidate.is_none() {
                status.last_handled_rebuild_token = Some(self.spec.rebuild_token.clone());
            }
        }
        as_json(&status)
    }
}

fn active(it: &RevisionState) -> ActiveRevision {
    ActiveRevision { revision: it.revision, digest: it.digest.clone(), since: Some(Time(it.created_at)) }
}

fn candidate(it: &RevisionState) -> CandidateRevision {
    CandidateRevision {
        revision: it.revision,
        digest: it.digest.clone(),
        percent: it.percent.map(i32::from),
        // In minutes from one minute on: it is an estimate, and each change is a write.
        eta: it
            .eta_seconds
            .map(|seconds| Duration::from_secs(if seconds < 60 { seconds } else { seconds / 60 * 60 })),
        started_at: Some(Time(it.created_at)),
    }
}

fn previous(it: &RevisionState) -> PreviousRevision {
    PreviousRevision { revision: it.revision, until: it.until.map(Time) }
}

/// Lag by its first digit: how far behind it is, and no write for each event.
fn coarse(lag: &LagState) -> Lag {
    Lag { events: Count(rounded(lag.events.0)), seconds: rounded(lag.seconds) as i64 }
}

fn rounded(number: u64) -> u64 {
    match number.checked_ilog10() {
        Some(digits) => number / 10_u64.pow(digits) * 10_u64.pow(digits),
        None => 0,
    }
}

impl Kept for Saga {
    const KIND: Kind = Kind::Saga;
    type State = SagaState;

    fn resource(&self) -> Resource {
        Resource::Saga(Box::new(self.clone()))
    }

    fn wants(&self) -> Wants {
        wants(self.spec.state)
    }

    fn status(&self) -> Value {
        as_json(&self.status)
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    async fn ask(workers: &Workers, owner: &Owner) -> anyhow::Result<SagaState> {
        workers.ask(owner, &format!("/v1/sagas/{}", owner.name)).await
    }

    fn conclude(&self, state: &SagaState, facts: &mut Facts) {
        if state.needs_attention > 0 {
            let message = format!(
                "{} instances cannot go on: `kubectl headwater sagas` shows them, and retries, skips or aborts them",
                state.needs_attention
            );
            facts.attention = Some((Reason::InstancesStuck, message));
        }
    }

    fn next(&self, stand: &Stand, state: Option<&SagaState>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let mut status = SagaStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: stand.selector(),
            ..before
        };
        if let Some(state) = state {
            status.running = Some(state.running as i64);
            status.compensating = Some(state.compensating as i64);
            status.needs_attention = Some(state.needs_attention as i64);
        }
        as_json(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn lag_is_written_by_its_first_digit() {
        for (number, written) in
            [(0, 0), (7, 7), (19, 10), (999, 900), (123_456, 100_000), (u64::MAX, 10_u64.pow(19))]
        {
            assert_eq!(rounded(number), written);
        }
    }
}
