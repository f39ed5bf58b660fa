//! How a resource stands, from what was found, made and observed. Pure.
//!
//! Of `Reconciling` and `Stalled` at most one is True, and `Ready` says what is in force: tools that know no resource of ours tell from these
//! three, and `observedGeneration`, whether it is done (kstatus).

use headwater_resources::shared::{ConditionType, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::part::{Kind, Refused};

/// What is known of a resource when its status is written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Why it cannot run, if it cannot.
    pub refused: Option<Refused>,
    /// An object that belongs to somebody else and stands in the way: in words.
    pub conflict: Option<String>,
    /// Its Deployment, as far as it is there.
    pub pods: Option<Pods>,
    /// What its spec says it is to be.
    pub wants: Wants,
    /// Whether the annotation that stops the operator's work is set.
    pub is_left_alone: bool,
    /// How far the projection is.
    pub caught_up: Option<CaughtUp>,
    /// What a person has to look at: why, and in words.
    pub attention: Option<(Reason, String)>,
    /// What becomes of a projection's candidate: why, in words, and whether one is being built.
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
    /// What a container said last that does not come up.
    pub last_words: Option<String>,
}

/// How far a projection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaughtUp {
    /// Events behind the head.
    pub events: u64,
    /// How many may be.
    pub most: u64,
}

/// A condition before it has a time.
struct Claim {
    of: ConditionType,
    status: bool,
    reason: Reason,
    message: String,
}

/// The conditions of a resource of `kind` at `generation`, of which those before were `before`. A time changes only where the status does.
pub fn conditions(
    kind: Kind,
    facts: &Facts,
    generation: i64,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let claims = claims(kind, facts);
    claims
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
        .collect()
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

fn claims(kind: Kind, facts: &Facts) -> Vec<Claim> {
    let claim = |of, status, reason, message: &str| Claim { of, status, reason, message: message.to_owned() };
    let standing = Standing::of(facts);
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
    if let Some(CaughtUp { events, most }) = facts.caught_up {
        claims.push(if events <= most {
            claim(ConditionType::CaughtUp, true, Reason::Current, "it has what was appended")
        } else {
            claim(ConditionType::CaughtUp, false, Reason::Lagging, "it is behind its event stream")
        });
    }
    if let Some((status, reason, message)) = &facts.rebuilding {
        claims.push(claim(ConditionType::Rebuilding, *status, *reason, message));
    }
    if kind != Kind::EventStream
        && let Some((reason, message)) = &facts.attention
    {
        claims.push(claim(ConditionType::NeedsAttention, true, *reason, message));
    }
    if facts.is_left_alone {
        let message = "annotation headwater.dev/reconcile: disabled: changes of the spec have no effect until it is taken away";
        claims.push(claim(ConditionType::ReconciliationPaused, true, Reason::Paused, message));
    }
    claims
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
    fn of(facts: &Facts) -> Self {
        let standing = |ready, reason, message: &str, progress| Self {
            ready,
            reason,
            message: message.to_owned(),
            progress,
        };
        match &facts.refused {
            Some(Refused::Missing(missing)) => {
                return standing(
                    false,
                    Reason::DependencyNotReady,
                    &missing.message,
                    Progress::Underway(Reason::WaitingForDependency),
                );
            }
            Some(Refused::Invalid(why)) => {
                return standing(false, Reason::InvalidSpec, why, Progress::Stalled(Reason::InvalidSpec));
            }
            None => {}
        }
        if let Some(conflict) = &facts.conflict {
            return standing(false, Reason::Unavailable, conflict, Progress::Stalled(Reason::Conflict));
        }
        let Some(pods) = &facts.pods else {
            return standing(
                false,
                Reason::Deploying,
                "its pods are being made",
                Progress::Underway(Reason::Progressing),
            );
        };
        let underway = Progress::Underway(Reason::Progressing);
        if facts.wants == Wants::Stopped {
            if pods.there > 0 || !pods.is_observed {
                return standing(false, Reason::Deploying, "its pods are being stopped", underway);
            }
            return standing(true, Reason::Stopped, "stopped, as state asks", Progress::Done);
        }
        if pods.wanted == 0 {
            return standing(false, Reason::Unavailable, "replicas is 0: nothing answers", Progress::Done);
        }
        let is_rolled_out = pods.is_observed && pods.updated >= pods.wanted && pods.there == pods.updated;
        if pods.ready >= pods.wanted && is_rolled_out {
            return match facts.wants {
                Wants::Paused => standing(true, Reason::Paused, "paused, as state asks", Progress::Done),
                _ => standing(true, Reason::Available, "it answers", Progress::Done),
            };
        }
        let mut words = vec![format!("{} of {} pods are ready", pods.ready, pods.wanted)];
        if pods.is_observed && pods.updated < pods.wanted {
            words.push(format!("{} of the newest make", pods.updated));
        }
        words.extend(pods.last_words.iter().map(|line| line.trim().to_owned()));
        words.extend(pods.gave_up.clone());
        let message = words.join("; ");
        if pods.gave_up.is_some() {
            let progress = Progress::Stalled(Reason::ProgressDeadlineExceeded);
            return standing(false, Reason::Unavailable, &message, progress);
        }
        // What answers while it is renewed is in force only when all of it is new.
        standing(false, Reason::Deploying, &message, underway)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::found::Missing;

    fn pods(wanted: i32, ready: i32) -> Pods {
        Pods { wanted, there: wanted, ready, updated: wanted, is_observed: true, ..Pods::default() }
    }

    fn all(facts: &Facts) -> Vec<Condition> {
        conditions(Kind::Projection, facts, 3, &[], Timestamp::UNIX_EPOCH)
    }

    fn said(conditions: &[Condition], of: ConditionType) -> (&str, &str, &str) {
        let it = conditions.iter().find(|it| it.type_ == of.as_str()).unwrap();
        (&it.status, &it.reason, &it.message)
    }

    #[test]
    fn ready_says_what_is_in_force() {
        let available = Facts { pods: Some(pods(2, 2)), ..Facts::default() };
        let cases = [
            (available.clone(), "True", "Available"),
            (Facts { wants: Wants::Paused, ..available.clone() }, "True", "Paused"),
            (Facts { wants: Wants::Stopped, pods: Some(pods(0, 0)), ..Facts::default() }, "True", "Stopped"),
            (
                Facts {
                    wants: Wants::Stopped,
                    pods: Some(Pods { there: 1, ..pods(0, 0) }),
                    ..Facts::default()
                },
                "False",
                "Deploying",
            ),
            (Facts { pods: Some(pods(2, 1)), ..Facts::default() }, "False", "Deploying"),
            (
                Facts { pods: Some(Pods { is_observed: false, ..pods(2, 2) }), ..Facts::default() },
                "False",
                "Deploying",
            ),
            (
                Facts { pods: Some(Pods { updated: 1, ..pods(2, 2) }), ..Facts::default() },
                "False",
                "Deploying",
            ),
            (Facts { pods: Some(pods(0, 0)), ..Facts::default() }, "False", "Unavailable"),
            (Facts { conflict: Some("Service \"x\"".into()), ..available.clone() }, "False", "Unavailable"),
            (
                Facts { refused: Some(Refused::Invalid("spec.x: no".into())), ..available },
                "False",
                "InvalidSpec",
            ),
            (Facts::default(), "False", "Deploying"),
        ];
        for (facts, status, reason) in cases {
            let conditions = all(&facts);
            let (is, why, _) = said(&conditions, ConditionType::Ready);
            assert_eq!((is, why), (status, reason), "{facts:?}");
        }
    }

    #[test]
    fn why_pods_do_not_come_up_is_told() {
        let stuck = Pods {
            gave_up: Some("pods made no progress for 600 s".into()),
            last_words: Some("error: database.urlSecretRef: password authentication failed\n".into()),
            ..pods(1, 0)
        };
        let facts = Facts { pods: Some(stuck), ..Facts::default() };
        let conditions = all(&facts);
        assert_eq!(said(&conditions, ConditionType::Stalled).1, "ProgressDeadlineExceeded");
        let (_, _, message) = said(&conditions, ConditionType::Ready);
        assert_eq!(
            message,
            "0 of 1 pods are ready; error: database.urlSecretRef: password authentication failed; pods made no progress for 600 s"
        );
    }

    /// What kstatus rests on, over every combination of what may be.
    #[test]
    fn reconciling_and_stalled_exclude_each_other_and_ready() {
        let missing = Missing { reason: Reason::SecretNotFound, message: "no Secret".into() };
        let mut count = 0;
        for refused in [None, Some(Refused::Missing(missing)), Some(Refused::Invalid("no".into()))] {
            for conflict in [None, Some("taken".to_owned())] {
                for wants in [Wants::Running, Wants::Paused, Wants::Stopped] {
                    for number in 0..(1 << 6) {
                        let bit = |bit: u32| number & (1 << bit) != 0;
                        let pods = bit(0).then(|| Pods {
                            wanted: i32::from(bit(1)),
                            there: i32::from(bit(2)),
                            ready: i32::from(bit(2) && bit(3)),
                            updated: i32::from(bit(2) && bit(4)),
                            is_observed: bit(5),
                            gave_up: (bit(1) && !bit(3)).then(|| "given up".to_owned()),
                            last_words: None,
                        });
                        let (refused, conflict) = (refused.clone(), conflict.clone());
                        let facts = Facts { refused, conflict, pods, wants, ..Facts::default() };
                        let conditions = all(&facts);
                        let is = |of| said(&conditions, of).0 == "True";
                        let three =
                            [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled];
                        assert!(three.into_iter().filter(|of| is(*of)).count() <= 1, "{facts:?}");
                        assert!(conditions.iter().all(|it| it.observed_generation == Some(3)));
                        assert!(conditions.iter().all(|it| !it.reason.is_empty()));
                        count += 1;
                    }
                }
            }
        }
        assert_eq!(count, 3 * 2 * 3 * 64);
    }

    #[test]
    fn a_time_changes_only_with_its_status() {
        let one = all(&Facts { pods: Some(pods(2, 1)), ..Facts::default() });
        let later = Timestamp::from_second(9).unwrap();
        let none = Facts { pods: Some(pods(2, 0)), ..Facts::default() };
        let two = conditions(Kind::Projection, &none, 4, &one, later);
        assert_ne!(one[0].message, two[0].message);
        assert!(two.iter().all(|it| it.last_transition_time == Time(Timestamp::UNIX_EPOCH)));
        let ready = Facts { pods: Some(pods(2, 2)), ..Facts::default() };
        let three = conditions(Kind::Projection, &ready, 4, &two, later);
        assert_eq!(three[0].last_transition_time, Time(later));
    }
}
