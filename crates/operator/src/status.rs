//! How a resource stands, from what was found, made and observed. Pure.
//!
//! Of `Reconciling` and `Stalled` at most one is True, and `Ready` says what is in force: tools that know no resource of ours tell from these
//! three, and `observedGeneration`, whether it is done (kstatus).

use headwater_core::BackendFault;
use headwater_resources::shared::{ConditionType, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::part::{Kind, Refused};

/// What is known of a resource when its status is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Why it is not made, if it is not.
    pub refused: Option<Refused>,
    /// Its Deployment, as far as it is there.
    pub pods: Option<Pods>,
    /// What its spec says it is to be.
    pub wants: Wants,
    /// Whether the annotation that stops the operator's work is set.
    pub is_left_alone: bool,
    /// What its workers say. `None`: nothing, and what was known of that stays as it was.
    pub said: Option<Said>,
    /// How the database is, where something is known of it.
    pub database: Option<Backend>,
    /// The same of the bus.
    pub bus: Option<Backend>,
}

/// What workers say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Said {
    /// What is not there yet and answers for that reason: in words.
    pub not_built: Option<String>,
    /// What is wrong, and passes by itself.
    pub note: Option<String>,
    /// That the database holds another log than before: in words.
    pub other_log: Option<String>,
    /// How far the projection is.
    pub caught_up: Option<CaughtUp>,
    /// What a person has to look at: why, and in words.
    pub attention: Option<(Reason, String)>,
    /// What becomes of a projection's candidate: whether one is being built, why, and in words.
    pub rebuilding: Option<(bool, Reason, String)>,
}

/// What a resource is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wants {
    /// At work.
    #[default]
    Running,
    /// Answering, and taking on nothing new.
    Paused,
    /// Not there.
    Stopped,
}

/// The Deployment of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    /// Pods that are wanted.
    pub wanted: i32,
    /// Pods that there are.
    pub there: i32,
    /// Of these, those that are ready.
    pub ready: i32,
    /// Of these, those of the newest make.
    pub updated: i32,
    /// Whether the Deployment's controller has seen its newest make.
    pub is_observed: bool,
    /// Whether it was given up on: in words.
    pub gave_up: Option<String>,
    /// What a container said last that does not come up, or why no pod is made.
    pub last_words: Option<String>,
}

impl Pods {
    /// Whether none is of an older make.
    pub fn are_new(&self) -> bool {
        self.is_observed && self.there == self.updated
    }
}

/// A database or a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// It answers.
    Connected,
    /// What is said of it.
    Failed(String),
}

/// How far a projection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtUp {
    /// Events behind the head.
    pub events: u64,
    /// How many may be.
    pub most: u64,
    /// What is being built in place of what answers, and answers by itself when it is: in words.
    pub next: Option<String>,
}

/// A condition before it has a time.
struct Claim {
    of: ConditionType,
    status: bool,
    reason: Reason,
    message: String,
}

/// What is known of only while workers answer.
const ASKED: [ConditionType; 5] = [
    ConditionType::DatabaseReady,
    ConditionType::BusReady,
    ConditionType::CaughtUp,
    ConditionType::Rebuilding,
    ConditionType::NeedsAttention,
];

/// Whether `conditions` say that it is ready.
pub fn is_ready(conditions: &[Condition]) -> bool {
    is_true(conditions, ConditionType::Ready)
}

/// Whether `conditions` say that of it.
pub fn is_true(conditions: &[Condition], of: ConditionType) -> bool {
    conditions.iter().any(|it| it.type_ == of.as_str() && it.status == "True")
}

/// The conditions of a resource of `kind` at `generation`, of which those before were `before`. A time changes only where the status does.
pub fn conditions(
    kind: Kind,
    facts: &Facts,
    generation: i64,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let claims = claims(kind, facts, is_ready(before));
    let mut conditions: Vec<Condition> = claims
        .into_iter()
        .map(|claim| {
            let status = if claim.status { "True" } else { "False" };
            let same = before.iter().find(|it| it.type_ == claim.of.as_str() && it.status == status);
            Condition {
                type_: claim.of.as_str().to_owned(),
                status: status.to_owned(),
                reason: claim.reason.as_str().to_owned(),
                message: shortened(claim.message),
                observed_generation: Some(generation),
                last_transition_time: same.map_or(Time(now), |it| it.last_transition_time.clone()),
            }
        })
        .collect();
    // Who does not answer in time says nothing else than before.
    if facts.said.is_none() && facts.wants != Wants::Stopped {
        let is_kept = |it: &&Condition| {
            ASKED.iter().any(|of| it.type_ == of.as_str())
                && !conditions.iter().any(|new| new.type_ == it.type_)
        };
        let kept: Vec<Condition> = before.iter().filter(is_kept).cloned().collect();
        conditions.extend(kept);
    }
    conditions
}

/// What a condition's message may hold.
const LONGEST_MESSAGE: usize = 4_096;

fn shortened(mut message: String) -> String {
    if message.len() > LONGEST_MESSAGE {
        let end = message.floor_char_boundary(LONGEST_MESSAGE - 3);
        message.truncate(end);
        message += "…";
    }
    message
}

fn claims(kind: Kind, facts: &Facts, was_ready: bool) -> Vec<Claim> {
    let claim = |of, status, reason, message: &str| Claim { of, status, reason, message: message.to_owned() };
    let standing = Standing::of(kind, facts, was_ready);
    let mut claims = vec![
        claim(ConditionType::Ready, standing.ready, standing.reason, &standing.message),
        match &standing.progress {
            Progress::Underway(reason) => claim(ConditionType::Reconciling, true, *reason, &standing.message),
            _ => claim(ConditionType::Reconciling, false, standing.reason, ""),
        },
        match &standing.progress {
            Progress::Stalled(reason) => claim(ConditionType::Stalled, true, *reason, &standing.message),
            _ => claim(ConditionType::Stalled, false, standing.reason, ""),
        },
    ];
    let missing = match &facts.refused {
        Some(Refused::Missing(missing)) => Some(missing),
        _ => None,
    };
    claims.push(match missing {
        Some(missing) => claim(ConditionType::ResolvedRefs, false, missing.reason, &missing.message),
        None => claim(ConditionType::ResolvedRefs, true, Reason::Resolved, "all that it refers to is there"),
    });
    for (of, backend) in
        [(ConditionType::DatabaseReady, &facts.database), (ConditionType::BusReady, &facts.bus)]
    {
        match backend {
            Some(Backend::Connected) => claims.push(claim(of, true, Reason::Connected, "it answers")),
            Some(Backend::Failed(why)) => claims.push(claim(of, false, backend_reason(why), why)),
            None => {}
        }
    }
    let nothing = Said::default();
    let said = facts.said.as_ref().unwrap_or(&nothing);
    if let Some(CaughtUp { events, most, next }) = &said.caught_up {
        claims.push(match next {
            Some(next) => {
                let message = format!("what the spec asks for is being built: {next}");
                claim(ConditionType::CaughtUp, false, Reason::Lagging, &message)
            }
            None if events <= most => {
                claim(ConditionType::CaughtUp, true, Reason::Current, "it has what was appended")
            }
            None => claim(ConditionType::CaughtUp, false, Reason::Lagging, "it is behind its event stream"),
        });
    }
    if let Some((status, reason, message)) = &said.rebuilding {
        claims.push(claim(ConditionType::Rebuilding, *status, *reason, message));
    }
    if let Some((reason, message)) = &said.attention {
        claims.push(claim(ConditionType::NeedsAttention, true, *reason, message));
    }
    if facts.is_left_alone {
        let message = "annotation headwater.dev/reconcile: disabled: changes of the spec have no effect until it is taken away";
        claims.push(claim(ConditionType::ReconciliationPaused, true, Reason::Paused, message));
    }
    claims
}

fn backend_reason(why: &str) -> Reason {
    match BackendFault::of(why) {
        BackendFault::Unreachable => Reason::Unreachable,
        BackendFault::Credentials => Reason::AuthenticationFailed,
        BackendFault::Tls => Reason::TlsFailed,
        BackendFault::Lost => Reason::MessagesLost,
        BackendFault::Owned => Reason::SchemaOwned,
        BackendFault::Newer => Reason::MigrationFailed,
    }
}

struct Standing {
    ready: bool,
    reason: Reason,
    message: String,
    progress: Progress,
}

enum Progress {
    Done,
    Underway(Reason),
    Stalled(Reason),
}

impl Standing {
    fn of(kind: Kind, facts: &Facts, was_ready: bool) -> Self {
        match &facts.refused {
            Some(refused) => Self::refused(refused),
            None => match &facts.pods {
                Some(pods) => Self::of_pods(kind, facts, pods, was_ready),
                None if facts.is_left_alone => Self::new(
                    false,
                    Reason::Unavailable,
                    "nothing is made of it: annotation headwater.dev/reconcile: disabled",
                    Progress::Done,
                ),
                None => Self::underway("its pods are being made"),
            },
        }
    }

    fn new(ready: bool, reason: Reason, message: impl Into<String>, progress: Progress) -> Self {
        Self { ready, reason, message: message.into(), progress }
    }

    fn underway(message: impl Into<String>) -> Self {
        Self::new(false, Reason::Deploying, message, Progress::Underway(Reason::Progressing))
    }

    fn refused(refused: &Refused) -> Self {
        match refused {
            Refused::Missing(missing) => Self::new(
                false,
                Reason::DependencyNotReady,
                &missing.message,
                Progress::Underway(Reason::WaitingForDependency),
            ),
            Refused::Invalid(why) => {
                Self::new(false, Reason::InvalidSpec, why, Progress::Stalled(Reason::InvalidSpec))
            }
            Refused::Conflict(why) => {
                Self::new(false, Reason::Unavailable, why, Progress::Stalled(Reason::Conflict))
            }
            Refused::Forbidden(why) => {
                Self::new(false, Reason::Unavailable, why, Progress::Underway(Reason::Progressing))
            }
        }
    }

    fn of_pods(kind: Kind, facts: &Facts, pods: &Pods, was_ready: bool) -> Self {
        if facts.wants == Wants::Stopped {
            if pods.there > 0 || !pods.is_observed {
                return Self::underway("its pods are being stopped");
            }
            return Self::new(true, Reason::Stopped, "stopped, as state asks", Progress::Done);
        }
        if pods.wanted == 0 {
            let message = "replicas is 0, as asked: nothing answers";
            return Self::new(true, Reason::Stopped, message, Progress::Done);
        }
        let said = facts.said.as_ref();
        if let Some(other) = said.and_then(|said| said.other_log.as_ref()) {
            return Self::new(false, Reason::Unavailable, other, Progress::Stalled(Reason::SchemaOwned));
        }
        if !pods.are_new() || pods.ready < pods.wanted {
            return Self::of_few_pods(pods, was_ready);
        }
        if facts.wants == Wants::Paused {
            return Self::new(true, Reason::Paused, "paused, as state asks", Progress::Done);
        }
        match said {
            Some(Said { not_built: Some(not_built), .. }) => {
                Self::underway(format!("what answers is being built for the first time: {not_built}"))
            }
            // Its pods are ready when they can be asked, and it is when something was built.
            None if kind == Kind::Projection && !was_ready => {
                Self::underway("its pods are ready, and have not said yet whether the read model is built")
            }
            _ => {
                let note = said.and_then(|said| said.note.as_ref());
                let message = note.map_or("it answers".to_owned(), |note| format!("it answers; {note}"));
                Self::new(true, Reason::Available, message, Progress::Done)
            }
        }
    }

    fn of_few_pods(pods: &Pods, was_ready: bool) -> Self {
        let mut words = vec![format!("{} of {} pods are ready", pods.ready, pods.wanted)];
        if pods.is_observed && pods.updated < pods.wanted {
            words.push(format!("{} of the newest make", pods.updated));
        }
        words.extend(pods.last_words.iter().map(|line| line.trim().to_owned()));
        words.extend(pods.gave_up.clone());
        let message = words.join("; ");
        // What no other pod can do, either.
        let fault = pods.last_words.as_deref().map(BackendFault::of);
        if let Some(BackendFault::Owned | BackendFault::Newer) = fault {
            let reason = backend_reason(&message);
            return Self::new(false, Reason::Unavailable, message, Progress::Stalled(reason));
        }
        if pods.gave_up.is_some() {
            let progress = Progress::Stalled(Reason::ProgressDeadlineExceeded);
            return Self::new(false, Reason::Unavailable, message, progress);
        }
        // A pod that is lost, or one more that is wanted, takes nothing from what answers; what is of an older make does.
        if was_ready && pods.are_new() && pods.ready > 0 {
            let progress = Progress::Underway(Reason::Progressing);
            return Self::new(true, Reason::Available, message, progress);
        }
        Self::underway(message)
    }
}

#[cfg(test)]
mod tests;
