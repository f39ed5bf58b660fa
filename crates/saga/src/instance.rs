//! Where an instance stands: the fold of its history, which refuses entries that cannot follow.
//!
//! ```text
//! forward:   group ─▶ group ─▶ … ─▶ onCompleted ─▶ completed
//!              │ failed · unknown · timed out · aborted   (before the pivot)
//!              ▼
//! backward:  … ◀─ group ◀─ group, what was done or may have been ─▶ onCompensated ─▶ compensated
//!
//! a step, each way:   idle ─▶ begun ─▶ (sent) ─▶ succeeded │ failed │ unknown (only when done, never when undone)
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;

use headwater_core::{Error, Result, Version};
use headwater_resources::saga::Role;
use jiff::Timestamp;
use serde::Serialize;

use crate::history::{Command, Direction, Entry, ReplySeen, Started, Turned};
use crate::json::Json;
use crate::plan::Plan;

/// An instance, as its history says.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) started: Started,
    pub(crate) started_at: Timestamp,
    /// Of its stream.
    pub(crate) version: Version,
    /// When the last entry was recorded.
    pub(crate) changed_at: Timestamp,
    /// By the plan's tasks.
    pub(crate) tasks: Vec<TaskState>,
    /// What steps kept of their answers.
    pub(crate) captured: BTreeMap<String, Json>,
    pub(crate) turned: Option<Turned>,
    pub(crate) abort: Option<String>,
    pub(crate) attention: Option<Attention>,
    /// It was said that the saga's time is up.
    pub(crate) overdue: bool,
    pub(crate) ended: Option<State>,
}

/// Why a person has to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attention {
    pub(crate) step: Option<String>,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TaskState {
    pub(crate) forward: Progress,
    pub(crate) backward: Progress,
    pub(crate) response: Option<Json>,
    pub(crate) reply: Option<ReplySeen>,
}

/// How far a step is, one way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    /// Attempts without an answer since it was begun, or since a person had it tried again.
    pub(crate) unanswered: u32,
    /// All attempts without an answer.
    pub(crate) attempts: u32,
    /// Not to be tried before.
    pub(crate) due: Timestamp,
    pub(crate) retry: bool,
    pub(crate) skip: bool,
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    #[default]
    Idle,
    Begun,
    /// The reply is waited for until then.
    Sent(Timestamp),
    Succeeded,
    Failed,
    Unknown,
}

impl Stage {
    /// Neither idle nor decided.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Begun | Self::Sent(_))
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It goes forward.
    Running,
    /// It is being undone.
    Compensating,
    /// A person has to look.
    NeedsAttention,
    /// All steps are done.
    Completed,
    /// All that was done has been undone.
    Compensated,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Compensating, Self::NeedsAttention, Self::Completed, Self::Compensated];

    /// As lists and URLs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::NeedsAttention => "needs-attention",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
        }
    }

    /// Whether nothing more comes.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }
}

impl FromStr for State {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid("state", format!("{text:?} is no state; there is {known}"))
        })
    }
}

impl Instance {
    /// The instance that `started`.
    pub(crate) fn new(plan: &Plan, started: Started, at: Timestamp) -> Self {
        Self {
            started,
            started_at: at,
            version: Version::new(1),
            changed_at: at,
            tasks: vec![TaskState::default(); plan.tasks.len()],
            captured: BTreeMap::new(),
            turned: None,
            abort: None,
            attention: None,
            overdue: false,
            ended: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        match (self.ended, &self.attention, &self.turned) {
            (Some(ended), ..) => ended,
            (None, Some(_), _) => State::NeedsAttention,
            (None, None, Some(_)) => State::Compensating,
            (None, None, None) => State::Running,
        }
    }

    /// What expressions know besides the instance's name, by name.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.started.variables.iter().chain(&self.captured).map(|(name, value)| (name.as_str(), value))
    }

    /// The pivot was begun, and did not fail: from there on it only goes forward.
    pub(crate) fn is_past_pivot(&self, plan: &Plan) -> bool {
        plan.tasks.iter().zip(&self.tasks).any(|(task, state)| {
            task.role == Role::Pivot && !matches!(state.forward.stage, Stage::Idle | Stage::Failed)
        })
    }

    /// Whether a step that cannot be done makes the instance turn back.
    pub(crate) fn can_turn_at(&self, plan: &Plan, task: usize) -> bool {
        self.turned.is_none() && plan.tasks[task].role == Role::Compensatable && !plan.is_ending(task)
    }

    /// Whether a task was done, or may have been, and is to be undone.
    pub(crate) fn needs_undoing(&self, plan: &Plan, task: usize) -> bool {
        let state = &self.tasks[task];
        plan.tasks[task].compensation.is_some()
            && matches!(state.forward.stage, Stage::Succeeded | Stage::Unknown)
            && state.backward.stage != Stage::Succeeded
    }

    /// Whether there is one of [`open_forward`](Self::open_forward).
    pub(crate) fn is_open_forward(&self, plan: &Plan) -> bool {
        !self.open_forward(plan).is_empty()
    }

    /// The steps that are neither decided nor idle on the way forward.
    pub(crate) fn open_forward(&self, plan: &Plan) -> Vec<usize> {
        let open = |task: &usize| self.tasks[*task].forward.stage.is_open() && !plan.is_ending(*task);
        (0..self.tasks.len()).filter(open).collect()
    }

    /// The steps that are to be done now; `None`: all are done.
    pub(crate) fn forward_group<'p>(&self, plan: &'p Plan) -> Option<&'p [usize]> {
        let done = |task: &usize| self.tasks[*task].forward.stage == Stage::Succeeded;
        plan.groups.iter().find(|group| !group.iter().all(done)).map(Vec::as_slice)
    }

    /// The steps that are to be undone now; empty: none is left.
    pub(crate) fn backward_group(&self, plan: &Plan) -> Vec<usize> {
        let undone = |group: &Vec<usize>| -> Vec<usize> {
            group.iter().copied().filter(|task| self.needs_undoing(plan, *task)).collect()
        };
        plan.groups.iter().rev().map(undone).find(|group| !group.is_empty()).unwrap_or_default()
    }

    pub(crate) fn progress(&self, task: usize, direction: Direction) -> &Progress {
        match direction {
            Direction::Do => &self.tasks[task].forward,
            Direction::Undo => &self.tasks[task].backward,
        }
    }

    fn progress_mut(&mut self, task: usize, direction: Direction) -> &mut Progress {
        match direction {
            Direction::Do => &mut self.tasks[task].forward,
            Direction::Undo => &mut self.tasks[task].backward,
        }
    }

    /// Takes an entry over, recorded `at`.
    ///
    /// # Errors
    /// `Corrupt` when it cannot follow what is there.
    pub(crate) fn apply(&mut self, plan: &Plan, entry: &Entry, at: Timestamp) -> Result<()> {
        if let Err(why) = self.follow(plan, entry, at) {
            return Err(Error::corrupt(format!(
                "instance \"{}\": {} cannot follow version {} of its history: {why}; it goes on no further: look at its history, and report this",
                self.started.instance,
                entry.event_type(),
                self.version
            )));
        }
        self.version = self.version.next();
        self.changed_at = at;
        Ok(())
    }

    fn follow(&mut self, plan: &Plan, entry: &Entry, at: Timestamp) -> Result<(), String> {
        let passive = matches!(entry, Entry::ReplySeen(_) | Entry::Commanded(_));
        if self.ended.is_some() && !passive {
            return Err("it has ended".to_owned());
        }
        let known = |step: &str| plan.task(step).ok_or_else(|| format!("there is no step \"{step}\""));
        match entry {
            Entry::Started(_) => return Err("it has started before".to_owned()),
            Entry::StepBegun(begun) => {
                let task = known(&begun.step)?;
                self.may_begin(plan, task, begun.direction)?;
                let progress = self.progress_mut(task, begun.direction);
                *progress = Progress {
                    stage: Stage::Begun,
                    due: at,
                    attempts: progress.attempts,
                    ..Progress::default()
                };
                self.calm(&begun.step);
            }
            Entry::StepSent(sent) => {
                let task = known(&sent.step)?;
                if plan.tasks[task].awaits.is_none() {
                    return Err("the step waits for no reply".to_owned());
                }
                if self.tasks[task].forward.stage != Stage::Begun {
                    return Err("the step is not begun".to_owned());
                }
                self.tasks[task].response = Some(sent.response.clone());
                self.tasks[task].forward.stage = Stage::Sent(sent.until);
            }
            Entry::AttemptUnanswered(attempt) => {
                let task = known(&attempt.step)?;
                let progress = self.open(task, attempt.direction)?;
                progress.stage = Stage::Begun;
                progress.unanswered += 1;
                progress.attempts += 1;
                progress.due = attempt.next;
                progress.reason = Some(attempt.reason.clone());
            }
            Entry::StepSucceeded(succeeded) => {
                let task = known(&succeeded.step)?;
                let progress = self.progress_mut(task, succeeded.direction);
                let stuck = progress.stage == Stage::Failed && succeeded.skipped;
                if !progress.stage.is_open() && !stuck {
                    return Err("the step is not begun".to_owned());
                }
                progress.stage = Stage::Succeeded;
                progress.reason = None;
                self.captured.extend(succeeded.captured.clone());
                self.calm(&succeeded.step);
            }
            Entry::StepFailed(failed) => {
                let task = known(&failed.step)?;
                let progress = self.open(task, failed.direction)?;
                progress.stage = Stage::Failed;
                progress.reason = Some(failed.reason.clone());
            }
            Entry::StepUnknown(unknown) => {
                let task = known(&unknown.step)?;
                if plan.tasks[task].role != Role::Compensatable || plan.is_ending(task) {
                    return Err("a step that is not undone is tried until it is known".to_owned());
                }
                let progress = self.open(task, Direction::Do)?;
                progress.stage = Stage::Unknown;
                progress.reason = Some(unknown.reason.clone());
            }
            Entry::ReplySeen(reply) => {
                let task = known(&reply.step)?;
                // The first reply counts, and only while it is waited for; whatever else comes is history.
                if self.tasks[task].forward.stage.is_open() && self.tasks[task].reply.is_none() {
                    self.tasks[task].reply = Some(reply.clone());
                }
            }
            Entry::Turned(turned) => {
                if self.turned.is_some() {
                    return Err("it has turned back before".to_owned());
                }
                if self.is_past_pivot(plan) {
                    return Err("the pivot has been begun".to_owned());
                }
                self.turned = Some(turned.clone());
                self.abort = None;
            }
            Entry::AttentionNeeded(attention) => {
                self.overdue |= attention.step.is_none();
                self.attention =
                    Some(Attention { step: attention.step.clone(), reason: attention.reason.clone() });
            }
            Entry::Commanded(commanded) => self.command(
                plan,
                commanded.command,
                commanded.step.as_deref(),
                commanded.reason.as_deref(),
                at,
            ),
            Entry::Completed(_) => {
                let said =
                    plan.on_completed.is_none_or(|task| self.tasks[task].forward.stage == Stage::Succeeded);
                if self.turned.is_some() || self.forward_group(plan).is_some() || !said {
                    return Err("not all of its steps are done".to_owned());
                }
                self.end(State::Completed);
            }
            Entry::Compensated(_) => {
                let said =
                    plan.on_compensated.is_none_or(|task| self.tasks[task].forward.stage == Stage::Succeeded);
                if self.turned.is_none()
                    || self.is_open_forward(plan)
                    || !self.backward_group(plan).is_empty()
                    || !said
                {
                    return Err("not all that was done has been undone".to_owned());
                }
                self.end(State::Compensated);
            }
        }
        Ok(())
    }

    /// Whether a step may be begun now.
    fn may_begin(&self, plan: &Plan, task: usize, direction: Direction) -> Result<(), String> {
        let progress = self.progress(task, direction);
        let again = progress.stage == Stage::Failed && progress.retry;
        if progress.stage != Stage::Idle && !again {
            return Err("the step has been begun before".to_owned());
        }
        let in_turn = if plan.is_ending(task) {
            let forward = self.turned.is_none() && self.forward_group(plan).is_none();
            let backward =
                self.turned.is_some() && !self.is_open_forward(plan) && self.backward_group(plan).is_empty();
            (forward && plan.on_completed == Some(task)) || (backward && plan.on_compensated == Some(task))
        } else {
            match direction {
                Direction::Do => {
                    self.turned.is_none()
                        && self.forward_group(plan).is_some_and(|group| group.contains(&task))
                }
                Direction::Undo => {
                    self.turned.is_some()
                        && !self.is_open_forward(plan)
                        && self.backward_group(plan).contains(&task)
                }
            }
        };
        if in_turn { Ok(()) } else { Err("it is not the step's turn".to_owned()) }
    }

    fn open(&mut self, task: usize, direction: Direction) -> Result<&mut Progress, String> {
        let progress = self.progress_mut(task, direction);
        if progress.stage.is_open() { Ok(progress) } else { Err("the step is not begun".to_owned()) }
    }

    /// What a person was to look at is over.
    fn calm(&mut self, step: &str) {
        if self.attention.as_ref().is_some_and(|attention| attention.step.as_deref() == Some(step)) {
            self.attention = None;
        }
    }

    fn end(&mut self, state: State) {
        self.ended = Some(state);
        self.attention = None;
    }

    /// The tasks that a person can mean: those that are begun or stuck, the way that it goes.
    pub(crate) fn open_or_stuck(&self, plan: &Plan) -> Vec<(usize, Direction)> {
        let mut found = Vec::new();
        for (task, state) in self.tasks.iter().enumerate() {
            let open = |progress: &Progress| progress.stage.is_open() || progress.stage == Stage::Failed;
            let forward_counts = self.turned.is_none() || plan.is_ending(task);
            if forward_counts && open(&state.forward) {
                found.push((task, Direction::Do));
            }
            if self.turned.is_some() && open(&state.backward) {
                found.push((task, Direction::Undo));
            }
        }
        found
    }

    fn command(
        &mut self,
        plan: &Plan,
        command: Command,
        step: Option<&str>,
        reason: Option<&str>,
        at: Timestamp,
    ) {
        if self.ended.is_some() {
            return;
        }
        if command == Command::Abort {
            if self.turned.is_none() && !self.is_past_pivot(plan) {
                self.abort = Some(reason.unwrap_or("aborted by command").to_owned());
            }
            return;
        }
        if command == Command::Resume {
            self.attention = None;
        }
        for (task, direction) in self.open_or_stuck(plan) {
            if step.is_some_and(|step| step != plan.tasks[task].name) {
                continue;
            }
            let progress = self.progress_mut(task, direction);
            match command {
                Command::Skip => progress.skip = true,
                Command::Retry | Command::Resume => {
                    progress.unanswered = 0;
                    progress.due = at;
                    progress.retry = progress.stage == Stage::Failed;
                    if let Stage::Sent(_) = progress.stage {
                        progress.stage = Stage::Begun;
                    }
                }
                Command::Abort => {}
            }
            self.calm(&plan.tasks[task].name.clone());
        }
    }
}
