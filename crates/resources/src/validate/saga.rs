//! Sagas: names, roles and compensations, as far as the structure shows them.

use std::collections::HashMap;

use headwater_expr::{Scope, Template};

use super::{expression, scope};
use crate::event_stream::EventStream;
use crate::fault::{At, Path, Problem};
use crate::saga::{CompensationType, Role, Saga, Work};

/// All that is wrong with a saga. Expressions of its steps are checked by what runs them.
pub fn saga(saga: &Saga, stream: Option<&EventStream>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = Path::root().field("spec");
    start(saga, stream, &spec, &mut problems);
    let mut checker = Checker { names: HashMap::new(), pivot: None, problems: &mut problems };
    let steps = spec.field("steps");
    for (index, step) in saga.spec.steps.iter().enumerate() {
        let path = steps.index(index);
        checker.name(&step.name, &path);
        match &step.parallel {
            None => checker.work(&step.work, &path),
            Some(parallel) => {
                checker.nothing_but_parallel(&step.work, &path);
                for (index, branch) in parallel.steps.iter().enumerate() {
                    let path = path.field("parallel").field("steps").index(index);
                    checker.name(&branch.name, &path);
                    if branch.work.role == Some(Role::Pivot) {
                        checker.problem(
                            path.field("role"),
                            "a step within parallel cannot decide",
                            "make the pivot a step of its own",
                        );
                        continue;
                    }
                    checker.work(&branch.work, &path);
                }
            }
        }
    }
    problems
}

fn start(saga: &Saga, stream: Option<&EventStream>, spec: &Path, problems: &mut Vec<Problem>) {
    let data = scope::data(stream, saga.spec.start_on.events.iter().map(String::as_str));
    let scope = Scope::new().with("event", headwater_expr::event_type(data));
    if let Some(when) = &saga.spec.start_on.when {
        expression::condition(when, &scope, &spec.field("startOn").field("when"), problems);
    }
    for (name, source) in &saga.spec.variables {
        expression::compile(source, &scope, &spec.field("variables").field(name), problems);
    }
    if let Some(instance) = &saga.spec.instance
        && let Err(faults) = Template::compile(instance, &scope)
    {
        problems.extend(faults.into_iter().map(|fault| {
            let at = At::Text { line: fault.line, column: fault.column };
            Problem { at, ..Problem::new(spec.field("instance"), fault.message, "") }
        }));
    }
}

struct Checker<'a> {
    names: HashMap<String, Path>,
    pivot: Option<Path>,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, path: Path, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(path, message, remedy));
    }

    fn name(&mut self, name: &str, path: &Path) {
        if let Some(first) = self.names.insert(name.to_owned(), path.clone()) {
            let message = format!("{first} is called \"{name}\" too");
            self.problem(
                path.field("name"),
                message,
                "give each step its own name: it is part of the idempotency key",
            );
        }
    }

    fn nothing_but_parallel(&mut self, work: &Work, path: &Path) {
        let given = [
            ("awaitReply", work.await_reply.is_some()),
            ("capture", !work.capture.is_empty()),
            ("timeout", work.timeout.is_some()),
            ("retry", work.retry.is_some()),
            ("role", work.role.is_some()),
            ("compensation", work.compensation.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            self.problem(
                path.field(field),
                "a parallel step has only its steps",
                "move it into the steps that it is for",
            );
        }
    }

    fn work(&mut self, work: &Work, path: &Path) {
        let role = work.role.unwrap_or_default();
        let compensation = work.compensation.as_ref().map(|compensation| compensation.r#type);
        match (role, compensation) {
            (Role::Compensatable, None) => self.problem(
                path.field("compensation"),
                "is missing: a Compensatable step says how it is undone",
                "add it, or compensation: {type: None} when there is nothing to undo",
            ),
            (Role::Pivot | Role::Retriable, Some(kind)) if kind != CompensationType::None => self.problem(
                path.field("compensation"),
                format!("a {} step is never undone", if role == Role::Pivot { "Pivot" } else { "Retriable" }),
                "remove it, or make the role Compensatable",
            ),
            _ => {}
        }
        match (role, &self.pivot) {
            (Role::Pivot, Some(first)) => {
                let message = format!("{first} is the pivot already");
                self.problem(path.field("role"), message, "let one step decide");
            }
            (Role::Pivot, None) => self.pivot = Some(path.clone()),
            (Role::Retriable, None) => {
                self.problem(
                    path.field("role"),
                    "a Retriable step follows the Pivot, and none is before it",
                    "make it Compensatable, or put a Pivot before it",
                );
            }
            (Role::Compensatable, Some(first)) => {
                let message = format!("after the pivot, {first}, the saga only goes forward");
                self.problem(path.field("role"), message, "make it Retriable, or move it before the pivot");
            }
            (Role::Retriable, Some(_)) | (Role::Compensatable, None) => {}
        }
    }
}
