//! What expressions see, and what is made of them: requests, correlation values, what is kept of an answer.

use std::collections::{BTreeMap, BTreeSet};

use headwater_expr::{EvaluationError, Value, Variables};

use crate::call::{AppendRequest, Call, GrpcRequest, HeaderValue, HttpRequest, Request, Trace};
use crate::history::{Direction, ReplySeen};
use crate::instance::Instance;
use crate::json::Json;
use crate::plan::{Action, HeaderSource, Plan, Shape, Task};

/// What is the same for all instances of a saga.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) namespace: String,
    pub(crate) saga: String,
}

/// What a step may keep of an answer, in bytes of JSON: it is one entry of the history, and every later expression has it in memory.
const MAX_CAPTURED_BYTES: usize = 512 << 10;

/// The key of a step in one direction, whatever is tried how often.
pub(crate) fn key(names: &Names, instance: &Instance, task: &Task, direction: Direction) -> String {
    format!(
        "{}/{}/{}/{}/{}/{}",
        instance.started.namespace.as_ref().unwrap_or(&names.namespace),
        names.saga,
        instance.started.instance,
        instance.started.event.id,
        task.name,
        direction.as_str()
    )
}

/// The request of a step, or why there is none: an expression that has no value.
pub(crate) fn call(
    names: &Names,
    plan: &Plan,
    instance: &Instance,
    task: usize,
    direction: Direction,
) -> Result<Call, String> {
    let task = &plan.tasks[task];
    let action = match direction {
        Direction::Do => &task.action,
        Direction::Undo => task.compensation.as_ref().unwrap_or(&task.action),
    };
    let failure = failure(instance);
    let mut variables = variables(instance, failure.as_ref())?;
    if instance.turned.is_some() {
        // Nobody knows what a step would have kept that failed, was skipped, or may have been done.
        let known: BTreeSet<&str> = instance.values().map(|(name, _)| name).collect();
        for name in plan.captured().filter(|name| !known.contains(name)) {
            variables.set(name, Value::Null);
        }
    }
    let said = |error: EvaluationError| error.to_string();
    let request = match action {
        Action::Http { method, url, headers, body, tls } => {
            let header = |(name, source): &(String, HeaderSource)| {
                let value = match source {
                    HeaderSource::Text(template) => {
                        HeaderValue::Text(template.render(&variables).map_err(said)?)
                    }
                    HeaderSource::Secret(key) => HeaderValue::Secret(key.clone()),
                };
                Ok::<_, String>((name.clone(), value))
            };
            Request::Http(HttpRequest {
                method: *method,
                url: url.render_url(&variables).map_err(said)?,
                headers: headers.iter().map(header).collect::<Result<_, _>>()?,
                body: body.as_ref().map(|body| shaped(body, &variables)).transpose()?,
                tls: tls.clone(),
            })
        }
        Action::Grpc { address, method, message, descriptor, tls } => Request::Grpc(GrpcRequest {
            address: address.clone(),
            method: method.clone(),
            message: shaped(message, &variables)?,
            descriptor: descriptor.clone(),
            tls: tls.clone(),
        }),
        Action::Append { stream, stream_id, event_type, data } => Request::Append(AppendRequest {
            stream: stream.clone().unwrap_or_else(|| plan.stream.clone()),
            stream_id: stream_id.render(&variables).map_err(said)?,
            event_type: event_type.clone(),
            data: shaped(data, &variables)?,
        }),
    };
    let event = &instance.started.event;
    let id = event.id.to_string();
    Ok(Call {
        key: key(names, instance, task, direction),
        timeout: task.timeout,
        trace: Trace {
            correlation_id: event.correlation_id.clone().unwrap_or_else(|| id.clone()),
            causation_id: id,
            traceparent: event.traceparent.clone(),
        },
        request,
    })
}

/// Who is called, for people.
pub(crate) fn describe(request: &Request) -> String {
    match request {
        Request::Http(http) => {
            format!("{} {}", http.method.as_str(), http.url)
        }
        Request::Grpc(grpc) => format!("{} at {}", grpc.method, grpc.address),
        Request::Append(append) => {
            format!("append {} to \"{}\" of {}", append.event_type, append.stream_id, append.stream)
        }
    }
}

/// The value by which a reply is known.
pub(crate) fn correlation(instance: &Instance, task: &Task) -> Result<Option<String>, String> {
    let Some(awaits) = &task.awaits else { return Ok(None) };
    let variables = variables(instance, None)?;
    let value = awaits.instance.evaluate(&variables).map_err(|error| error.to_string())?;
    let text = value.to_text().ok_or_else(|| {
        format!(
            "`{}` is a {}, and a reply is known by a text or a number",
            awaits.instance.source(),
            value.type_name()
        )
    })?;
    Ok(Some(text.into_owned()))
}

/// What a step keeps of its answer and of the reply.
pub(crate) fn capture(
    instance: &Instance,
    task: &Task,
    response: Option<&Json>,
    reply: Option<&ReplySeen>,
) -> Result<BTreeMap<String, Json>, String> {
    if task.capture.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut variables = variables(instance, None)?;
    if let Some(response) = response {
        variables.set("response", response.value().map_err(|error| format!("the answer: {error}"))?);
    }
    if let Some(reply) = reply {
        let cause = &reply.event;
        let mut event = vec![
            ("id", Value::from(cause.id.to_string())),
            ("type", Value::from(cause.event_type.as_str())),
            ("streamId", Value::from(cause.stream_id.as_str())),
            ("partition", Value::from(u64::from(cause.partition))),
            ("position", Value::from(cause.position)),
            ("time", Value::from(cause.time)),
        ];
        if reply.left_out.is_none() {
            event.push(("data", reply.data.value().map_err(|error| format!("the reply: {error}"))?));
        }
        variables.set("event", Value::map(event));
    }
    let left_out = match reply.and_then(|reply| reply.left_out) {
        Some(bytes) => {
            format!(" (the reply's data of {bytes} bytes is larger, or nested deeper, than a history keeps)")
        }
        None => String::new(),
    };
    let mut size = 0;
    let one = |(name, expression): &(String, headwater_expr::Expression)| {
        let value = expression.evaluate(&variables).map_err(|error| format!("{name}: {error}{left_out}"))?;
        let value = Json::of(&value);
        size += value.as_str().len();
        if size > MAX_CAPTURED_BYTES {
            return Err(format!(
                "{name}: what is captured has {size} bytes or more, and a history keeps at most {MAX_CAPTURED_BYTES} of a step: capture less"
            ));
        }
        if !value.fits_within_others() {
            return Err(format!("{name}: it is nested deeper than a history keeps: capture a part of it"));
        }
        Ok((name.clone(), value))
    };
    task.capture.iter().map(one).collect()
}

fn failure(instance: &Instance) -> Option<Value<'_>> {
    let turned = instance.turned.as_ref()?;
    let why = serde_json::to_value(turned.why).ok();
    Some(Value::map([
        ("step", turned.step.as_deref().map_or(Value::Null, Value::from)),
        ("reason", Value::from(turned.reason.as_str())),
        ("why", why.and_then(|why| why.as_str().map(str::to_owned)).map_or(Value::Null, Value::from)),
    ]))
}

fn variables<'a>(instance: &'a Instance, failure: Option<&Value<'a>>) -> Result<Variables<'a>, String> {
    let mut variables = Variables::new().with("instance", instance.started.instance.as_str());
    for (name, value) in instance.values() {
        variables.set(name, value.value().map_err(|error| format!("the variable {name}: {error}"))?);
    }
    if let Some(failure) = failure {
        variables.set("failure", failure.clone());
    }
    Ok(variables)
}

fn shaped(shape: &Shape, variables: &Variables<'_>) -> Result<Json, String> {
    evaluate(shape, variables).map(|value| Json::of(&value))
}

fn evaluate<'a>(shape: &'a Shape, variables: &'a Variables<'a>) -> Result<Value<'a>, String> {
    Ok(match shape {
        Shape::Literal(tree) => Value::try_from(tree).map_err(|error| error.to_string())?,
        Shape::Expression(expression) => expression.evaluate(variables).map_err(|error| error.to_string())?,
        Shape::List(elements) => Value::list(
            elements.iter().map(|element| evaluate(element, variables)).collect::<Result<Vec<_>, _>>()?,
        ),
        Shape::Map(fields) => {
            let fields = fields.iter().map(|(name, field)| Ok((name.as_str(), evaluate(field, variables)?)));
            Value::map(fields.collect::<Result<Vec<_>, String>>()?)
        }
    })
}
