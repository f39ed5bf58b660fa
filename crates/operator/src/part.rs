//! A resource as what runs: the program, what it reads, what it is told. Pure.
//!
//! ```text
//! EventStream ┐                 ┌ manifests   what the program reads: the resource, its event streams, ConfigMaps
//! Projection  ├─ Found ──▶ Part ┼ flags       what it is told
//! Saga        ┘                 └ Secrets     what it gets as files
//! ```

mod event_stream;
mod projection;
mod saga;

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::manifest;
use headwater_resources::shared::{
    AccessRule, Autoscaling, DeletionPolicy, LagAutoscaling, NetworkPolicy, Reason, Server, Subject,
    SubjectType, Verb, Workload,
};
use headwater_resources::{ADOPT, EventStream, GROUP, Projection, Saga, VERSION};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::core::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use crate::digest::digest;
use crate::found::{Found, Missing};
use crate::references::References;
use crate::settings::{AUDIENCE, ServiceAccount, Settings, audience_in};

/// Where things are in a container.
pub(crate) mod at {
    pub(crate) const MANIFESTS: &str = "/etc/headwater/manifests";
    pub(crate) const SECRETS: &str = "/etc/headwater/secrets";
    pub(crate) const BEARER_TOKENS: &str = "/etc/headwater/bearer-tokens";
    pub(crate) const ISSUER: &str = "/etc/headwater/issuer";
    pub(crate) const TOKEN: &str = "/var/run/secrets/headwater";
}

/// What the API server says of which object it is, and how new.
const AGE: [&str; 3] = ["creationTimestamp", "generation", "uid"];

/// What kind of resource a part runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// An event store.
    EventStream,
    /// Query workers.
    Projection,
    /// A coordinator.
    Saga,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EventStream, Self::Projection, Self::Saga];

    /// As the resource says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventStream => "EventStream",
            Self::Projection => "Projection",
            Self::Saga => "Saga",
        }
    }

    /// What children are called after the resource's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::EventStream => "eventstore",
            Self::Projection => "projection",
            Self::Saga => "saga",
        }
    }

    /// The program that runs it.
    pub const fn program(self) -> &'static str {
        match self {
            Self::EventStream => "headwater-eventstore",
            Self::Projection => "headwater-query-worker",
            Self::Saga => "headwater-saga",
        }
    }

    /// The port that it serves.
    pub const fn port(self) -> u16 {
        match self {
            Self::EventStream => 50051,
            Self::Projection => 8082,
            Self::Saga => 8081,
        }
    }

    /// What children of the resource `name` are called.
    pub fn child(self, name: &str) -> String {
        format!("{name}-{}", self.suffix())
    }

    /// The host name of the Service of the resource `name`.
    pub fn host(self, name: &str, namespace: &str) -> String {
        format!("{}.{namespace}.svc", self.child(name))
    }

    /// Host and port of it.
    pub fn address(self, name: &str, namespace: &str) -> String {
        format!("{}:{}", self.host(name, namespace), self.port())
    }
}

/// Whose a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The resource's kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
}

/// How many pods there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Pods; the first count, where they are scaled.
    pub replicas: u32,
    /// What scales them.
    pub autoscaling: Option<Autoscaler>,
}

/// What scales pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscaler {
    /// The fewest pods.
    pub least: u32,
    /// The most.
    pub most: u32,
    /// The lag a pod that it aims at: then it is KEDA.
    pub lag: Option<u32>,
    /// The use that it aims at, in percent of the processors that are asked for.
    pub percent: Option<u32>,
}

/// The use of processors that is aimed at where nothing else is.
const PERCENT: u32 = 80;

impl Autoscaler {
    fn by_use(scaling: &Autoscaling) -> Self {
        Self {
            least: scaling.min_replicas,
            most: scaling.max_replicas,
            lag: None,
            percent: Some(scaling.target_cpu_percent.unwrap_or(PERCENT)),
        }
    }

    /// More than the event stream has partitions are of no use.
    fn by_lag(scaling: &LagAutoscaling, partitions: u32) -> Self {
        let most = scaling.max_replicas.min(partitions).max(1);
        let percent = scaling.target_cpu_percent;
        Self {
            least: scaling.min_replicas.min(most),
            most,
            lag: scaling.target_lag,
            percent: if scaling.target_lag.is_some() { percent } else { percent.or(Some(PERCENT)) },
        }
    }
}

/// Who reaches the pods, beside their namespace and the operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Callers {
    /// The namespaces of service accounts that may call.
    pub namespaces: BTreeSet<String>,
    /// Whom the resource names.
    pub peers: Vec<NetworkPolicyPeer>,
}

impl Callers {
    fn of(policy: Option<&NetworkPolicy>, access: &[AccessRule]) -> Option<Self> {
        let namespaces = access.iter().filter_map(|rule| rule.subject.namespace.clone()).collect();
        Some(Self { namespaces, peers: policy?.from.clone() })
    }
}

/// A resource as what runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Whose it is.
    pub owner: Owner,
    /// What the program reads.
    pub manifests: Manifests,
    /// What the program is told, beside what all are told.
    pub flags: Vec<String>,
    /// Secrets that it gets as files, with their keys and versions.
    pub secrets: BTreeMap<String, Mounted>,
    /// The Secret of callers' bearer tokens, all of which it gets.
    pub bearer_tokens: Option<String>,
    /// How it is served.
    pub server: Server,
    /// What its pods are like.
    pub workload: Workload,
    /// How many there are.
    pub scale: Scale,
    /// Whether what it keeps is deleted with it.
    pub deletes_data: bool,
    /// The log of its event stream, where it is known: nothing of another is deleted.
    pub log_id: Option<String>,
    /// Who reaches them. `None`: everybody.
    pub callers: Option<Callers>,
}

impl Part {
    /// Where it answers.
    pub fn url(&self) -> String {
        url(&self.owner, Some(&self.server))
    }

    /// What it goes without until it is there.
    pub fn misses(&self, found: &Found) -> Option<Missing> {
        self.scale.autoscaling?.lag.filter(|_| !found.has_keda)?;
        let message = "spec.autoscaling.targetLag needs KEDA, which this cluster does not have: install it, or leave targetLag out; until then \
                       nothing scales the pods";
        Some(Missing { reason: Reason::AutoscalerNotInstalled, message: message.to_owned() })
    }
}

fn url(owner: &Owner, server: Option<&Server>) -> String {
    let has_tls = server.is_some_and(|server| server.tls.is_some());
    format!("{}://{}", scheme(has_tls), owner.kind.address(&owner.name, &owner.namespace))
}

/// What a program reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifests {
    /// All of it.
    pub text: String,
    /// Changes with all that decides what the program does; not with how new the resources are, which a change of their scale changes too.
    pub digest: String,
}

/// A Secret that a pod gets as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The keys that it gets.
    pub keys: BTreeSet<String>,
    /// Changes with what the keys hold that are read at the start alone.
    pub version: String,
    /// Whether the program reads its files again when they change, so that no pod needs to be started anew.
    pub is_followed: bool,
}

/// Why a resource cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Something that it refers to is not there.
    Missing(Missing),
    /// It asks for what cannot be: in words, with what to do.
    Invalid(String),
    /// An object of a name that it needs belongs to somebody else: in words.
    Conflict(String),
    /// The API server does not allow an object that it needs, as when a quota is used up: in words.
    Forbidden(String),
}

/// A resource of ours.
#[derive(Debug, Clone, PartialEq)]
pub enum Resource {
    /// An event stream.
    EventStream(Box<EventStream>),
    /// A projection.
    Projection(Box<Projection>),
    /// A saga.
    Saga(Box<Saga>),
}

impl Resource {
    /// How it is served.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Self::EventStream(it) => it.spec.server.as_ref(),
            Self::Projection(it) => it.spec.server.as_ref(),
            Self::Saga(it) => it.spec.server.as_ref(),
        }
    }

    /// Where it answers.
    pub fn url(&self, owner: &Owner) -> String {
        url(owner, self.server())
    }

    /// The authorities of its servers' certificates, where they are said; `None`: it is served in plain text.
    pub fn tls(&self, found: &Found) -> Option<Option<String>> {
        let secret = &self.server()?.tls.as_ref()?.secret_ref.name;
        Some(found.secrets.get(secret).and_then(|secret| secret.authorities.clone()))
    }

    /// Whether what it keeps is deleted with it.
    pub fn deletes_data(&self) -> bool {
        let policy = match self {
            Self::EventStream(it) => it.spec.deletion_policy,
            Self::Projection(it) => it.spec.deletion_policy,
            Self::Saga(it) => it.spec.deletion_policy,
        };
        policy == DeletionPolicy::Delete
    }

    /// Whether it is to be scaled by its lag.
    pub fn scales_by_lag(&self) -> bool {
        let autoscaling = match self {
            Self::EventStream(_) => None,
            Self::Projection(it) => it.spec.autoscaling.as_ref(),
            Self::Saga(it) => it.spec.autoscaling.as_ref(),
        };
        autoscaling.is_some_and(|scaling| scaling.target_lag.is_some())
    }

    /// What it refers to, beside what its event streams do.
    pub fn references(&self) -> References {
        References::of(&match self {
            Self::EventStream(it) => as_json(&it.spec),
            Self::Projection(it) => as_json(&it.spec),
            Self::Saga(it) => as_json(&it.spec),
        })
    }

    /// It as what runs.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn part(&self, owner: Owner, found: &Found, settings: &Settings) -> Result<Part, Refused> {
        match self {
            Self::EventStream(it) => event_stream::part(it, owner, found, settings),
            Self::Projection(it) => projection::part(it, owner, found, settings),
            Self::Saga(it) => saga::part(it, owner, found, settings),
        }
    }
}

fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| unreachable!("specs have a JSON form: {error}"))
}

/// What a program reads, as it is put together.
#[derive(Debug, Default)]
struct Documents {
    /// Each with whose it is in messages.
    all: Vec<(String, Value)>,
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    references: References,
}

impl Documents {
    /// Adds a resource, without what is the operator's business alone: changing that starts no pod anew. `of` is whose it is in messages.
    fn add(&mut self, kind: Kind, metadata: &ObjectMeta, spec: &impl Serialize, not_read: &[&str], of: &str) {
        let mut spec = as_json(spec);
        if let Value::Object(fields) = &mut spec {
            for field in ["replicas", "autoscaling", "workload", "networkPolicy", "deletionPolicy", "server"]
                .iter()
                .chain(not_read)
            {
                fields.shift_remove(*field);
            }
            fields.retain(|_, value| !value.is_null());
        }
        let mut references = References::of(&spec);
        for reference in references.secrets.iter_mut().chain(&mut references.config_maps) {
            reference.path.insert_str(0, of);
        }
        self.references.secrets.extend(references.secrets);
        self.references.config_maps.extend(references.config_maps);
        // By the age of the resources, a program knows whether others were given newer ones.
        let mut kept = as_json(metadata);
        if let Value::Object(fields) = &mut kept {
            fields.retain(|field, _| field == "name" || AGE.contains(&field.as_str()));
        }
        // What is said to one is not said to those that follow it.
        let adopted = metadata.annotations.as_ref().and_then(|it| it.get(ADOPT)).filter(|_| of.is_empty());
        if let Some(adopted) = adopted {
            kept["annotations"] = json!({ (ADOPT): adopted });
        }
        let document = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": kind.as_str(),
            "metadata": kept,
            "spec": spec,
        });
        self.all.push((of.to_owned(), document));
    }

    /// All as a text, and the Secrets that a pod needs with it.
    ///
    /// # Errors
    /// What is missing, and what the program would refuse.
    fn finish(mut self, found: &Found) -> Result<(Manifests, BTreeMap<String, Mounted>), Refused> {
        if let Some(missing) = found.missing(&self.references) {
            return Err(Refused::Missing(missing));
        }
        for reference in &self.references.config_maps {
            let values = &found.config_maps[&reference.name];
            if let Some((key, value)) = reference.key.as_ref().and_then(|key| values.get_key_value(key)) {
                self.config_maps
                    .entry(reference.name.clone())
                    .or_default()
                    .insert(key.clone(), value.clone());
            }
        }
        for (name, data) in &self.config_maps {
            let map =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
            self.all.push((format!("ConfigMap \"{name}\": "), map));
        }
        let mut secrets = BTreeMap::new();
        for (name, keys) in self.references.secret_keys() {
            let keys: BTreeSet<String> = keys.into_iter().map(str::to_owned).collect();
            let version = found.secrets[name].version(&keys);
            secrets.insert(name.to_owned(), Mounted { keys, version, is_followed: false });
        }
        check(&self.all, &secrets)?;
        let text = as_yaml(self.all.iter().map(|(_, document)| document));
        for (_, document) in &mut self.all {
            if let Some(metadata) = document["metadata"].as_object_mut() {
                metadata.retain(|field, _| !AGE.contains(&field.as_str()));
            }
        }
        let digest = digest(&as_yaml(self.all.iter().map(|(_, document)| document)));
        Ok((Manifests { text, digest }, secrets))
    }
}

fn as_yaml<'d>(documents: impl IntoIterator<Item = &'d Value>) -> String {
    let texts = documents.into_iter().map(|document| {
        serde_saphyr::to_string(document)
            .unwrap_or_else(|error| unreachable!("JSON has a YAML form: {error}"))
    });
    texts.collect::<Vec<_>>().join("---\n")
}

/// What the program would say of its manifests. Of Secrets it is told the names and keys alone.
fn check(documents: &[(String, Value)], secrets: &BTreeMap<String, Mounted>) -> Result<(), Refused> {
    let stand_ins: Vec<Value> = secrets
        .iter()
        .map(|(name, mounted)| {
            let data: BTreeMap<&String, &str> = mounted.keys.iter().map(|key| (key, "")).collect();
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
        })
        .collect();
    let stand_ins = as_yaml(&stand_ins);
    let texts: Vec<(&str, String)> =
        documents.iter().map(|(of, document)| (of.as_str(), as_yaml([document]))).collect();
    let texts = texts.iter().map(|(of, text)| (*of, text.as_str()));
    let read = manifest::read_texts(texts.chain([("Secrets: ", stand_ins.as_str())]));
    let faults: Vec<String> = read
        .errors()
        .map(|fault| {
            let parts = [&fault.path, &fault.message].into_iter().filter(|part| !part.is_empty());
            let what = parts.map(String::as_str).collect::<Vec<_>>().join(": ");
            let what = format!("{}{what}", fault.file);
            if fault.remedy.is_empty() { what } else { format!("{what}; {}", fault.remedy) }
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Refused::Invalid(faults.join("\n"))) }
}

/// Who may call, with what our own parts need.
///
/// An `access` that is empty means the service accounts of the namespace, and has to be written out where something is added to it.
fn access(
    rules: &[AccessRule],
    ours: impl IntoIterator<Item = (ServiceAccount, Vec<Verb>)>,
) -> Vec<AccessRule> {
    let account = |namespace: Option<String>, name: &str, verbs: Vec<Verb>| AccessRule {
        subject: Subject { r#type: SubjectType::ServiceAccount, namespace, name: Some(name.to_owned()) },
        verbs,
    };
    let mut all = rules.to_vec();
    if all.is_empty() {
        all.push(account(None, "*", vec![Verb::Append, Verb::Read, Verb::Query]));
    }
    all.extend(ours.into_iter().map(|(who, verbs)| account(Some(who.namespace), &who.name, verbs)));
    all
}

/// What every program is told about who is served; and what it gets for that.
fn serving(
    owner: &Owner,
    server: &Server,
    found: &Found,
    secrets: &mut BTreeMap<String, Mounted>,
) -> Result<Vec<String>, Refused> {
    let references = References::of(&json!({ "server": server }));
    if let Some(missing) = found.missing(&references) {
        return Err(Refused::Missing(missing));
    }
    if let Some(auth) = &server.auth
        && let Some(jwt) = auth.jwt.first()
    {
        return Err(Refused::Invalid(format!(
            "spec.server.auth.jwt: the issuer \"{}\" cannot be accepted beside the cluster's own, whose tokens pods prove who they are by; \
             leave it out, and give those callers client certificates or bearer tokens",
            jwt.issuer
        )));
    }
    let mut flags = vec![
        format!("--jwt-issuer={}", found.issuer.issuer),
        format!("--jwt-jwks={}/jwks.json", at::ISSUER),
        format!("--jwt-audience={AUDIENCE},{}", audience_in(&owner.namespace)),
        format!("--token-file={}/token", at::TOKEN),
    ];
    let mut mount = |name: &str, keys: &[&str]| {
        let mounted = secrets.entry(name.to_owned()).or_insert_with(|| Mounted {
            keys: BTreeSet::new(),
            version: String::new(),
            is_followed: true,
        });
        mounted.keys.extend(keys.iter().map(|key| (*key).to_owned()));
        format!("{}/{name}", at::SECRETS)
    };
    match &server.tls {
        None => flags.push("--plain-text".to_owned()),
        Some(tls) => {
            let folder = mount(&tls.secret_ref.name, &["tls.crt", "tls.key"]);
            flags.push(format!("--tls-cert={folder}/tls.crt"));
            flags.push(format!("--tls-key={folder}/tls.key"));
            if let Some(ca) = &tls.client_ca_ref {
                use headwater_resources::shared::DataKind::{ConfigMap, Secret};
                match ca.kind {
                    Secret => {
                        flags.push(format!("--tls-client-ca={}/{}", mount(&ca.name, &[&ca.key]), ca.key));
                    }
                    ConfigMap => {
                        return Err(Refused::Invalid(format!(
                            "spec.server.tls.clientCARef: keep the authorities in a Secret, as cert-manager does: ConfigMap \"{}\" is not followed",
                            ca.name
                        )));
                    }
                }
            }
        }
    }
    Ok(flags)
}

/// The Secret of bearer tokens.
fn bearer_tokens(server: &Server) -> Option<String> {
    Some(server.auth.as_ref()?.bearer_tokens_secret_ref.as_ref()?.name.clone())
}

/// Where the event store of `stream` answers.
fn event_store(stream: &EventStream, namespace: &str) -> String {
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let has_tls = stream.spec.server.as_ref().is_some_and(|server| server.tls.is_some());
    format!("{}://{}", scheme(has_tls), Kind::EventStream.address(name, namespace))
}

const fn scheme(has_tls: bool) -> &'static str {
    if has_tls { "https" } else { "http" }
}

/// The flag by which what is served by TLS itself sends its token to event stores in plain text; what is not has been told already.
fn plain_calls(server: &Server, stream: &EventStream) -> Option<String> {
    let has_tls = stream.spec.server.as_ref().is_some_and(|server| server.tls.is_some());
    (server.tls.is_some() && !has_tls).then(|| "--plain-text-calls".to_owned())
}

/// The flag that names the authorities of a server's certificate, where its Secret has them.
fn trusting(
    server: Option<&Server>,
    found: &Found,
    secrets: &mut BTreeMap<String, Mounted>,
) -> Option<String> {
    let name = &server?.tls.as_ref()?.secret_ref.name;
    found.secrets.get(name).filter(|secret| secret.authorities.is_some())?;
    let mounted = secrets.entry(name.clone()).or_insert_with(|| Mounted {
        keys: BTreeSet::new(),
        version: String::new(),
        is_followed: true,
    });
    mounted.keys.insert("ca.crt".to_owned());
    Some(format!("--ca={}/{name}/ca.crt", at::SECRETS))
}

impl Documents {
    /// Adds an event stream that is followed or appended to: what it looks like, and where its events are.
    fn follow<'f>(&mut self, name: &str, found: &'f Found) -> Result<&'f EventStream, Refused> {
        let stream = found.stream(name).map_err(Refused::Missing)?;
        if stream.spec.database.is_none() {
            let message = format!(
                "EventStream \"{name}\" has no database, so nothing runs it: add spec.database to it"
            );
            return Err(Refused::Missing(Missing { reason: Reason::StreamNotReady, message }));
        }
        let of = format!("EventStream \"{name}\": ");
        self.add(Kind::EventStream, &stream.metadata, &stream.spec, &["access", "state"], &of);
        Ok(stream)
    }
}

/// How many pods fold or coordinate: more than the event stream has partitions are of no use.
fn scale(is_stopped: bool, replicas: u32, scaling: Option<&LagAutoscaling>, stream: &EventStream) -> Scale {
    if is_stopped {
        return Scale { replicas: 0, autoscaling: None };
    }
    Scale {
        replicas,
        autoscaling: scaling.map(|scaling| Autoscaler::by_lag(scaling, stream.spec.partitions)),
    }
}
