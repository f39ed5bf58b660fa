//! What there is to see of a projection.

use headwater_core::{LogId, Partition, Positions, Token};
use headwater_view::{Member, Previous, RevisionRecord};
use jiff::Timestamp;
use serde::Serialize;

use crate::fold::Failure;
use crate::leases::View;
use crate::worker::{Activity, WorkerStatus};

/// A projection at one moment. Numbers that may pass what a double holds are text.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ProjectionStatus {
    /// The projection's name.
    pub name: String,
    /// `Running`, `Paused` or `Stopped`.
    pub state: String,
    /// The digest of what is wanted.
    pub digest: String,
    /// Answers queries.
    pub active: Option<RevisionStatus>,
    /// Is being built.
    pub candidate: Option<RevisionStatus>,
    /// Was active before, and can be again.
    pub previous: Option<RevisionStatus>,
    /// The digest that a person rolled back from.
    pub held_digest: Option<String>,
    /// What becomes of the newest build, in a word or two: `Current`, `Replaying 42%`, `AwaitingPromotion`, `Blocked`, `RolledBack`,
    /// `Outdated` where a process with a newer spec decides.
    pub rollout: String,
    /// What stands in the way, where something does.
    pub message: Option<String>,
    /// How far the active revision is, as a token.
    pub token: Option<String>,
    /// How far the active revision is behind.
    pub lag: Option<LagStatus>,
    /// Events parked in the active revision.
    pub parked: u64,
    /// The processes that fold it, by name, and which partitions each has.
    pub workers: Vec<WorkerShare>,
}

/// A process that folds a projection, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerShare {
    /// Where it answers queries.
    pub name: String,
    /// `folds`; `reserve`: something keeps it from folding, and it has a share only where nobody else has; `watches`: it is paused.
    pub standing: &'static str,
    /// The partitions that it has.
    pub partitions: Vec<u16>,
}

/// A revision at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RevisionStatus {
    /// Its number, as text.
    pub revision: String,
    /// The digest of what it was built from.
    pub digest: String,
    /// When its build began.
    pub created_at: Timestamp,
    /// How long it is kept, when it is the previous one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// How much of what there was to fold is folded; 100 when it has caught up. Absent until it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Seconds until it has caught up, at the speed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// How far it is behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<LagStatus>,
    /// Events parked.
    pub parked: u64,
    /// Events skipped.
    pub skipped: u64,
    /// Each partition.
    pub partitions: Vec<PartitionStatus>,
}

/// How far something is behind the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LagStatus {
    /// Events not yet folded, as text.
    #[serde(serialize_with = "as_text")]
    pub events: u64,
    /// Age of the last folded event where there are more; 0 when there are none.
    pub seconds: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn as_text<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// A partition of a revision at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: u16,
    /// Its checkpoint, as text.
    pub position: String,
    /// Its head when it was last seen, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// When the log took the last event that was folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
    /// Events parked.
    pub parked: u64,
    /// Events skipped.
    pub skipped: u64,
    /// `Starting`, `Running`, `Halted`, `Failing` or `Stopped`.
    pub state: String,
    /// The process that folds it, by name. Absent while it changes hands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// What halted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why it is failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl WorkerShare {
    /// All that are alive, by name.
    pub(crate) fn all(leases: &View) -> Vec<Self> {
        let mut all: Vec<_> = leases
            .holdings
            .members
            .iter()
            .map(|member| {
                let held = leases.holdings.holders.iter().enumerate();
                let partitions = held.filter(|(_, holder)| **holder == Some(member.id));
                Self {
                    name: member.name.clone(),
                    standing: member.standing.as_str(),
                    partitions: partitions.map(|(number, _)| number as u16).collect(),
                }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

impl PartitionStatus {
    pub(crate) fn new(partition: u16, worker: &WorkerStatus, holder: Option<&Member>) -> Self {
        let (state, failure, message) = match &worker.activity {
            Activity::Starting => ("Starting", None, None),
            Activity::Running => ("Running", None, None),
            Activity::Halted(failure) => ("Halted", Some((**failure).clone()), None),
            Activity::Failing(message) => ("Failing", None, Some(message.clone())),
            Activity::Ended => ("Stopped", None, None),
        };
        let progress = worker.progress;
        Self {
            partition,
            position: progress.map_or_else(|| "0".to_owned(), |progress| progress.position.to_string()),
            // It was looked at some time before, and what is folded was there.
            head: worker.head.map(|head| head.get().max(position(worker).unwrap_or_default()).to_string()),
            recorded_at: progress.and_then(|progress| progress.recorded_at),
            parked: progress.map_or(0, |progress| progress.parked),
            skipped: progress.map_or(0, |progress| progress.skipped),
            state: state.to_owned(),
            worker: holder.map(|member| member.name.clone()),
            failure,
            message,
        }
    }
}

/// How a build has come along since its workers began here: what its percentage and remaining time are computed from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Sum of positions where the build starts.
    pub(crate) start: u64,
    /// Sum of positions when the workers began here.
    pub(crate) first: u64,
    /// How long ago that was.
    pub(crate) elapsed: std::time::Duration,
}

impl RevisionStatus {
    pub(crate) fn new(
        record: &RevisionRecord,
        previous: Option<Previous>,
        workers: &[WorkerStatus],
        pace: Option<Pace>,
        leases: &View,
        now: Timestamp,
    ) -> Self {
        let partitions: Vec<_> = workers
            .iter()
            .enumerate()
            .map(|(number, worker)| {
                let number = number as u16;
                PartitionStatus::new(number, worker, leases.holder(Partition::new(number)))
            })
            .collect();
        let lag = lag(workers, now);
        let (percent, eta_seconds) =
            lag.zip(pace).map_or((None, None), |(lag, pace)| progress(workers, lag.events, pace));
        Self {
            revision: record.revision.to_string(),
            digest: record.digest.clone(),
            created_at: record.created_at,
            until: previous
                .filter(|previous| previous.revision == record.revision)
                .map(|previous| previous.until),
            percent,
            eta_seconds,
            lag,
            parked: partitions.iter().map(|partition| partition.parked).sum(),
            skipped: partitions.iter().map(|partition| partition.skipped).sum(),
            partitions,
        }
    }
}

fn position(worker: &WorkerStatus) -> Option<u64> {
    worker.progress.map(|progress| progress.position.get())
}

/// How far the workers are behind. `None` while one does not know.
pub(crate) fn lag(workers: &[WorkerStatus], now: Timestamp) -> Option<LagStatus> {
    let mut lag = LagStatus { events: 0, seconds: 0 };
    for worker in workers {
        let behind = worker.head?.get().saturating_sub(position(worker)?);
        lag.events += behind;
        if let Some(recorded_at) =
            worker.progress.and_then(|progress| progress.recorded_at).filter(|_| behind > 0)
        {
            let age = now.duration_since(recorded_at).as_secs().max(0).unsigned_abs();
            lag.seconds = lag.seconds.max(age);
        }
    }
    (!workers.is_empty()).then_some(lag)
}

fn progress(workers: &[WorkerStatus], behind: u64, pace: Pace) -> (Option<u8>, Option<u64>) {
    let at: u64 = workers.iter().filter_map(position).sum();
    let total = (at + behind).saturating_sub(pace.start);
    let done = at.saturating_sub(pace.start);
    // 100 is said only when nothing is left.
    let percent = if behind == 0 { 100 } else { (done * 100 / total.max(1)).min(99) as u8 };
    let folded = at.saturating_sub(pace.first);
    let eta = (folded > 0 && behind > 0)
        .then(|| (pace.elapsed.as_secs_f64() * behind as f64 / folded as f64).ceil() as u64);
    (Some(percent), eta)
}

/// The token of where the workers are.
pub(crate) fn token(log_id: LogId, workers: &[WorkerStatus]) -> Token {
    let positions: Positions = workers
        .iter()
        .filter_map(|worker| worker.progress)
        .map(|progress| (progress.partition, progress.position))
        .collect();
    Token::new(log_id, positions)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use headwater_core::Position;
    use headwater_view::Progress;

    use super::*;

    fn worker(position: u64, head: u64) -> WorkerStatus {
        let progress = Progress {
            partition: Partition::ZERO,
            position: Position::new(position),
            recorded_at: Some(Timestamp::from_second(100).unwrap()),
            parked: 0,
            skipped: 0,
        };
        WorkerStatus {
            progress: Some(progress),
            head: Some(Position::new(head)),
            activity: Activity::Running,
        }
    }

    #[test]
    fn lag_percent_and_time_left() {
        let now = Timestamp::from_second(130).unwrap();
        let behind = [worker(50, 100), worker(100, 100)];
        assert_eq!(lag(&behind, now), Some(LagStatus { events: 50, seconds: 30 }));
        let pace = Pace { start: 0, first: 100, elapsed: Duration::from_secs(10) };
        assert_eq!(progress(&behind, 50, pace), (Some(75), Some(10)));
        assert_eq!(lag(&[worker(100, 100)], now), Some(LagStatus { events: 0, seconds: 0 }));
        assert_eq!(progress(&[worker(100, 100)], 0, pace), (Some(100), None));
        assert_eq!(progress(&[worker(9_999, 10_000)], 1, Pace { first: 0, ..pace }).0, Some(99));
        let unknown = WorkerStatus { head: None, ..worker(1, 1) };
        assert_eq!(lag(&[worker(1, 1), unknown], now), None);
        assert_eq!(lag(&[], now), None);
    }
}
