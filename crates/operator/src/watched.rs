//! What is watched of the cluster, once for all controllers, and whom a change concerns.
//!
//! ```text
//! API server ──▶ one watch a kind ──▶ stores ──▶ passes read
//!                                └──▶ places of resources ──▶ the controller of their kind
//! ```
//! Of children and Secrets only metadata is watched. What is not in a store may be somebody else's, or newer than the watch: whoever is about to
//! write asks the API server.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, Stream, StreamExt};
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{Lookup, ObjectRef, Store, store};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::children::{self, MANAGER};
use crate::kinds::Kept;
use crate::naming::{Naming, Place, What};
use crate::packed::Packed;
use crate::part::{Kind, Owner};
use crate::seen::{OwnedBy, Plain, Rollout, Seen, Worker};
use crate::written::Written;

/// Changes that wait for their controller, which takes them at once.
const WAITING: usize = 1_024;

/// Where resources are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    All,
    /// In one.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    fn metadata(&self, client: &Client, of: &ApiResource) -> Api<PartialObjectMeta<DynamicObject>> {
        match self {
            Self::All => Api::all_with(client.clone(), of),
            Self::Namespace(namespace) => Api::namespaced_with(client.clone(), namespace, of),
        }
    }
}

/// What was last seen of the cluster.
pub struct Watched {
    /// Event streams.
    pub streams: Store<Packed<EventStream>>,
    /// Projections.
    pub projections: Store<Packed<Projection>>,
    /// Sagas.
    pub sagas: Store<Packed<Saga>>,
    /// Which of them names what.
    pub naming: Naming,
    /// What passes have written.
    pub written: Written,
    rollouts: Store<Seen<Rollout>>,
    workers: Store<Seen<Worker>>,
    /// Of other kinds, by their names: our children, and all Secrets and ConfigMaps.
    others: BTreeMap<String, Store<Seen<Plain>>>,
    /// By kind: cancelled when all that there was at the beginning has been seen.
    seen: BTreeMap<String, CancellationToken>,
}

/// The watches, before they run.
pub struct Watches {
    watched: Arc<Watched>,
    running: Vec<BoxFuture<'static, ()>>,
    changes: BTreeMap<Kind, mpsc::Receiver<Place>>,
}

impl Watched {
    /// Waits until all that there was at the beginning has been seen.
    pub async fn ready(&self) {
        for seen in self.seen.values() {
            seen.cancelled().await;
        }
    }

    /// Waits until all of `kind` that there was at the beginning has been seen. (A store wakes no more than one of those who wait for it.)
    pub async fn has_seen(&self, kind: &str) {
        if let Some(seen) = self.seen.get(kind) {
            seen.cancelled().await;
        }
    }

    /// Whether there is a resource at `place`.
    pub fn has(&self, place: &Place) -> bool {
        let (name, namespace) = (&place.name, &place.namespace);
        match place.kind {
            Kind::EventStream => self.streams.get(&ObjectRef::new(name).within(namespace)).is_some(),
            Kind::Projection => self.projections.get(&ObjectRef::new(name).within(namespace)).is_some(),
            Kind::Saga => self.sagas.get(&ObjectRef::new(name).within(namespace)).is_some(),
        }
    }

    /// The Deployment of `owner`.
    ///
    /// # Errors
    /// What the API server says, which is asked for what was made and has not been seen yet.
    pub async fn rollout(&self, client: &Client, owner: &Owner) -> kube::Result<Option<Arc<Seen<Rollout>>>> {
        let name = owner.kind.child(&owner.name);
        if let Some(seen) = self.rollouts.get(&ObjectRef::new(&name).within(&owner.namespace)) {
            return Ok(Some(seen));
        }
        if self.written.version("Deployment", &owner.namespace, &name).is_none() {
            return Ok(None);
        }
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &owner.namespace);
        Ok(deployments.get_opt(&name).await?.map(|it| Arc::new(Seen::rollout(&it))))
    }

    /// The version of an object that is watched, if it has been seen.
    pub fn version(&self, kind: &str, namespace: &str, name: &str) -> Option<String> {
        if kind == "Deployment" {
            let seen = self.rollouts.get(&ObjectRef::new(name).within(namespace))?;
            return Some(seen.version.clone());
        }
        let seen = self.others.get(kind)?.get(&ObjectRef::new(name).within(namespace))?;
        Some(seen.version.clone())
    }

    /// Whether objects of the kind are watched, beside resources.
    pub fn has_kind(&self, kind: &str) -> bool {
        kind == "Deployment" || self.others.contains_key(kind)
    }

    /// Whether `owner` has become what follows from what `fingerprint` is of, and all of that is as it was.
    pub fn is_settled(&self, owner: &Owner, fingerprint: u64) -> bool {
        let namespace = &owner.namespace;
        let seen = |(kind, name): &(String, String)| self.version(kind, namespace, name);
        let noted = |(kind, name): &(String, String)| self.written.version(kind, namespace, name);
        self.written.settled(&owner.uid, fingerprint).is_some_and(|settled| {
            settled.wanted.iter().all(|it| seen(it).is_some_and(|seen| noted(it) == Some(seen)))
                && settled.unwanted.iter().all(|it| seen(it).is_none() && noted(it).is_none())
        })
    }

    /// The pods of `owner`.
    pub fn workers(&self, owner: &Owner) -> Vec<Arc<Seen<Worker>>> {
        let is_of = |of: &OwnedBy| of.kind == owner.kind && of.name == owner.name;
        self.workers
            .state_filter(|it| it.owner.as_ref().is_some_and(is_of) && it.namespace == owner.namespace)
    }

    /// The ConfigMaps in which pods of `owner` find, or have found, their manifests.
    pub fn manifests(&self, owner: &Owner) -> Vec<Arc<Seen<Plain>>> {
        let maps = self.others.get("ConfigMap");
        maps.map(|maps| maps.state_filter(|it| it.of.is_manifests && it.is_of(&owner.uid)))
            .unwrap_or_default()
    }
}

impl Watches {
    /// Of what is in `scope`.
    pub fn new(client: &Client, scope: &Scope) -> Self {
        let (streams, stream_writer) = store();
        let (projections, projection_writer) = store();
        let (sagas, saga_writer) = store();
        let (rollouts, rollout_writer) = store();
        let (workers, worker_writer) = store();
        let mut others = BTreeMap::new();
        let mut writers = Vec::new();
        for kind in children::kinds().into_iter().filter(|kind| kind.kind != "Deployment") {
            let (reader, writer) = store();
            others.insert(kind.kind.clone(), reader);
            writers.push((kind, writer));
        }
        let (naming, written) = (Naming::default(), Written::default());
        let kinds = Kind::ALL.map(Kind::as_str).into_iter().chain(["Deployment", "Pod"]);
        let seen = kinds.chain(others.keys().map(String::as_str));
        let seen = seen.map(|kind| (kind.to_owned(), CancellationToken::new())).collect();
        let watched = Arc::new(Watched {
            streams,
            projections,
            sagas,
            naming,
            written,
            rollouts,
            workers,
            others,
            seen,
        });

        let (senders, changes): (BTreeMap<_, _>, BTreeMap<_, _>) = Kind::ALL
            .map(|kind| {
                let (sender, receiver) = mpsc::channel(WAITING);
                ((kind, sender), (kind, receiver))
            })
            .into_iter()
            .unzip();
        let told = Told { watched: watched.clone(), senders };
        let ours = Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
        let programs = Kind::ALL.map(Kind::program).join(",");
        let workers = Config::default().labels(&format!("app.kubernetes.io/name in ({programs})"));
        let mut running = vec![
            told.clone().resources::<EventStream>(scope.api(client), stream_writer).boxed(),
            told.clone().resources::<Projection>(scope.api(client), projection_writer).boxed(),
            told.clone().resources::<Saga>(scope.api(client), saga_writer).boxed(),
            told.clone().rollouts(watcher(scope.api(client), ours.clone()), rollout_writer).boxed(),
            told.clone().workers(watcher(scope.api(client), workers), worker_writer).boxed(),
        ];
        for (kind, writer) in writers {
            // Resources name Secrets and ConfigMaps of their users.
            let is_named = naming_of(&kind.kind).is_some();
            let which = if is_named { Config::default() } else { ours.clone() };
            let objects = watcher(scope.metadata(client, &kind), which);
            running.push(told.clone().others(kind.kind, objects, writer).boxed());
        }
        Self { watched, running, changes }
    }

    /// What they see.
    pub fn watched(&self) -> Arc<Watched> {
        self.watched.clone()
    }

    /// The places of resources of `kind` that a change concerns; once.
    pub fn changes(&mut self, kind: Kind) -> impl Stream<Item = Place> + Send + use<> {
        let receiver = self.changes.remove(&kind);
        futures_util::stream::unfold(receiver, async |mut receiver| {
            let place = receiver.as_mut()?.recv().await?;
            Some((place, receiver))
        })
    }

    /// Watches until it is dropped.
    pub async fn run(self) {
        join_all(self.running).await;
    }
}

fn naming_of(kind: &str) -> Option<What> {
    match kind {
        "Secret" => Some(What::Secret),
        "ConfigMap" => Some(What::ConfigMap),
        _ => None,
    }
}

/// Who is told of changes.
#[derive(Clone)]
struct Told {
    watched: Arc<Watched>,
    senders: BTreeMap<Kind, mpsc::Sender<Place>>,
}

impl Told {
    async fn tell(&self, places: Vec<Place>) {
        for place in places {
            // Who does not listen has stopped.
            if let Some(sender) = self.senders.get(&place.kind) {
                let _ = sender.send(place).await;
            }
        }
    }

    async fn resources<K: Kept>(self, api: Api<Packed<K>>, writer: Writer<Packed<K>>) {
        let concerned = |before: Option<&Packed<K>>, after: &Packed<K>, is_there: bool| {
            self.resource(before, after, is_there)
        };
        let resources = watcher(api, Config::default());
        self.follow(K::KIND.as_str(), resources, writer, |packed| packed, concerned).await;
    }

    async fn rollouts(
        self,
        deployments: impl Stream<Item = watcher::Result<Event<Deployment>>> + Send,
        writer: Writer<Seen<Rollout>>,
    ) {
        let keep = |deployment: Deployment| Seen::rollout(&deployment);
        let concerned = |before: Option<&Seen<Rollout>>, after: &Seen<Rollout>, is_there: bool| {
            if !is_there {
                self.watched.written.forget("Deployment", &after.namespace, &after.name);
            }
            if is_there && before == Some(after) { Vec::new() } else { owner(after) }
        };
        self.follow("Deployment", deployments, writer, keep, concerned).await;
    }

    async fn workers(
        self,
        pods: impl Stream<Item = watcher::Result<Event<Pod>>> + Send,
        writer: Writer<Seen<Worker>>,
    ) {
        let keep = |pod: Pod| Seen::worker(&pod);
        let concerned = |before: Option<&Seen<Worker>>, after: &Seen<Worker>, is_there: bool| {
            // One that has just been made says nothing, and its Deployment says that it is there.
            let is_news = match before {
                Some(before) => before.of != after.of || !is_there,
                None => after.of.address.is_some() || after.of.last_words.is_some(),
            };
            if is_news { owner(after) } else { Vec::new() }
        };
        self.follow("Pod", pods, writer, keep, concerned).await;
    }

    async fn others(
        self,
        kind: String,
        objects: impl Stream<Item = watcher::Result<Event<PartialObjectMeta<DynamicObject>>>> + Send,
        writer: Writer<Seen<Plain>>,
    ) {
        let keep = |object: PartialObjectMeta<DynamicObject>| Seen::plain(&object.metadata);
        let concerned = |before: Option<&Seen<Plain>>, after: &Seen<Plain>, is_there: bool| {
            if is_there && before == Some(after) {
                return Vec::new();
            }
            let mut concerned = naming_of(&kind)
                .map(|what| self.watched.naming.who_names(what, &after.namespace, &after.name))
                .unwrap_or_default();
            let written = &self.watched.written;
            // What a pass has just written tells it nothing.
            let is_own = is_there
                && written.version(&kind, &after.namespace, &after.name).as_ref() == Some(&after.version);
            if !is_there {
                written.forget(&kind, &after.namespace, &after.name);
            }
            if !is_own {
                concerned.extend(owner(after));
            }
            concerned
        };
        self.follow(&kind, objects, writer, keep, concerned).await;
    }

    /// Keeps what `keep` makes of the objects that come, and tells those that a change of one concerns.
    async fn follow<O, S>(
        &self,
        kind: &str,
        objects: impl Stream<Item = watcher::Result<Event<O>>> + Send,
        mut writer: Writer<S>,
        keep: impl Fn(O) -> S + Send,
        concerned: impl Fn(Option<&S>, &S, bool) -> Vec<Place> + Send,
    ) where
        O: Debug + Send,
        S: Lookup<DynamicType = ()> + Clone + Send + Sync + 'static,
    {
        let reader = writer.as_reader();
        let mut objects = pin!(objects.default_backoff());
        // At the beginning, and after a watch could not be gone on with, all is seen before anybody is told.
        let mut first = Vec::new();
        while let Some(event) = objects.next().await {
            let event = match event {
                Ok(event) => map(event, &keep),
                Err(error) => {
                    tracing::warn!(%error, "the cluster cannot be watched, and it is tried again");
                    continue;
                }
            };
            let before = |it: &S| reader.get(&it.to_object_ref(()));
            let places = match &event {
                Event::Apply(it) => concerned(before(it).as_deref(), it, true),
                Event::Delete(it) => concerned(before(it).as_deref(), it, false),
                Event::InitApply(it) => {
                    first.extend(concerned(before(it).as_deref(), it, true));
                    Vec::new()
                }
                Event::Init => Vec::new(),
                Event::InitDone => std::mem::take(&mut first),
            };
            writer.apply_watcher_event(&event);
            if let (Event::InitDone, Some(seen)) = (&event, self.watched.seen.get(kind)) {
                seen.cancel();
            }
            self.tell(places).await;
        }
    }

    /// Whom a change of a resource concerns: itself, and those whose children say something of it.
    fn resource<K: Kept>(&self, before: Option<&Packed<K>>, after: &Packed<K>, is_there: bool) -> Vec<Place> {
        let namespace = ResourceExt::namespace(after).unwrap_or_default();
        let (kind, name) = (K::KIND, after.name_any());
        let place = Place { kind, namespace: namespace.clone(), name: name.clone() };
        // What only the status says is the operator's own.
        if is_there && before.is_some_and(|before| asked(before.meta()) == asked(after.meta())) {
            return Vec::new();
        }
        let naming = &self.watched.naming;
        let mut streams = naming.of(&place).streams;
        let readable = is_there.then(|| after.open().ok()).flatten();
        if !is_there {
            self.watched.written.unsettle(after.meta().uid.as_deref().unwrap_or_default());
        }
        naming.set(&place, readable.map(|it| it.resource().references()).as_ref());
        streams.extend(naming.of(&place).streams);
        let mut concerned = vec![place];
        if kind == Kind::EventStream {
            concerned.extend(naming.who_names(What::Stream, &namespace, &name));
        }
        // Who may call is written into what an event store reads.
        let is_guarded = |name: &String| {
            let stream = self.watched.streams.get(&ObjectRef::new(name).within(&namespace));
            stream.is_none_or(|it| it.open().is_ok_and(|it| !it.spec.access.is_empty()))
        };
        for name in streams.into_iter().filter(is_guarded) {
            concerned.push(Place { kind: Kind::EventStream, namespace: namespace.clone(), name });
        }
        concerned
    }
}

/// What is asked of a resource, by its metadata.
fn asked(meta: &ObjectMeta) -> impl PartialEq {
    (
        meta.uid.clone(),
        meta.generation,
        meta.annotations.clone(),
        meta.finalizers.clone(),
        meta.deletion_timestamp.is_some(),
    )
}

fn owner<T>(of: &Seen<T>) -> Vec<Place> {
    let place = |owner: &OwnedBy| Place {
        kind: owner.kind,
        namespace: of.namespace.clone(),
        name: owner.name.clone(),
    };
    of.owner.iter().map(place).collect()
}

fn map<O, S>(event: Event<O>, keep: impl Fn(O) -> S) -> Event<S> {
    match event {
        Event::Apply(it) => Event::Apply(keep(it)),
        Event::Delete(it) => Event::Delete(keep(it)),
        Event::InitApply(it) => Event::InitApply(keep(it)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}
