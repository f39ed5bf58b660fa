//! A definition, compiled: tasks in groups, in the order in which they are done.

use std::collections::HashMap;
use std::time::Duration;

use headwater_core::{Error, Result};
use headwater_expr::{Expression, Fault, Scope, Template, Type, Upcasts};
use headwater_resources::saga::{
    AppendAction, CompensationType, GrpcAction, Header, HttpAction, HttpMethod, Retry, Role, Work,
};
use headwater_resources::shared::{ClientTls, DataRef, SecretKeyRef};
use serde_json::Value as Tree;

use crate::definition::Definition;

/// How long an attempt may take when its step does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The task of `onCompleted`. Steps have no capital letters, so it is none of theirs.
pub(crate) const ON_COMPLETED: &str = "onCompleted";
/// The task of `onCompensated`.
pub(crate) const ON_COMPENSATED: &str = "onCompensated";

/// A definition that can be run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) digest: String,
    /// The EventStream that appends go to when they name none.
    pub(crate) stream: String,
    /// All steps, those within `parallel` included, then the endings.
    pub(crate) tasks: Vec<Task>,
    /// Tasks that are done side by side, in the order in which the groups are done.
    pub(crate) groups: Vec<Vec<usize>>,
    pub(crate) on_completed: Option<usize>,
    pub(crate) on_compensated: Option<usize>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) upcasts: Upcasts,
}

/// One step, or an ending.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) action: Action,
    pub(crate) awaits: Option<Awaits>,
    pub(crate) capture: Vec<(String, Expression)>,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    /// `None`: there is nothing to undo.
    pub(crate) compensation: Option<Action>,
}

/// The events that say how a step went.
#[derive(Debug)]
pub(crate) struct Awaits {
    pub(crate) success: Vec<String>,
    pub(crate) failure: Vec<String>,
    /// Of the event.
    pub(crate) event: Expression,
    /// Of the instance.
    pub(crate) instance: Expression,
}

impl Awaits {
    /// The types of event, whatever they say.
    pub(crate) fn events(&self) -> impl Iterator<Item = &String> {
        self.success.iter().chain(&self.failure)
    }
}

/// What is done, with expressions in the places of values.
#[derive(Debug)]
pub(crate) enum Action {
    Http {
        method: HttpMethod,
        url: Template,
        headers: Vec<(String, HeaderSource)>,
        body: Option<Shape>,
        tls: Option<ClientTls>,
    },
    Grpc {
        address: String,
        method: String,
        message: Shape,
        descriptor: Option<DataRef>,
        tls: Option<ClientTls>,
    },
    Append {
        stream: Option<String>,
        stream_id: Template,
        event_type: String,
        data: Shape,
    },
}

#[derive(Debug)]
pub(crate) enum HeaderSource {
    Text(Template),
    Secret(SecretKeyRef),
}

/// JSON whose texts are expressions.
#[derive(Debug)]
pub(crate) enum Shape {
    Literal(Tree),
    Expression(Expression),
    List(Vec<Shape>),
    Map(Vec<(String, Shape)>),
}

impl Plan {
    /// Compiles a definition. Validation has found what is wrong with a manifest, with the types that are known there; here only what
    /// this version does not understand of a stored definition is left.
    ///
    /// # Errors
    /// `Invalid`, with all faults and their paths.
    pub(crate) fn compile(definition: &Definition) -> Result<Self> {
        let mut compiler = Compiler { scope: Scope::new().with("instance", Type::Text), faults: Vec::new() };
        for name in definition.variables.keys() {
            compiler.know(name);
        }
        let (mut tasks, mut groups) = (Vec::new(), Vec::new());
        for (index, step) in definition.steps.iter().enumerate() {
            let path = format!("steps[{index}]");
            let works = step.works();
            let mut group = Vec::new();
            // Branches see what was known before, not each other's.
            for (index, (name, work)) in works.iter().enumerate() {
                let path = match step.parallel {
                    None => path.clone(),
                    Some(_) => format!("{path}.parallel.steps[{index}]"),
                };
                if let Some(task) = compiler.task(name, work, &path) {
                    group.push(tasks.len());
                    tasks.push(task);
                }
            }
            for name in works.iter().flat_map(|(_, work)| work.capture.keys()) {
                compiler.know(name);
            }
            groups.push(group);
        }
        let mut ending = |name: &str, append: Option<&AppendAction>| {
            let action = compiler.append(append?, name)?;
            tasks.push(Task::ending(name, action));
            Some(tasks.len() - 1)
        };
        let on_completed =
            ending(ON_COMPLETED, definition.on_completed.as_ref().map(|ending| &ending.append));
        let on_compensated =
            ending(ON_COMPENSATED, definition.on_compensated.as_ref().map(|ending| &ending.append));
        let upcasts = compiler.upcasts(definition);
        if !compiler.faults.is_empty() {
            return Err(Error::invalid("definition", compiler.faults.join("; ")));
        }
        Ok(Self {
            digest: definition.digest()?,
            stream: definition.stream.clone(),
            tasks,
            groups,
            on_completed,
            on_compensated,
            timeout: definition.timeout.map(Duration::from),
            upcasts,
        })
    }

    pub(crate) fn task(&self, name: &str) -> Option<usize> {
        self.tasks.iter().position(|task| task.name == name)
    }

    /// Whether the task is no step, but what is said at the end.
    pub(crate) fn is_ending(&self, task: usize) -> bool {
        self.on_completed == Some(task) || self.on_compensated == Some(task)
    }

    /// What the steps capture, by name.
    pub(crate) fn captured(&self) -> impl Iterator<Item = &str> {
        self.tasks.iter().flat_map(|task| &task.capture).map(|(name, _)| name.as_str())
    }

    /// The types of event that some step waits for.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = &Awaits> {
        self.tasks.iter().filter_map(|task| task.awaits.as_ref())
    }
}

impl Task {
    /// Whether something is kept of what the participant answers at once.
    pub(crate) fn captures_response(&self) -> bool {
        self.capture.iter().any(|(_, expression)| expression.reads("response"))
    }

    fn ending(name: &str, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            role: Role::Retriable,
            action,
            awaits: None,
            capture: Vec::new(),
            timeout: TIMEOUT,
            retry: Retry::default(),
            compensation: None,
        }
    }
}

struct Compiler {
    scope: Scope,
    faults: Vec<String>,
}

impl Compiler {
    fn know(&mut self, name: &str) {
        self.scope = std::mem::take(&mut self.scope).with(name, Type::Any);
    }

    fn fail<T>(&mut self, path: &str, result: Result<T, Vec<Fault>>) -> Option<T> {
        match result {
            Ok(compiled) => Some(compiled),
            Err(faults) => {
                self.faults.extend(faults.iter().map(|fault| format!("{path}: {fault}")));
                None
            }
        }
    }

    fn expression(&mut self, source: &str, scope: &Scope, path: &str) -> Option<Expression> {
        self.fail(path, Expression::compile(source, scope))
    }

    fn template(&mut self, source: &str, path: &str) -> Option<Template> {
        let compiled = Template::compile(source, &self.scope.clone().with("failure", Type::Any));
        self.fail(path, compiled)
    }

    fn task(&mut self, name: &str, work: &Work, path: &str) -> Option<Task> {
        let Some(action) = &work.action else {
            self.faults.push(format!("{path}: it has no action"));
            return None;
        };
        let action = match (&action.http, &action.append, &action.grpc) {
            (Some(http), ..) => self.http(http, path),
            (_, Some(append), _) => self.append(append, path),
            (.., Some(grpc)) => self.grpc(grpc, path),
            _ => None,
        };
        let awaits = work.await_reply.as_ref().and_then(|reply| {
            let event = Scope::new().with("event", headwater_expr::event_type(Type::Any));
            let scope = self.scope.clone();
            Some(Awaits {
                success: reply.success.clone(),
                failure: reply.failure.clone(),
                event: self.expression(&reply.correlate.event, &event, path)?,
                instance: self.expression(&reply.correlate.instance, &scope, path)?,
            })
        });
        let answered = self.scope.clone().with("response", Type::Any).with("event", Type::Any);
        let capture = work
            .capture
            .iter()
            .filter_map(|(name, source)| Some((name.clone(), self.expression(source, &answered, path)?)))
            .collect();
        let compensation = work.compensation.as_ref().and_then(|compensation| {
            // What the step captures is null when it is undone, if it is unknown whether it was done.
            let before = self.scope.clone();
            for name in work.capture.keys() {
                self.know(name);
            }
            let action =
                match (compensation.r#type, &compensation.http, &compensation.append, &compensation.grpc) {
                    (CompensationType::None, ..) => None,
                    (_, Some(http), ..) => self.http(http, path),
                    (_, _, Some(append), _) => self.append(append, path),
                    (_, _, _, Some(grpc)) => self.grpc(grpc, path),
                    _ => None,
                };
            self.scope = before;
            action
        });
        Some(Task {
            name: name.to_owned(),
            role: work.role.unwrap_or_default(),
            action: action?,
            awaits,
            capture,
            timeout: work.timeout.map_or(TIMEOUT, Duration::from),
            retry: work.retry.clone().unwrap_or_default(),
            compensation,
        })
    }

    fn http(&mut self, action: &HttpAction, path: &str) -> Option<Action> {
        let headers = action.headers.iter().filter_map(|header| self.header(header, path)).collect();
        let body = match &action.body {
            None => None,
            Some(body) => Some(self.shape(body, path)?),
        };
        Some(Action::Http {
            method: action.method,
            url: self.template(&action.url, path)?,
            headers,
            body,
            tls: action.tls.clone(),
        })
    }

    fn header(&mut self, header: &Header, path: &str) -> Option<(String, HeaderSource)> {
        let source = match (&header.value, &header.value_from) {
            (Some(value), _) => HeaderSource::Text(self.template(value, path)?),
            (None, Some(from)) => HeaderSource::Secret(from.secret_key_ref.clone()),
            (None, None) => return None,
        };
        Some((header.name.clone(), source))
    }

    fn grpc(&mut self, action: &GrpcAction, path: &str) -> Option<Action> {
        Some(Action::Grpc {
            address: action.address.clone(),
            method: action.method.clone(),
            message: self.shape(&action.request, path)?,
            descriptor: action.descriptor_ref.clone(),
            tls: action.tls.clone(),
        })
    }

    fn append(&mut self, action: &AppendAction, path: &str) -> Option<Action> {
        Some(Action::Append {
            stream: action.stream_ref.as_ref().map(|stream| stream.name.clone()),
            stream_id: self.template(&action.stream_id, path)?,
            event_type: action.r#type.clone(),
            data: self.shape(&action.data, path)?,
        })
    }

    fn shape(&mut self, tree: &Tree, path: &str) -> Option<Shape> {
        Some(match tree {
            Tree::String(source) => {
                let scope = self.scope.clone().with("failure", Type::Any);
                Shape::Expression(self.expression(source, &scope, path)?)
            }
            Tree::Array(elements) => {
                Shape::List(elements.iter().map(|element| self.shape(element, path)).collect::<Option<_>>()?)
            }
            Tree::Object(fields) => {
                let fields =
                    fields.iter().map(|(name, field)| Some((name.clone(), self.shape(field, path)?)));
                Shape::Map(fields.collect::<Option<_>>()?)
            }
            literal => Shape::Literal(literal.clone()),
        })
    }

    fn upcasts(&mut self, definition: &Definition) -> Upcasts {
        let scope = Scope::new().with("event", headwater_expr::event_type(Type::Any));
        let mut upcasts = Upcasts::default();
        for event_type in &definition.event_types {
            let mut steps = HashMap::new();
            for upcast in &event_type.upcast {
                let set = upcast.set.iter().filter_map(|(field, source)| {
                    let path = format!("eventTypes.{}.upcast.{field}", event_type.name);
                    Some((field.clone(), self.expression(source, &scope, &path)?))
                });
                steps.insert(upcast.from, set.collect());
            }
            let upcast = headwater_expr::Upcast { schema_version: event_type.schema_version, steps };
            upcasts.insert(&event_type.name, upcast);
        }
        upcasts
    }
}
