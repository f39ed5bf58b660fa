//! A resource as what runs: the program, what it reads, what it is told. Pure.
//!
//! ```text
//! EventStream ┐                 ┌ manifests   what the program reads: the resource, its event streams, ConfigMaps
//! Projection  ├─ Found ──▶ Part ┼ flags       what it is told
//! Saga        ┘                 └ Secrets     what it gets as files
//! ```

mod calls;
mod documents;
mod event_stream;
mod projection;
mod saga;

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::shared::{
    AccessRule, Autoscaling, DeletionPolicy, LagAutoscaling, NetworkPolicy, Reason, Server, Workload,
};
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use serde::Serialize;
use serde_json::Value;

use self::calls::scheme;
use crate::found::{Found, Missing};
use crate::references::References;
use crate::settings::Settings;

/// Where things are in a container.
pub(crate) mod at {
    pub(crate) const MANIFESTS: &str = "/etc/headwater/manifests";
    pub(crate) const SECRETS: &str = "/etc/headwater/secrets";
    pub(crate) const CONFIG_MAPS: &str = "/etc/headwater/config-maps";
    pub(crate) const BEARER_TOKENS: &str = "/etc/headwater/bearer-tokens";
    pub(crate) const ISSUER: &str = "/etc/headwater/issuer";
    pub(crate) const TOKEN: &str = "/var/run/secrets/headwater";
}

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
    /// What it gets as files.
    pub files: Files,
    /// How it is served.
    pub server: Server,
    /// What its pods are like.
    pub workload: Workload,
    /// How many there are.
    pub scale: Scale,
    /// Whether what it keeps is deleted with it.
    pub deletes_data: bool,
    /// Who reaches them. `None`: everybody.
    pub callers: Option<Callers>,
}

/// What each kind makes in its own way of what it says.
struct Made {
    manifests: Manifests,
    flags: Vec<String>,
    files: Files,
    scale: Scale,
}

/// What resources of all kinds say.
struct Common<'s> {
    server: Option<&'s Server>,
    workload: Option<&'s Workload>,
    access: &'s [AccessRule],
    network_policy: Option<&'s NetworkPolicy>,
    deletion_policy: DeletionPolicy,
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

/// What a program gets as files, beside its manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Secrets that its manifests name: they are read at the start alone.
    pub named: BTreeMap<String, Named>,
    /// Keys of Secrets that are read again when they change, so that no pod needs to be started anew.
    pub followed: BTreeMap<String, BTreeSet<String>>,
    /// Keys of ConfigMaps that are, too.
    pub config_maps: BTreeMap<String, BTreeSet<String>>,
    /// The Secret of callers' bearer tokens, all of which it gets; they are, too.
    pub bearer_tokens: Option<String>,
}

/// A Secret that manifests name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The keys.
    pub keys: BTreeSet<String>,
    /// Changes with what they hold.
    pub version: String,
}

impl Files {
    /// The keys of Secrets, those that its manifests name alone or all.
    pub fn secrets(&self, are_all: bool) -> BTreeMap<&str, BTreeSet<&str>> {
        let named = self.named.iter().map(|(name, named)| (name, &named.keys));
        let mut secrets: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, keys) in named.chain(self.followed.iter().filter(|_| are_all)) {
            secrets.entry(name).or_default().extend(keys.iter().map(String::as_str));
        }
        secrets
    }
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
        self.common().server
    }

    fn common(&self) -> Common<'_> {
        macro_rules! of {
            ($resource:ident) => {
                Common {
                    server: $resource.spec.server.as_ref(),
                    workload: $resource.spec.workload.as_ref(),
                    access: &$resource.spec.access,
                    network_policy: $resource.spec.network_policy.as_ref(),
                    deletion_policy: $resource.spec.deletion_policy,
                }
            };
        }
        match self {
            Self::EventStream(it) => of!(it),
            Self::Projection(it) => of!(it),
            Self::Saga(it) => of!(it),
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
        self.common().deletion_policy == DeletionPolicy::Delete
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
        let Made { manifests, flags, files, scale } = match self {
            Self::EventStream(it) => event_stream::made(it, &owner, found, settings)?,
            Self::Projection(it) => projection::made(it, &owner, found, settings)?,
            Self::Saga(it) => saga::made(it, &owner, found, settings)?,
        };
        let Common { server, workload, access, network_policy, .. } = self.common();
        Ok(Part {
            owner,
            manifests,
            flags,
            files,
            server: server.cloned().unwrap_or_default(),
            workload: workload.cloned().unwrap_or_default(),
            scale,
            deletes_data: self.deletes_data(),
            callers: Callers::of(network_policy, access),
        })
    }
}

fn as_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| unreachable!("specs have a JSON form: {error}"))
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
