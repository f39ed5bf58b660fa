//! Each kind of resource: what it asks for, what its workers are asked, and what its status says.

use std::fmt::Debug;

use headwater_core::BackendFault;
use headwater_resources::event_stream::{EventStreamStatus, PartitionStatus};
use headwater_resources::projection::{
    ActiveRevision, CandidateRevision, Lag, PreviousRevision, ProjectionStatus, Promotion,
};
use headwater_resources::saga::{GENERATIONS, SagaStatus};
use headwater_resources::shared::{
    Address, ConditionType, Count, Duration, LocalRef, Reason, RunState, WorkState,
};
use headwater_resources::{ADOPT, EventStream, Projection, Saga};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::ask::{
    Address as Workplace, Answer, FoldState, LagState, Log, LogPartition, ProjectionState, RevisionState,
    SagaState, Workers,
};
use crate::children::binding_name;
use crate::observe::labels;
use crate::part::{Kind, Owner, Resource};
use crate::status::{Backend, CaughtUp, Facts, Pods, Said, Wants, is_ready, is_true};

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
    fn ask(workers: &Workers, at: &Workplace) -> impl Future<Output = Answer<Self::State>> + Send;
    /// What follows from what they say, or do not.
    fn conclude(&self, answer: &Answer<Self::State>, facts: &mut Facts);
    /// The status that it is to have.
    fn next(&self, stand: &Stand, state: Option<&Self::State>) -> Value;
}

/// What statuses of all kinds say.
#[derive(Debug, Clone)]
pub struct Stand {
    /// Whose it is.
    pub owner: Owner,
    /// The generation that it is about.
    pub generation: i64,
    /// How it stands.
    pub conditions: Vec<Condition>,
    /// Where it answers.
    pub url: String,
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

    fn selector(&self) -> String {
        labels(&self.owner)
    }

    fn address(&self) -> Address {
        Address { url: Some(self.url.clone()) }
    }
}

fn as_json(status: &impl serde::Serialize) -> Value {
    serde_json::to_value(status).unwrap_or_else(|error| unreachable!("a status has a JSON form: {error}"))
}

impl Kept for EventStream {
    const KIND: Kind = Kind::EventStream;
    type State = Log;

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

    /// Each pod says of the partitions that it relays how far they are on the bus.
    async fn ask(workers: &Workers, at: &Workplace) -> Answer<Log> {
        let (mut logs, mut refused) = (Vec::new(), None);
        for answer in workers.ask_all(at, "/v1/partitions").await {
            match answer {
                Answer::Said(log) => logs.push(log),
                Answer::Refused(why) => refused = refused.or(Some(why)),
                Answer::Silent => {}
            }
        }
        match logs.into_iter().reduce(merged) {
            Some(log) => Answer::Said(log),
            None => refused.map_or(Answer::Silent, Answer::Refused),
        }
    }

    fn conclude(&self, answer: &Answer<Log>, facts: &mut Facts) {
        let last_words = facts.pods.as_ref().and_then(|pods| pods.last_words.clone());
        let is_of_it =
            |it: &String| it.contains("database") || BackendFault::of(it) != BackendFault::Unreachable;
        let failed = last_words.filter(is_of_it).map(Backend::Failed);
        match answer {
            Answer::Said(log) => {
                // What an older make is connected by may be of no use to the newest.
                facts.database = Some(failed.unwrap_or(Backend::Connected));
                facts.bus = bus(&log.partitions);
                let before = self.status.as_ref().and_then(|status| status.log_id.as_ref());
                let is_its_own = |before: &&String| **before == log.log_id || adopts(self, &log.log_id);
                let other_log = before.filter(|before| !is_its_own(before)).map(|before| {
                    format!(
                        "the database holds log {}, and this EventStream had log {before}: have the Secret lead to its own database again; or have it take that log for its own by annotation {ADOPT}: {}",
                        log.log_id,
                        log.log_id
                    )
                });
                facts.said = Some(Said { other_log, ..Said::default() });
            }
            // What cannot be read is read of the database.
            Answer::Refused(why) => facts.database = Some(Backend::Failed(why.clone())),
            Answer::Silent => facts.database = failed,
        }
    }

    fn next(&self, stand: &Stand, state: Option<&Log>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let (log_id, head, partitions) = match state {
            Some(state) => {
                let head = state.partitions.iter().map(|it| it.position.0).sum();
                // Another's log is not taken for its own.
                let is_its_own = before.log_id.is_none() || adopts(self, &state.log_id);
                let log_id = before.log_id.filter(|_| !is_its_own).unwrap_or_else(|| state.log_id.clone());
                (Some(log_id), Some(Count(head)), state.partitions.iter().map(partition).collect())
            }
            None => (before.log_id, before.head, before.partitions),
        };
        as_json(&EventStreamStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            address: Some(stand.address()),
            binding: Some(LocalRef { name: binding_name(&stand.owner.name) }),
            log_id,
            head,
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: Some(stand.selector()),
            partitions,
        })
    }
}

fn adopts(stream: &EventStream, log_id: &str) -> bool {
    stream.annotations().get(ADOPT).is_some_and(|adopted| adopted == log_id)
}

/// What two of a log's event stores say of it.
fn merged(mut one: Log, other: Log) -> Log {
    for (one, other) in one.partitions.iter_mut().zip(other.partitions) {
        one.position = one.position.max(other.position);
        one.epoch = one.epoch.max(other.epoch);
        one.relay = one.relay.take().or(other.relay);
    }
    one
}

/// What is said of the bus. `None`: nobody relays now.
fn bus(partitions: &[LogPartition]) -> Option<Backend> {
    let mut relays = partitions.iter().filter_map(|it| it.relay.as_ref()).peekable();
    relays.peek()?;
    let fault = relays.find_map(|relay| relay.fault.clone());
    Some(fault.map_or(Backend::Connected, Backend::Failed))
}

fn partition(it: &LogPartition) -> PartitionStatus {
    PartitionStatus {
        partition: it.partition,
        head: it.position,
        epoch: it.epoch,
        relayed: it.relay.as_ref().map(|relay| relay.position),
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

    async fn ask(workers: &Workers, at: &Workplace) -> Answer<ProjectionState> {
        workers.ask(at, &format!("/v1/admin/projections/{}", at.owner.name)).await
    }

    fn conclude(&self, answer: &Answer<ProjectionState>, facts: &mut Facts) {
        let Answer::Said(state) = answer else { return };
        // Of pods of an older make, none knows of what the spec asks for now.
        let are_new = facts.pods.as_ref().is_some_and(Pods::are_new);
        facts.said = Some(Said {
            not_built: state.active.is_none().then(|| told(state)),
            note: partitions(state).find_map(failing),
            other_log: None,
            caught_up: state.lag.as_ref().map(|lag| CaughtUp {
                events: lag.events.0,
                most: u64::from(self.spec.rollout.max_lag),
                next: next(self, state, are_new),
            }),
            attention: attention(state, are_new),
            rebuilding: rebuilding(self, state),
        });
    }

    fn next(&self, stand: &Stand, state: Option<&ProjectionState>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let mut status = ProjectionStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            address: Some(stand.address()),
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: Some(stand.selector()),
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
            // What answers is what the spec, with its token, asks for.
            let is_done =
                is_ready(&stand.conditions) && !is_true(&stand.conditions, ConditionType::Reconciling);
            if is_done && state.candidate.is_none() {
                status.last_handled_rebuild_token = Some(self.spec.rebuild_token.clone());
            }
        }
        as_json(&status)
    }
}

fn told(state: &ProjectionState) -> String {
    match &state.message {
        Some(message) => format!("{}: {message}", state.rollout),
        None => state.rollout.clone(),
    }
}

fn partitions(state: &ProjectionState) -> impl Iterator<Item = &FoldState> {
    [&state.active, &state.candidate].into_iter().flatten().flat_map(|revision| &revision.partitions)
}

fn failing(it: &FoldState) -> Option<String> {
    let message = it.message.as_ref().filter(|_| it.state == "Failing")?;
    Some(format!("partition {} is not folded now: {message}", it.partition))
}

fn halted(it: &FoldState) -> Option<String> {
    let failure = it.failure.as_ref().filter(|_| it.state == "Halted")?;
    Some(format!(
        "partition {}: event {}: {}: {}",
        it.partition, failure.event_id, failure.place, failure.message
    ))
}

/// What answers next, by itself, and does not yet.
fn next(projection: &Projection, state: &ProjectionState, are_new: bool) -> Option<String> {
    match &state.candidate {
        Some(_) if projection.spec.rollout.promotion == Promotion::Automatic => Some(told(state)),
        None if !are_new => Some("its pods are started anew".to_owned()),
        _ => None,
    }
}

fn attention(state: &ProjectionState, are_new: bool) -> Option<(Reason, String)> {
    if let Some(halted) = partitions(state).find_map(halted) {
        let message = format!(
            "{halted}; folding has stopped there, as onError asks: correct the rule, or have `kubectl headwater skip` pass the event over"
        );
        return Some((Reason::Halted, message));
    }
    if state.parked > 0 {
        let message = format!(
            "{} events are set aside: `kubectl headwater parked` shows them, and replays or skips them",
            state.parked
        );
        return Some((Reason::EventsParked, message));
    }
    // While pods are started anew, those before them are.
    (are_new && state.rollout == "Outdated").then(|| {
        let message = format!(
            "{}; a newer spec than this one was given to the read model: see \"A Projection that is edited\" in the documentation",
            told(state)
        );
        (Reason::Outdated, message)
    })
}

fn rebuilding(projection: &Projection, state: &ProjectionState) -> Option<(bool, Reason, String)> {
    let failed = state.rollout == "Blocked"
        || state.candidate.iter().flat_map(|it| &it.partitions).any(|it| it.state == "Halted");
    match &state.candidate {
        _ if failed => Some((false, Reason::Failed, told(state))),
        Some(candidate)
            if candidate.percent == Some(100) && projection.spec.rollout.promotion == Promotion::Manual =>
        {
            Some((true, Reason::AwaitingPromotion, told(state)))
        }
        Some(_) => Some((true, Reason::Replaying, told(state))),
        None if state.active.is_some() => Some((false, Reason::Promoted, told(state))),
        None => None,
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

    async fn ask(workers: &Workers, at: &Workplace) -> Answer<SagaState> {
        workers.ask(at, &format!("/v1/sagas/{}", at.owner.name)).await
    }

    fn conclude(&self, answer: &Answer<SagaState>, facts: &mut Facts) {
        let Answer::Said(state) = answer else { return };
        let attention = (state.needs_attention > 0).then(|| {
            let message = format!(
                "{} instances cannot go on: `kubectl headwater sagas` shows them, and retries, skips or aborts them",
                state.needs_attention
            );
            (Reason::InstancesStuck, message)
        });
        facts.said = Some(Said { note: state.message.clone(), attention, ..Said::default() });
    }

    fn next(&self, stand: &Stand, state: Option<&SagaState>) -> Value {
        let before = self.status.clone().unwrap_or_default();
        let mut status = SagaStatus {
            observed_generation: Some(stand.generation),
            conditions: stand.conditions.clone(),
            replicas: stand.replicas(),
            replicas_ready: stand.replicas_ready(),
            selector: Some(stand.selector()),
            ..before
        };
        if let Some(state) = state {
            status.running = Some(state.running as i64);
            status.compensating = Some(state.compensating as i64);
            status.needs_attention = Some(state.needs_attention as i64);
            status.completed = state.completed.map(Count);
            status.compensated = state.compensated.map(Count);
            // There is no limit to them, and one to a status.
            status.generations = state.generations.iter().take(GENERATIONS).cloned().collect();
            status.oldest_running_seconds = state.oldest_running_seconds.map(|it| rounded(it) as i64);
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
