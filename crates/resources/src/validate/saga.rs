//! Sagas: names, roles, compensations, and every expression with the variables that are known where it stands.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use headwater_expr::{Scope, Type};
use serde_json::Value;

use super::{address, expression, scope};
use crate::event_stream::EventStream;
use crate::fault::{Path, Problem};
use crate::saga::{
    AppendAction, AwaitReply, CompensationType, FRAMING_HEADERS, GrpcAction, Header, HttpAction, Role, Saga,
    Step, Work,
};
use crate::shared::Cel;

/// Names that expressions have besides the saga's variables, and what they stand for.
const OWN_NAMES: [(&str, &str); 4] = [
    ("instance", "the instance's name"),
    ("failure", "why the saga turned back"),
    ("event", "the event that starts it, or a reply"),
    ("response", "what a participant answered"),
];

/// The shortest pause between attempts.
const MIN_BACKOFF: Duration = Duration::from_millis(1);

/// All that is wrong with a saga.
pub fn saga(saga: &Saga, stream: Option<&EventStream>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = Path::root().field("spec");
    let variables = start(saga, stream, &spec, &mut problems);
    let given = variables.len();
    let mut checker =
        Checker { names: HashMap::new(), pivot: None, variables, given, stream, problems: &mut problems };
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
        checker.expressions(step, &path);
    }
    checker.endings(saga, &spec);
    problems
}

/// Gives the variables that are known from the start.
fn start(
    saga: &Saga,
    stream: Option<&EventStream>,
    spec: &Path,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Type)> {
    let mut variables = Vec::new();
    if saga.spec.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
        problems.push(Problem::new(
            spec.field("timeout"),
            "nothing is done in no time",
            "give a length of time, such as 15m",
        ));
    }
    let types = spec.field("startOn").field("events");
    for (index, name) in saga.spec.start_on.events.iter().enumerate() {
        event_type(name, &types.index(index), problems);
    }
    let data = scope::data(stream, saga.spec.start_on.events.iter().map(String::as_str));
    let scope = Scope::new().with("event", headwater_expr::event_type(data));
    if let Some(when) = &saga.spec.start_on.when {
        expression::condition(when, &scope, &spec.field("startOn").field("when"), problems);
    }
    for (name, source) in &saga.spec.variables {
        let path = spec.field("variables").field(name);
        own_name(name, &path, problems);
        let compiled = expression::compile(source, &scope, &path, problems);
        variables.push((name.clone(), compiled.map_or(Type::Any, |compiled| compiled.result().clone())));
    }
    if let Some(instance) = &saga.spec.instance {
        expression::template(instance, &scope, &spec.field("instance"), problems);
    }
    variables
}

fn event_type(name: &str, path: &Path, problems: &mut Vec<Problem>) {
    if name.chars().any(char::is_control) {
        let message = format!("{name:?} has a control character, and no event's type has one");
        problems.push(Problem::new(path.clone(), message, "remove it"));
    }
}

fn own_name(name: &str, path: &Path, problems: &mut Vec<Problem>) {
    if let Some((_, what)) = OWN_NAMES.iter().find(|(own, _)| *own == name) {
        let message = format!("\"{name}\" is {what}, and cannot be another variable");
        problems.push(Problem::new(path.clone(), message, "call it something else"));
    }
}

struct Checker<'a> {
    names: HashMap<String, Path>,
    pivot: Option<Path>,
    /// What is known where the check stands: what is known from the start, then what steps capture.
    variables: Vec<(String, Type)>,
    /// How many are known from the start.
    given: usize,
    stream: Option<&'a EventStream>,
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

    fn times(&mut self, work: &Work, path: &Path) {
        if work.timeout.is_some_and(|timeout| timeout.get().is_zero()) {
            self.problem(
                path.field("timeout"),
                "nobody answers in no time",
                "give a length of time, such as 10s",
            );
        }
        let Some(retry) = &work.retry else { return };
        let path = path.field("retry");
        for (field, pause) in [("initialBackoff", retry.initial_backoff), ("maxBackoff", retry.max_backoff)] {
            if pause.get() < MIN_BACKOFF {
                self.problem(
                    path.field(field),
                    "attempts without a pause are many, and each is kept for good",
                    "give at least 1ms",
                );
                return;
            }
        }
        if retry.initial_backoff.get() > retry.max_backoff.get() {
            self.problem(
                path.field("initialBackoff"),
                "it is longer than maxBackoff",
                "exchange them, or raise maxBackoff",
            );
        }
    }

    fn work(&mut self, work: &Work, path: &Path) {
        self.times(work, path);
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

    fn scope(&self) -> Scope {
        let known = Scope::new().with("instance", Type::Text);
        self.variables.iter().fold(known, |scope, (name, known)| scope.with(name.as_str(), known.clone()))
    }

    /// `failure`, where the saga has turned back.
    fn scope_back(&self) -> Scope {
        let fields = [("step", Type::nullable(Type::Text)), ("reason", Type::Text), ("why", Type::Text)];
        self.scope().with("failure", Type::object(fields))
    }

    /// When everything is undone: what steps capture is null where they did not come to it.
    fn scope_undone(&self) -> Scope {
        let captured = self.variables[self.given..].iter();
        captured.fold(self.scope_back(), |scope, (name, known)| {
            scope.with(name.as_str(), Type::nullable(known.clone()))
        })
    }

    fn expressions(&mut self, step: &Step, path: &Path) {
        // Steps side by side see what was known before, not each other's.
        let mut captured = Vec::new();
        for (index, (_, work)) in step.works().into_iter().enumerate() {
            let path = match step.parallel {
                None => path.clone(),
                Some(_) => path.field("parallel").field("steps").index(index),
            };
            captured.extend(self.work_expressions(work, &path));
        }
        for (name, known) in captured {
            match self.variables.iter_mut().find(|(other, _)| *other == name) {
                Some((_, other)) => *other = other.join(&known),
                None => self.variables.push((name, known)),
            }
        }
    }

    fn reply_types(&mut self, reply: &AwaitReply, path: &Path) {
        for (field, types) in [("success", &reply.success), ("failure", &reply.failure)] {
            for (index, name) in types.iter().enumerate() {
                event_type(name, &path.field(field).index(index), self.problems);
            }
        }
        for (index, name) in reply.failure.iter().enumerate() {
            if reply.success.contains(name) {
                let message = format!("\"{name}\" means success as well");
                self.problem(path.field("failure").index(index), message, "let it mean one of the two");
            }
        }
    }

    /// Gives what is captured.
    fn work_expressions(&mut self, work: &Work, path: &Path) -> Vec<(String, Type)> {
        let scope = self.scope();
        if let Some(action) = &work.action {
            let path = path.field("action");
            self.calls(action.http.as_ref(), action.append.as_ref(), action.grpc.as_ref(), &scope, &path);
        }
        let mut answered = scope.clone();
        if work.action.as_ref().is_some_and(|action| action.append.is_none()) {
            answered = answered.with("response", response());
        }
        if let Some(reply) = &work.await_reply {
            let path = path.field("awaitReply");
            self.reply_types(reply, &path);
            let path = path.field("correlate");
            let types = reply.success.iter().chain(&reply.failure).map(String::as_str);
            let event = headwater_expr::event_type(scope::data(self.stream, types));
            self.correlation(
                &reply.correlate.event,
                &Scope::new().with("event", event),
                &path.field("event"),
            );
            self.correlation(&reply.correlate.instance, &scope, &path.field("instance"));
            let success = reply.success.iter().map(String::as_str);
            answered = answered.with("event", headwater_expr::event_type(scope::data(self.stream, success)));
        }
        let mut captured = Vec::new();
        for (name, source) in &work.capture {
            let path = path.field("capture").field(name);
            own_name(name, &path, self.problems);
            let compiled = expression::compile(source, &answered, &path, self.problems);
            captured.push((name.clone(), compiled.map_or(Type::Any, |compiled| compiled.result().clone())));
        }
        if let Some(compensation) = &work.compensation {
            let scope = captured.iter().fold(self.scope_back(), |scope, (name, known)| {
                scope.with(name.as_str(), Type::nullable(known.clone()))
            });
            let path = path.field("compensation");
            self.calls(
                compensation.http.as_ref(),
                compensation.append.as_ref(),
                compensation.grpc.as_ref(),
                &scope,
                &path,
            );
        }
        captured
    }

    fn endings(&mut self, saga: &Saga, spec: &Path) {
        if let Some(ending) = &saga.spec.on_completed {
            let scope = self.scope();
            self.append(&ending.append, &scope, &spec.field("onCompleted").field("append"));
        }
        if let Some(ending) = &saga.spec.on_compensated {
            let scope = self.scope_undone();
            self.append(&ending.append, &scope, &spec.field("onCompensated").field("append"));
        }
    }

    fn calls(
        &mut self,
        http: Option<&HttpAction>,
        append: Option<&AppendAction>,
        grpc: Option<&GrpcAction>,
        scope: &Scope,
        path: &Path,
    ) {
        if let Some(http) = http {
            let path = path.field("http");
            expression::template(&http.url, scope, &path.field("url"), self.problems);
            self.scheme(&http.url, &path.field("url"));
            self.headers(&http.headers, scope, &path.field("headers"));
            if let Some(body) = &http.body {
                self.shape(body, scope, &path.field("body"));
            }
        }
        if let Some(append) = append {
            self.append(append, scope, &path.field("append"));
        }
        if let Some(grpc) = grpc {
            let path = path.field("grpc");
            self.shape(&grpc.request, scope, &path.field("request"));
            if let Some(fault) = address::fault_with_port(&grpc.address) {
                self.problem(path.field("address"), fault, "write HOST:PORT");
            }
        }
    }

    fn headers(&mut self, headers: &[Header], scope: &Scope, path: &Path) {
        let mut names = HashSet::new();
        for (index, header) in headers.iter().enumerate() {
            let path = path.index(index);
            if let Some(value) = &header.value {
                expression::template(value, scope, &path.field("value"), self.problems);
            }
            let name = header.name.to_ascii_lowercase();
            if name == "idempotency-key" {
                self.problem(
                    path.field("name"),
                    "the idempotency key is the step's own: it must not change over repetitions",
                    "remove this header",
                );
            } else if FRAMING_HEADERS.contains(&name.as_str()) {
                let message = format!(
                    "\"{}\" says how the message is framed, and is the connection's own",
                    header.name
                );
                self.problem(path.field("name"), message, "remove this header");
            } else if !names.insert(name) {
                let message = format!(
                    "there is another header \"{}\": capital letters make no difference",
                    header.name
                );
                self.problem(path.field("name"), message, "give it once");
            }
        }
    }

    /// Values are percent-encoded, so none of them can be the scheme.
    fn scheme(&mut self, url: &str, path: &Path) {
        let rest = ["http://", "https://"].into_iter().find_map(|scheme| {
            url.get(..scheme.len())
                .filter(|head| head.eq_ignore_ascii_case(scheme))
                .map(|_| &url[scheme.len()..])
        });
        if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
            self.problem(
                path.clone(),
                "it is no address of HTTP",
                "begin it with http:// or https:// and a host",
            );
            return;
        }
        let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
        if let Some(fault) = Some(authority).filter(|it| !it.contains("${")).and_then(address::fault) {
            self.problem(path.clone(), fault, "write http://HOST:PORT/PATH, or https://");
        }
    }

    fn append(&mut self, append: &AppendAction, scope: &Scope, path: &Path) {
        expression::template(&append.stream_id, scope, &path.field("streamId"), self.problems);
        event_type(&append.r#type, &path.field("type"), self.problems);
        self.shape(&append.data, scope, &path.field("data"));
    }

    /// Each text in it is an expression.
    fn shape(&mut self, tree: &Value, scope: &Scope, path: &Path) {
        match tree {
            Value::String(source) => {
                expression::compile(&Cel::new(source.as_str()), scope, path, self.problems);
            }
            Value::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    self.shape(element, scope, &path.index(index));
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.shape(field, scope, &path.field(name.as_str()));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What two things are known by: a text or a number.
    fn correlation(&mut self, source: &Cel, scope: &Scope, path: &Path) {
        let Some(compiled) = expression::compile(source, scope, path, self.problems) else { return };
        if !compiled.result().has_text() {
            let message = format!("gives {}, and a reply is known by a text or a number", compiled.result());
            self.problem(path.clone(), message, "use a field of it");
        }
    }
}

/// What a participant answered.
fn response() -> Type {
    Type::object([("status", Type::Any), ("headers", Type::map(Type::Any)), ("body", Type::Any)])
}
