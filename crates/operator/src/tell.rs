//! Events: what a person would want to see who describes a resource.

use std::sync::{Arc, Mutex, PoisonError};

use headwater_resources::shared::{ConditionType, Reason};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::children::MANAGER;

/// What is told of when it changes, and whether True is good news.
const TOLD: [(ConditionType, bool); 3] =
    [(ConditionType::Ready, true), (ConditionType::Stalled, false), (ConditionType::NeedsAttention, false)];

/// Events of which repetitions are counted: a recorder keeps each for minutes, whole, and for ever where no other comes.
const COUNTED: usize = 128;

/// Publishes events. Cheap to clone: clones count repetitions together.
#[derive(Clone)]
pub struct Teller {
    client: Client,
    reporter: Reporter,
    /// How many it has been given.
    recorder: Arc<Mutex<(Recorder, usize)>>,
}

impl Teller {
    /// In the name of the operator `instance`.
    pub fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(instance.to_owned()) };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self { client, reporter, recorder: Arc::new(Mutex::new((recorder, 0))) }
    }

    fn recorder(&self) -> Recorder {
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if recorder.1 >= COUNTED {
            *recorder = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        recorder.1 += 1;
        recorder.0.clone()
    }

    /// Tells of what is otherwise with the resource `of` in `after` than in `before`.
    pub async fn changes(&self, of: ObjectReference, before: &[Condition], after: &[Condition]) {
        for event in changes(before, after) {
            self.publish(&of, event).await;
        }
    }

    /// Tells how the deletion of the data of `of` ended: all of them are deleted, or this is left.
    pub async fn deleted(&self, of: ObjectReference, left: Option<&str>) {
        let (type_, reason, note) = match left {
            None => (EventType::Normal, "DataDeleted", "what it kept is deleted".to_owned()),
            Some(why) => {
                let note = format!(
                    "what it kept is left: {why}; `headwater schemas list` shows what is in a database, and `drop` deletes it; what is in Redis, \
                     `headwater-query-worker … --delete-data` does"
                );
                (EventType::Warning, "DataLeft", note)
            }
        };
        let (reason, note) = (reason.to_owned(), Some(note.chars().take(1_000).collect()));
        self.publish(&of, Event { type_, reason, note, action: "Deletion".to_owned(), secondary: None })
            .await;
    }

    async fn publish(&self, of: &ObjectReference, event: Event) {
        // What nobody can be told of is in the status or in the log all the same.
        if let Err(error) = self.recorder().publish(&event, of).await {
            tracing::debug!(%error, "an event was not published");
        }
    }
}

fn changes(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let mut events = Vec::new();
    for (of, good) in TOLD {
        let find = |conditions: &[Condition]| conditions.iter().find(|it| it.type_ == of.as_str()).cloned();
        let (was, is) = (find(before), find(after));
        let Some(is) = is else { continue };
        let is_good = (is.status == "True") == good;
        let is_news = match &was {
            // That something is not there yet at its beginning, or not wrong, is none.
            None => is.status == "True",
            Some(was) if was.status == is.status => !is_good && was.reason != is.reason,
            Some(_) => true,
        };
        if !is_news {
            continue;
        }
        events.push(Event {
            type_: if is_good || is.reason == Reason::Deploying.as_str() {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: is.reason.clone(),
            note: Some(is.message.chars().take(1_000).collect()),
            action: of.as_str().to_owned(),
            secondary: None,
        });
    }
    events
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn condition(of: ConditionType, status: &str, reason: &str) -> Condition {
        Condition {
            type_: of.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn news_are_told_once() {
        let ready = |status, reason| vec![condition(ConditionType::Ready, status, reason)];
        let stalled = |status, reason| vec![condition(ConditionType::Stalled, status, reason)];
        let told = |before: &[Condition], after: &[Condition]| {
            changes(before, after).into_iter().map(|event| event.reason).collect::<Vec<_>>()
        };
        assert!(told(&[], &ready("False", "Deploying")).is_empty(), "it has only begun");
        assert_eq!(told(&ready("False", "Deploying"), &ready("True", "Available")), ["Available"]);
        assert!(told(&ready("True", "Available"), &ready("True", "Available")).is_empty());
        assert_eq!(told(&ready("True", "Available"), &ready("False", "Unavailable")), ["Unavailable"]);
        assert_eq!(told(&ready("False", "Deploying"), &ready("False", "InvalidSpec")), ["InvalidSpec"]);
        assert!(told(&ready("False", "InvalidSpec"), &ready("False", "InvalidSpec")).is_empty());
        assert!(told(&[], &stalled("False", "Available")).is_empty());
        assert_eq!(told(&[], &stalled("True", "Conflict")), ["Conflict"]);
        assert_eq!(told(&stalled("True", "Conflict"), &stalled("False", "Available")), ["Available"]);
    }
}
