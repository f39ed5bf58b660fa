//! What resources say of each other, and of the Secrets and ConfigMaps beside them.

use serde_json::Value;

use super::{ConfigMaps, Elsewhere, Manifests, Resource, Secrets, yaml};
use crate::event_stream::EventTypeSpec;
use crate::fault::{Fault, Path, Problem, suggest};
use crate::saga::{AppendAction, Saga, Work};
use crate::shared::{ConfigMapKeyRef, SecretKeyRef};
use crate::{EventStream, Projection};

/// Looks up what the resources refer to, and puts schemas from ConfigMaps in their place. `streams` are the names of all event
/// streams, those with faults included.
pub(super) fn resolve(manifests: &mut Manifests, streams: &[&str]) {
    let Manifests { event_streams, projections, sagas, secrets, config_maps, faults, .. } = manifests;
    for stream in event_streams.iter_mut() {
        schemas(stream, config_maps, faults);
    }
    let find = |name: &str, path: Path| {
        if streams.contains(&name) {
            return None;
        }
        let remedy = match suggest(name, streams.iter().copied()) {
            near if near.is_empty() => "add it".to_owned(),
            near => near,
        };
        Some(Problem::new(path, format!("there is no EventStream \"{name}\" in these files"), remedy))
    };
    for stream in event_streams.iter() {
        let problems = missing(secrets, stream_secrets(&stream.resource));
        faults.extend(problems.map(|problem| stream.locate(problem)));
    }
    for projection in projections.iter() {
        let problems = missing(secrets, sink_secrets(&projection.resource));
        faults.extend(problems.map(|problem| projection.locate(problem)));
    }
    let reference = || Path::root().field("spec").field("streamRef").field("name");
    for projection in projections.iter() {
        faults.extend(
            find(&projection.spec.stream_ref.name, reference()).map(|problem| projection.locate(problem)),
        );
    }
    for saga in sagas.iter() {
        faults.extend(find(&saga.spec.stream_ref.name, reference()).map(|problem| saga.locate(problem)));
        for (stream, path) in appended_streams(&saga.resource) {
            faults.extend(find(stream, path).map(|problem| saga.locate(problem)));
        }
        for (header, path) in secret_headers(&saga.resource) {
            if let Err(missing) = secrets.get(&header.name, &header.key) {
                faults.push(saga.locate(Problem::new(path, missing.message, missing.remedy)));
            }
        }
    }
}

/// Secrets of databases and brokers that are not in these files. They may be in the cluster, and `headwater dev` does without: but where some are
/// here, those that are not have probably another name.
fn missing<'s>(
    secrets: &'s Secrets,
    named: Vec<(&'s SecretKeyRef, Path)>,
) -> impl Iterator<Item = Problem> + 's {
    named.into_iter().filter_map(|(reference, path)| {
        let missing = secrets.get(&reference.name, &reference.key).err()?;
        let problem = Problem::new(path, missing.message, missing.remedy);
        if secrets.names().any(|name| name == reference.name) {
            return Some(problem);
        }
        secrets.names().next().map(|_| problem.warning())
    })
}

/// The Secrets that an event stream's database and bus need, and where they are named.
fn stream_secrets(stream: &EventStream) -> Vec<(&SecretKeyRef, Path)> {
    let spec = Path::root().field("spec");
    let mut found = Vec::new();
    if let Some(database) = &stream.spec.database {
        found.push((&database.url_secret_ref, spec.field("database").field("urlSecretRef")));
        let read = database.read_url_secret_ref.as_ref();
        found.extend(read.map(|key| (key, spec.field("database").field("readURLSecretRef"))));
    }
    let bus = spec.field("bus");
    let nats = stream.spec.bus.nats.as_ref().and_then(|nats| nats.credentials_secret_ref.as_ref());
    found.extend(nats.map(|key| (key, bus.field("nats").field("credentialsSecretRef"))));
    if let Some(sasl) = stream.spec.bus.kafka.as_ref().and_then(|kafka| kafka.sasl.as_ref()) {
        let path = bus.field("kafka").field("sasl");
        found.push((&sasl.username_secret_ref, path.field("usernameSecretRef")));
        found.push((&sasl.password_secret_ref, path.field("passwordSecretRef")));
    }
    found
}

/// The Secrets that a projection's sink needs, and where they are named.
fn sink_secrets(projection: &Projection) -> Vec<(&SecretKeyRef, Path)> {
    let path = Path::root().field("spec").field("sink");
    let sink = &projection.spec.sink;
    let sql = sink.sql.as_ref().and_then(|sql| sql.url_secret_ref.as_ref());
    let redis = sink.redis.as_ref().map(|redis| &redis.url_secret_ref);
    let sql = sql.map(|key| (key, path.field("sql").field("urlSecretRef")));
    sql.into_iter().chain(redis.map(|key| (key, path.field("redis").field("urlSecretRef")))).collect()
}

fn schemas(stream: &mut Resource<EventStream>, config_maps: &ConfigMaps, faults: &mut Vec<Fault>) {
    let (mut problems, mut elsewhere) = (Vec::new(), Vec::new());
    for (index, event_type) in stream.resource.spec.event_types.iter_mut().enumerate() {
        let EventTypeSpec { schema, schema_ref, .. } = event_type;
        let Some(reference) = schema_ref.take() else { continue };
        let path = Path::root().field("spec").field("eventTypes").index(index);
        let named_at = path.field("schemaRef").field("configMapKeyRef");
        match schema_from(config_maps, &reference.config_map_key_ref) {
            Ok(found) => {
                *schema = Some(found);
                let holder = holder(&reference.config_map_key_ref);
                elsewhere.push(Elsewhere { field: path.field("schema"), named_at, holder });
            }
            Err((message, remedy)) => problems.push(Problem::new(named_at, message, remedy)),
        }
    }
    stream.elsewhere = elsewhere;
    faults.extend(problems.into_iter().map(|problem| stream.locate(problem)));
}

fn holder(ConfigMapKeyRef { name, key }: &ConfigMapKeyRef) -> String {
    format!("the key \"{key}\" of the ConfigMap \"{name}\"")
}

fn schema_from(config_maps: &ConfigMaps, reference: &ConfigMapKeyRef) -> Result<Value, (String, String)> {
    let ConfigMapKeyRef { name, key } = reference;
    let bytes = config_maps.get(name, key).map_err(|missing| (missing.message, missing.remedy))?;
    let holder = holder(reference);
    let text = std::str::from_utf8(bytes).map_err(|_| (format!("{holder} is no UTF-8"), String::new()))?;
    let (mut documents, end) = yaml::read(text);
    let fault = end.or_else(|| documents.iter_mut().find_map(|document| document.faults.pop()));
    if let Some(fault) = fault {
        let place = format!("line {}, column {} of {holder}", fault.mark.line, fault.mark.column);
        return Err((format!("{place}: {}", fault.message), fault.remedy));
    }
    match <[_; 1]>::try_from(documents) {
        Ok([document]) => Ok(document.value),
        Err(documents) => Err((
            format!("{holder} holds {} documents", documents.len()),
            "one JSON Schema is needed".to_owned(),
        )),
    }
}

/// The Secrets that a saga's calls need, and where they are named.
fn secret_headers(saga: &Saga) -> Vec<(&SecretKeyRef, Path)> {
    let mut found = Vec::new();
    for (work, path) in works(saga) {
        let action = work.action.as_ref().and_then(|action| action.http.as_ref());
        let compensation = work.compensation.as_ref().and_then(|compensation| compensation.http.as_ref());
        for (http, field) in [(action, "action"), (compensation, "compensation")] {
            let headers = http.map_or(&[][..], |http| &http.headers);
            for (index, header) in headers.iter().enumerate() {
                if let Some(source) = &header.value_from {
                    let path = path.field(field).field("http").field("headers").index(index);
                    found.push((&source.secret_key_ref, path.field("valueFrom").field("secretKeyRef")));
                }
            }
        }
    }
    found
}

/// The event streams that a saga appends to and names, and where.
fn appended_streams(saga: &Saga) -> Vec<(&str, Path)> {
    let mut appends = Vec::new();
    for (work, path) in works(saga) {
        let action = work.action.as_ref().and_then(|action| action.append.as_ref());
        let compensation = work.compensation.as_ref().and_then(|compensation| compensation.append.as_ref());
        appends.extend(action.map(|append| (append, path.field("action"))));
        appends.extend(compensation.map(|append| (append, path.field("compensation"))));
    }
    let spec = Path::root().field("spec");
    for (ending, field) in
        [(&saga.spec.on_completed, "onCompleted"), (&saga.spec.on_compensated, "onCompensated")]
    {
        appends.extend(ending.as_ref().map(|ending| (&ending.append, spec.field(field))));
    }
    appends
        .into_iter()
        .filter_map(|(append, path): (&AppendAction, Path)| {
            let stream = append.stream_ref.as_ref()?;
            Some((stream.name.as_str(), path.field("append").field("streamRef").field("name")))
        })
        .collect()
}

/// What a saga's steps do, those within `parallel` included, and where it is written.
fn works(saga: &Saga) -> Vec<(&Work, Path)> {
    let mut found = Vec::new();
    let steps = Path::root().field("spec").field("steps");
    for (index, step) in saga.spec.steps.iter().enumerate() {
        let path = steps.index(index);
        found.push((&step.work, path.clone()));
        for (branch, inner) in step.parallel.iter().flat_map(|parallel| parallel.steps.iter().enumerate()) {
            found.push((&inner.work, path.field("parallel").field("steps").index(branch)));
        }
    }
    found
}
