//! What follows from where an instance stands: what to record, then what to send, then when to look again. Pure, but for the jitter
//! of pauses, which are recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headwater_core::{Error, Result, RetryPolicy};
use headwater_resources::saga::Role;
use jiff::Timestamp;

use crate::call::Answer;
use crate::history::{
    AttemptUnanswered, AttentionNeeded, Direction, Ended, Entry, StepBegun, StepFailed, StepSent,
    StepSucceeded, StepUnknown, Turned, WaitsFor, Why, brief,
};
use crate::instance::{Instance, Stage};
use crate::plan::Plan;
use crate::variables::{self, Names};

/// Steps, each in a direction, whose request is under way in this process.
pub(crate) type Busy = BTreeSet<(usize, Direction)>;

/// More entries than this cannot follow from one place: there are 64 steps, each with a few.
const MOST_ENTRIES: usize = 1_000;

/// What is left to do when nothing is left to record.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Todo {
    /// To be sent now.
    pub(crate) calls: Vec<(usize, Direction)>,
    /// To be looked at again then.
    pub(crate) wake: Option<Timestamp>,
}

/// Takes the instance as far as it goes without waiting for anything, and gives what is to be recorded for it.
///
/// # Errors
/// `Internal` when there is no end to it.
pub(crate) fn advance(
    names: &Names,
    plan: &Plan,
    instance: &mut Instance,
    busy: &Busy,
    now: Timestamp,
) -> Result<Vec<Entry>> {
    let mut recorded = Vec::new();
    loop {
        let entries = next(names, plan, instance, busy, now);
        if entries.is_empty() {
            return Ok(recorded);
        }
        for entry in &entries {
            instance.apply(plan, entry, now)?;
        }
        recorded.extend(entries);
        if recorded.len() > MOST_ENTRIES {
            return Err(Error::internal(format!(
                "instance \"{}\" has no end of things to record; please report this",
                instance.started.instance
            )));
        }
    }
}

/// What is to be sent, and when to look again.
pub(crate) fn todo(plan: &Plan, instance: &Instance, busy: &Busy, now: Timestamp) -> Todo {
    let mut todo = Todo::default();
    if instance.ended.is_some() {
        return todo;
    }
    let mut wake = |at: Timestamp| todo.wake = Some(todo.wake.map_or(at, |known| known.min(at)));
    for (task, direction) in instance.open_or_stuck(plan) {
        if busy.contains(&(task, direction)) {
            continue;
        }
        let progress = instance.progress(task, direction);
        match progress.stage {
            Stage::Begun if progress.due <= now => todo.calls.push((task, direction)),
            Stage::Begun => wake(progress.due),
            Stage::Sent(until) => wake(until),
            Stage::Idle | Stage::Succeeded | Stage::Failed | Stage::Unknown => {}
        }
    }
    if let Some(deadline) = deadline(plan, instance) {
        wake(deadline);
    }
    todo
}

/// What an answer means for a step: what to record first.
pub(crate) fn conclude(
    plan: &Plan,
    instance: &Instance,
    (task, direction): (usize, Direction),
    answer: Answer,
    sent_at: Timestamp,
    now: Timestamp,
) -> Vec<Entry> {
    let known = &plan.tasks[task];
    if !instance.progress(task, direction).stage.is_open() {
        // Decided meanwhile: by the reply, or by a person.
        return Vec::new();
    }
    let step = known.name.clone();
    match answer {
        Answer::Success(response) if known.awaits.is_some() && direction == Direction::Do => {
            vec![Entry::StepSent(StepSent {
                step,
                answer: brief(response.summary),
                response: response.value,
                until: later(sent_at, known.timeout),
            })]
        }
        Answer::Success(response) => {
            let captured = match direction {
                Direction::Do => variables::capture(instance, known, Some(&response.value), None),
                Direction::Undo => Ok(BTreeMap::new()),
            };
            match captured {
                Ok(captured) => vec![succeeded(step, direction, brief(response.summary), captured)],
                Err(why) => without_capture(plan, task, &why),
            }
        }
        Answer::Failure { reason, .. } => {
            vec![Entry::StepFailed(StepFailed { step, direction, reason: brief(reason) })]
        }
        Answer::Unanswered { reason } | Answer::NotTried { reason } => {
            vec![unanswered(plan, instance, (task, direction), brief(reason), now)]
        }
    }
}

fn next(names: &Names, plan: &Plan, instance: &Instance, busy: &Busy, now: Timestamp) -> Vec<Entry> {
    if instance.ended.is_some() {
        return Vec::new();
    }
    let settled = settle(plan, instance, now);
    if !settled.is_empty() {
        return settled;
    }
    if instance.turned.is_none() {
        if let Some(turned) = turn(plan, instance, now) {
            return vec![Entry::Turned(turned)];
        }
        if instance.is_past_pivot(plan)
            && !instance.overdue
            && deadline(plan, instance).is_some_and(|deadline| deadline <= now)
        {
            return vec![attention(
                None,
                "the saga's timeout is over; the pivot has been begun, so it goes on forward: see which step it is at",
            )];
        }
        return match instance.forward_group(plan) {
            Some(group) => begin_or_ask(names, plan, instance, group, Direction::Do),
            None => ending(names, plan, instance, plan.on_completed),
        };
    }
    let given_up: Vec<Entry> = instance
        .open_forward(plan)
        .into_iter()
        .filter(|task| !busy.contains(&(*task, Direction::Do)))
        .map(|task| {
            let reason = "the saga turned back before it was known".to_owned();
            Entry::StepUnknown(StepUnknown { step: plan.tasks[task].name.clone(), reason })
        })
        .collect();
    if !given_up.is_empty() || instance.is_open_forward(plan) {
        return given_up;
    }
    let group = instance.backward_group(plan);
    if group.is_empty() {
        ending(names, plan, instance, plan.on_compensated)
    } else {
        begin_or_ask(names, plan, instance, &group, Direction::Undo)
    }
}

/// What is known of open steps without asking anybody: a person said so, the reply is there, or its time is up.
fn settle(plan: &Plan, instance: &Instance, now: Timestamp) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (task, state) in instance.tasks.iter().enumerate() {
        let known = &plan.tasks[task];
        for direction in [Direction::Do, Direction::Undo] {
            let progress = instance.progress(task, direction);
            if progress.skip && (progress.stage.is_open() || progress.stage == Stage::Failed) {
                entries.push(Entry::StepSucceeded(StepSucceeded {
                    step: known.name.clone(),
                    direction,
                    answer: "skipped by command".to_owned(),
                    captured: BTreeMap::new(),
                    skipped: true,
                }));
            }
        }
        if !entries.is_empty() || !state.forward.stage.is_open() {
            continue;
        }
        if let (Some(reply), Some(awaits)) = (&state.reply, &known.awaits) {
            let event = &reply.event;
            let done = !awaits.failure.contains(&event.event_type);
            if done && state.response.is_none() && known.captures_response() {
                // The reply was faster than the answer, which is asked for (again): something is kept of it.
                continue;
            }
            let answer = format!("{} {} of \"{}\"", event.event_type, event.id, event.stream_id);
            let captured =
                done.then(|| variables::capture(instance, known, state.response.as_ref(), Some(reply)));
            match captured {
                None => entries.push(Entry::StepFailed(StepFailed {
                    step: known.name.clone(),
                    direction: Direction::Do,
                    reason: answer,
                })),
                Some(Ok(captured)) => {
                    entries.push(succeeded(known.name.clone(), Direction::Do, answer, captured));
                }
                Some(Err(why)) => entries.extend(without_capture(plan, task, &why)),
            }
        } else if let Stage::Sent(until) = state.forward.stage
            && until <= now
        {
            let reason = format!("no reply within {:?}", known.timeout);
            entries.push(unanswered(plan, instance, (task, Direction::Do), reason, now));
        }
    }
    entries
}

/// Why the instance turns back now, if it does.
fn turn(plan: &Plan, instance: &Instance, now: Timestamp) -> Option<Turned> {
    if instance.is_past_pivot(plan) {
        return None;
    }
    for (task, state) in instance.tasks.iter().enumerate() {
        let known = &plan.tasks[task];
        if plan.is_ending(task) || known.role == Role::Retriable {
            continue;
        }
        let why = match state.forward.stage {
            Stage::Failed => Why::Failed,
            Stage::Unknown => Why::Unknown,
            Stage::Idle | Stage::Begun | Stage::Sent(_) | Stage::Succeeded => continue,
        };
        let reason = state.forward.reason.clone().unwrap_or_default();
        return Some(Turned { why, step: Some(known.name.clone()), reason });
    }
    if let Some(reason) = &instance.abort {
        return Some(Turned { why: Why::Aborted, step: None, reason: reason.clone() });
    }
    let timeout = plan.timeout?;
    (later(instance.started_at, timeout) <= now).then(|| Turned {
        why: Why::TimedOut,
        step: None,
        reason: format!("it was not done within {timeout:?}"),
    })
}

/// Begins the steps of a group that are not begun; says of those that are stuck that a person has to look.
fn begin_or_ask(
    names: &Names,
    plan: &Plan,
    instance: &Instance,
    group: &[usize],
    direction: Direction,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for task in group {
        let progress = instance.progress(*task, direction);
        let step = &plan.tasks[*task].name;
        match progress.stage {
            Stage::Idle => entries.extend(begin(names, plan, instance, *task, direction)),
            Stage::Failed if progress.retry => entries.extend(begin(names, plan, instance, *task, direction)),
            Stage::Failed => {
                let what = match direction {
                    Direction::Do if plan.is_ending(*task) => "failed",
                    Direction::Do => "failed, and the saga only goes forward",
                    Direction::Undo => "cannot be undone",
                };
                let reason = progress.reason.as_deref().unwrap_or_default();
                ask(
                    instance,
                    step,
                    &format!("step {step} {what}: {reason}; correct it and retry, or do it by hand and skip"),
                    &mut entries,
                );
            }
            Stage::Begun | Stage::Sent(_)
                if !instance.can_turn_at(plan, *task)
                    && progress.unanswered >= plan.tasks[*task].retry.max_attempts =>
            {
                let reason = progress.reason.as_deref().unwrap_or_default();
                ask(
                    instance,
                    step,
                    &format!(
                        "step {step} has had no answer {} times and is tried on: {reason}",
                        progress.unanswered
                    ),
                    &mut entries,
                );
            }
            Stage::Begun | Stage::Sent(_) | Stage::Succeeded | Stage::Unknown => {}
        }
    }
    entries
}

fn ask(instance: &Instance, step: &str, reason: &str, entries: &mut Vec<Entry>) {
    let asked = entries.iter().any(|entry| matches!(entry, Entry::AttentionNeeded(_)));
    if instance.attention.is_none() && !asked {
        entries.push(attention(Some(step), reason));
    }
}

fn attention(step: Option<&str>, reason: &str) -> Entry {
    Entry::AttentionNeeded(AttentionNeeded { step: step.map(str::to_owned), reason: reason.to_owned() })
}

fn begin(names: &Names, plan: &Plan, instance: &Instance, task: usize, direction: Direction) -> Vec<Entry> {
    let known = &plan.tasks[task];
    let (step, key) = (known.name.clone(), variables::key(names, instance, known, direction));
    let prepared = variables::call(names, plan, instance, task, direction).and_then(|call| {
        let waits_for = match direction {
            Direction::Do => variables::correlation(instance, known)?,
            Direction::Undo => None,
        };
        Ok((call, waits_for))
    });
    match prepared {
        Ok((call, value)) => {
            let waits_for = value.zip(known.awaits.as_ref()).map(|(value, awaits)| WaitsFor {
                events: awaits.events().cloned().collect(),
                value: brief(value),
            });
            let call = brief(variables::describe(&call.request));
            vec![Entry::StepBegun(StepBegun { step, direction, call, key, waits_for })]
        }
        Err(why) => {
            let reason = brief(format!("its request cannot be made, and nothing was sent: {why}"));
            vec![
                Entry::StepBegun(StepBegun {
                    step: step.clone(),
                    direction,
                    call: "nobody".to_owned(),
                    key,
                    waits_for: None,
                }),
                Entry::StepFailed(StepFailed { step, direction, reason }),
            ]
        }
    }
}

fn ending(names: &Names, plan: &Plan, instance: &Instance, task: Option<usize>) -> Vec<Entry> {
    if let Some(task) = task
        && instance.tasks[task].forward.stage != Stage::Succeeded
    {
        return begin_or_ask(names, plan, instance, &[task], Direction::Do);
    }
    let ended = Ended {
        instance: instance.started.instance.clone(),
        definition: instance.started.definition.clone(),
        started_at: instance.started_at,
        reason: instance.turned.as_ref().map(|turned| turned.reason.clone()),
    };
    vec![if instance.turned.is_some() { Entry::Compensated(ended) } else { Entry::Completed(ended) }]
}

fn succeeded(
    step: String,
    direction: Direction,
    answer: String,
    captured: BTreeMap<String, crate::json::Json>,
) -> Entry {
    Entry::StepSucceeded(StepSucceeded { step, direction, answer, captured, skipped: false })
}

/// The step was done, but its answer has not what later steps need: turn back while that is possible; else go on without it, and the
/// step that misses it says so.
fn without_capture(plan: &Plan, task: usize, why: &str) -> Vec<Entry> {
    let known = &plan.tasks[task];
    let reason = brief(format!("it was done, but its answer has not what is captured of it: {why}"));
    vec![if known.role == Role::Compensatable && !plan.is_ending(task) {
        Entry::StepUnknown(StepUnknown { step: known.name.clone(), reason })
    } else {
        succeeded(known.name.clone(), Direction::Do, reason, BTreeMap::new())
    }]
}

/// No answer: once more, later, or never.
fn unanswered(
    plan: &Plan,
    instance: &Instance,
    (task, direction): (usize, Direction),
    reason: String,
    now: Timestamp,
) -> Entry {
    let known = &plan.tasks[task];
    let progress = instance.progress(task, direction);
    let may_give_up =
        direction == Direction::Do && known.role == Role::Compensatable && !plan.is_ending(task);
    let last = instance.turned.is_some() || progress.unanswered + 1 >= known.retry.max_attempts;
    if may_give_up && last {
        return Entry::StepUnknown(StepUnknown { step: known.name.clone(), reason });
    }
    let policy = RetryPolicy {
        name: "saga step",
        attempts: u32::MAX,
        initial: known.retry.initial_backoff.get(),
        max: known.retry.max_backoff.get(),
    };
    let pause = policy.delay(progress.unanswered + 1).unwrap_or(policy.max);
    Entry::AttemptUnanswered(AttemptUnanswered {
        step: known.name.clone(),
        direction,
        attempt: progress.attempts + 1,
        reason,
        next: later(now, pause),
    })
}

/// When the saga's time is up, where that still means something.
fn deadline(plan: &Plan, instance: &Instance) -> Option<Timestamp> {
    let timeout = plan.timeout?;
    (instance.turned.is_none() && !instance.overdue).then(|| later(instance.started_at, timeout))
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}
