//! An instance as people and programs see it.

use headwater_core::{Error, RecordedEvent, Result};
use jiff::Timestamp;
use serde::Serialize;

use crate::history::{Direction, Entry, Why};
use crate::instance::{Instance as Folded, Stage, State};
use crate::plan::Plan;
use crate::variables::Names;

/// An instance in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Its name.
    pub instance: String,
    /// What it is doing.
    pub state: State,
    /// The steps that it is at.
    pub at: Vec<String>,
    /// Why it was undone, or why a person has to look.
    pub reason: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When something last happened.
    pub changed_at: Timestamp,
    /// The digest of its definition.
    pub definition: String,
}

impl Summary {
    pub(crate) fn of(plan: &Plan, instance: &Folded) -> Self {
        let at = instance.open_or_stuck(plan).into_iter().map(|(task, direction)| {
            let undo = if direction == Direction::Undo { " (undo)" } else { "" };
            format!("{}{undo}", plan.tasks[task].name)
        });
        let reason = instance
            .attention
            .as_ref()
            .map(|attention| attention.reason.clone())
            .or_else(|| instance.turned.as_ref().map(|turned| turned.reason.clone()));
        Self {
            instance: instance.started.instance.clone(),
            state: instance.state(),
            at: if instance.ended.is_some() { Vec::new() } else { at.collect() },
            reason,
            started_at: instance.started_at,
            changed_at: instance.changed_at,
            definition: instance.started.definition.clone(),
        }
    }

    /// An instance whose history cannot be followed; `None` when it has none.
    pub(crate) fn of_corrupt(name: &str, events: &[RecordedEvent], error: &Error) -> Option<Self> {
        let (first, last) = (events.first()?, events.last()?);
        Some(Self {
            instance: name.to_owned(),
            state: State::NeedsAttention,
            at: Vec::new(),
            reason: Some(error.to_string()),
            started_at: first.recorded_at,
            changed_at: last.recorded_at,
            definition: String::new(),
        })
    }

    pub(crate) fn of_ended(event: &RecordedEvent) -> Result<Self> {
        let (state, ended) = match Entry::decode(event)? {
            Entry::Compensated(ended) => (State::Compensated, ended),
            Entry::Completed(ended) => (State::Completed, ended),
            other => {
                return Err(Error::internal(format!("{} is no end", other.event_type())));
            }
        };
        Ok(Self {
            instance: ended.instance,
            state,
            at: Vec::new(),
            reason: ended.reason,
            started_at: ended.started_at,
            changed_at: event.recorded_at,
            definition: ended.definition,
        })
    }
}

/// An instance with all that happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// In a line.
    #[serde(flatten)]
    pub summary: Summary,
    /// The saga.
    pub saga: String,
    /// The event that started it.
    pub event: crate::history::Cause,
    /// What happened, in order.
    pub history: Vec<Line>,
    /// What comes next.
    pub next: Vec<String>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When.
    pub time: Timestamp,
    /// What, in a word.
    pub what: String,
    /// The step, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Which way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// In words.
    pub text: String,
    /// The idempotency key, where something is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Instance {
    pub(crate) fn of(
        names: &Names,
        plan: &Plan,
        instance: &Folded,
        events: &[RecordedEvent],
    ) -> Result<Self> {
        let line = |event: &RecordedEvent| Ok(Line::of(&Entry::decode(event)?, event.recorded_at));
        let history = events.iter().map(line).collect::<Result<_>>()?;
        Ok(Self {
            summary: Summary::of(plan, instance),
            saga: names.saga.clone(),
            event: instance.started.event.clone(),
            history,
            next: next(plan, instance),
        })
    }
}

impl Line {
    /// What `entry` says, recorded at `time`.
    pub(crate) fn of(entry: &Entry, time: Timestamp) -> Self {
        let (step, direction, key, text) = match entry {
            Entry::Started(it) => (
                None,
                None,
                None,
                format!("{} {} of \"{}\"", it.event.event_type, it.event.id, it.event.stream_id),
            ),
            Entry::StepBegun(it) => {
                let waits = it.waits_for.as_ref().map_or(String::new(), |waits| {
                    format!("; then waits for {} of {}", waits.events.join(" or "), waits.value)
                });
                (Some(&it.step), Some(it.direction), Some(it.key.clone()), format!("{}{waits}", it.call))
            }
            Entry::StepSent(it) => (
                Some(&it.step),
                Some(Direction::Do),
                None,
                format!("{}; its reply is waited for until {}", it.answer, it.until),
            ),
            Entry::AttemptUnanswered(it) => (
                Some(&it.step),
                Some(it.direction),
                None,
                format!("attempt {}: {}; again at {}", it.attempt, it.reason, it.next),
            ),
            Entry::StepSucceeded(it) => (Some(&it.step), Some(it.direction), None, it.answer.clone()),
            Entry::StepFailed(it) => (Some(&it.step), Some(it.direction), None, it.reason.clone()),
            Entry::StepUnknown(it) => (Some(&it.step), Some(Direction::Do), None, it.reason.clone()),
            Entry::ReplySeen(it) => (
                Some(&it.step),
                None,
                None,
                format!("{} {} of \"{}\"", it.event.event_type, it.event.id, it.event.stream_id),
            ),
            Entry::Turned(it) => (it.step.as_ref(), None, None, format!("{}: {}", why(it.why), it.reason)),
            Entry::AttentionNeeded(it) => (it.step.as_ref(), None, None, it.reason.clone()),
            Entry::Commanded(it) => {
                let reason = it.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
                (it.step.as_ref(), None, None, format!("{:?}{reason}", it.command).to_lowercase())
            }
            Entry::Completed(_) => (None, None, None, "all steps are done".to_owned()),
            Entry::Compensated(_) => (None, None, None, "all that was done has been undone".to_owned()),
        };
        Self { time, what: entry.event_type().to_owned(), step: step.cloned(), direction, text, key }
    }
}

const fn why(why: Why) -> &'static str {
    match why {
        Why::Failed => "a step failed",
        Why::Unknown => "a step was done, or may have been",
        Why::TimedOut => "the saga's time was up",
        Why::Aborted => "aborted",
    }
}

fn next(plan: &Plan, instance: &Folded) -> Vec<String> {
    if instance.ended.is_some() {
        return Vec::new();
    }
    let one = |(task, direction): (usize, Direction)| {
        let progress = instance.progress(task, direction);
        let way = if direction == Direction::Do { "do" } else { "undo" };
        let name = &plan.tasks[task].name;
        match progress.stage {
            Stage::Sent(until) => format!("{name}: its reply is waited for until {until}"),
            Stage::Failed => format!("{name}: stuck; retry or skip it"),
            _ if progress.attempts > 0 => {
                format!("{way} {name}: attempt {} at {}", progress.attempts + 1, progress.due)
            }
            _ => format!("{way} {name}: sent, or about to be"),
        }
    };
    instance.open_or_stuck(plan).into_iter().map(one).collect()
}
