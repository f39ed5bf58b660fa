//! The end of a resource whose `deletionPolicy` is Delete: a finalizer keeps it until what it has kept is deleted.
//!
//! ```text
//! deleted ──▶ its Deployment goes ──▶ its pods have ended ──▶ a Job deletes its data ──▶ the finalizer goes
//!                  └──────────────── Secrets gone, two minutes over ──────────────────▶ told what is left
//! ```
//!
//! Whatever the step, all is seen from what is in the cluster: who takes over goes on.

use std::collections::BTreeMap;
use std::fmt::Debug;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::{Client, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::apply::is_controlled;
use crate::children::deletion::{self, JOB, OF};
use crate::children::{MANAGER, selector};
use crate::kinds::Kept;
use crate::observe::last_words;
use crate::part::Owner;

/// What keeps a resource until its data are deleted.
pub const FINALIZER: &str = "headwater.dev/cleanup";

/// After this, what could not be deleted is left.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// How a deletion stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// It goes on.
    Waiting,
    /// All is deleted.
    Done,
    /// This is left, and nothing more is done about it: in words.
    Left(String),
}

/// Sees to it that a resource that is there has the finalizer, or has it not.
///
/// # Errors
/// What the API server says.
pub async fn hold<K: Kept>(client: &Client, meta: &ObjectMeta, is_held: bool) -> kube::Result<()> {
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return Ok(()) };
    if has_finalizer(meta) == is_held {
        return Ok(());
    }
    let resources: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
    // Others may have theirs by now.
    let Some(there) = resources.get_metadata_opt(name).await? else { return Ok(()) };
    if there.metadata.uid != meta.uid || has_finalizer(&there.metadata) == is_held {
        return Ok(());
    }
    let mut finalizers: Vec<String> =
        there.finalizers().iter().filter(|it| *it != FINALIZER).cloned().collect();
    finalizers.extend(is_held.then(|| FINALIZER.to_owned()));
    let patch = json!({"metadata": {"resourceVersion": there.resource_version(), "finalizers": finalizers}});
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    resources.patch(name, &parameters, &Patch::Merge(patch)).await.map(drop)
}

/// Whether the finalizer keeps it.
pub fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|it| it == FINALIZER)
}

/// Takes the next step of the deletion of `owner`'s data.
///
/// # Errors
/// What the API server says. It is tried again.
pub async fn step(client: &Client, owner: &Owner, meta: &ObjectMeta) -> kube::Result<Cleanup> {
    let is_over =
        |since: Option<&Time>| since.is_some_and(|at| Timestamp::now().duration_since(at.0) > PATIENCE);
    let deletion = Deletion::of(client, owner);
    match deletion.step().await {
        // From when it was begun: nobody may have been there for long.
        Ok((Cleanup::Waiting, begun)) if is_over(begun.as_ref()) => {
            Ok(Cleanup::Left(deletion.why_not().await?))
        }
        Ok((next, _)) => Ok(next),
        Err(kube::Error::Api(status)) if is_over(meta.deletion_timestamp.as_ref()) => {
            Ok(Cleanup::Left(status.message.clone()))
        }
        Err(error) => Err(error),
    }
}

/// Lets go of `owner`, and of what was there for the deletion of its data alone.
///
/// # Errors
/// What the API server says. It is tried again.
pub async fn end<K: Kept>(client: &Client, owner: &Owner, meta: &ObjectMeta) -> kube::Result<()> {
    let deletion = Deletion::of(client, owner);
    deletion.forget(&deletion.maps).await?;
    // Until here, the Job shows how it went to whoever begins again.
    hold::<K>(client, meta, false).await?;
    deletion.forget(&deletion.jobs).await
}

/// The Job, and what it waits for.
struct Deletion<'o> {
    owner: &'o Owner,
    name: String,
    deployments: Api<Deployment>,
    jobs: Api<Job>,
    maps: Api<ConfigMap>,
    pods: Api<Pod>,
    secrets: Api<Secret>,
}

impl<'o> Deletion<'o> {
    fn of(client: &Client, owner: &'o Owner) -> Self {
        let namespace = &owner.namespace;
        Self {
            owner,
            name: deletion::name(owner),
            deployments: Api::namespaced(client.clone(), namespace),
            jobs: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            pods: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client.clone(), namespace),
        }
    }

    /// How it stands, and when it was begun.
    async fn step(&self) -> kube::Result<(Cleanup, Option<Time>)> {
        let there = self.jobs.get_opt(&self.name).await?;
        let job = match there.filter(|job| self.is_ours(&job.metadata)) {
            Some(job) => job,
            None => match self.begin().await? {
                Ok(job) => job,
                Err(why) => return Ok((Cleanup::Left(why), None)),
            },
        };
        let begun = job.metadata.creation_timestamp.clone();
        Ok((self.after(&job).await?, begun))
    }

    async fn after(&self, job: &Job) -> kube::Result<Cleanup> {
        let status = job.status.clone().unwrap_or_default();
        let ended =
            |how: &str| status.conditions.iter().flatten().any(|it| it.type_ == how && it.status == "True");
        if ended("Complete") {
            return Ok(Cleanup::Done);
        }
        if ended("Failed") {
            return Ok(Cleanup::Left(self.why_not().await?));
        }
        if job.spec.as_ref().and_then(|spec| spec.suspend) != Some(true) {
            return Ok(Cleanup::Waiting);
        }
        // It would make pods anew; it is there until all that it has made are gone.
        let name = self.owner.kind.child(&self.owner.name);
        if let Some(deployment) = self.deployments.get_metadata_opt(&name).await?
            && is_controlled(self.owner, &deployment.metadata)
        {
            if deployment.metadata.deletion_timestamp.is_none() {
                gone(self.deployments.delete(&name, &DeleteParams::foreground()).await)?;
            }
            return Ok(Cleanup::Waiting);
        }
        if !self.pods.list_metadata(&labelled(&selector(self.owner))).await?.items.is_empty() {
            return Ok(Cleanup::Waiting);
        }
        let begin = json!({"spec": {"suspend": false}});
        self.jobs.patch(&self.name, &PatchParams::default(), &Patch::Merge(begin)).await?;
        Ok(Cleanup::Waiting)
    }

    /// The Job, as it was written down when the resource was made; or why there can be none.
    async fn begin(&self) -> kube::Result<Result<Job, String>> {
        let map = self.maps.get_opt(&self.name).await?.filter(|map| self.is_ours(&map.metadata));
        let text = map.and_then(|map| map.data).and_then(|mut data| data.remove(JOB));
        let Some(text) = text else {
            return Ok(Err(format!("ConfigMap \"{}\", which says how, is not there", self.name)));
        };
        let job: Job = match serde_json::from_str(&text) {
            Ok(job) => job,
            Err(error) => return Ok(Err(format!("ConfigMap \"{}\" cannot be read: {error}", self.name))),
        };
        for name in secrets_of(&job) {
            if self.secrets.get_metadata_opt(&name).await?.is_none() {
                return Ok(Err(format!("Secret \"{name}\" is gone")));
            }
        }
        match self.jobs.create(&PostParams::default(), &job).await {
            // The namespace is being deleted, a quota is used up, or a policy refuses it.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => {
                Ok(Err(status.message.clone()))
            }
            // Made room for, there is one at the next try.
            Err(error) if is_conflict(&error) && self.make_room().await? => Err(error),
            Err(error) if is_conflict(&error) => {
                Ok(Err(format!("a Job \"{}\" of somebody else is there", self.name)))
            }
            other => other.map(Ok),
        }
    }

    /// Deletes the Job of a resource that had the name before. Whether it was one.
    async fn make_room(&self) -> kube::Result<bool> {
        let there = self.jobs.get_metadata_opt(&self.name).await?;
        let is_old = there.is_some_and(|job| job.labels().contains_key(OF));
        if is_old {
            gone(self.jobs.delete(&self.name, &DeleteParams::background()).await)?;
        }
        Ok(is_old)
    }

    /// What stands in the way.
    async fn why_not(&self) -> kube::Result<String> {
        let of_job = [("batch.kubernetes.io/job-name".to_owned(), self.name.clone())].into();
        let pods = self.pods.list(&labelled(&of_job)).await?;
        if let Some(words) = pods.iter().find_map(last_words) {
            return Ok(words);
        }
        let pods = self.pods.list_metadata(&labelled(&selector(self.owner))).await?;
        Ok(match pods.items.first() {
            Some(pod) => format!("pod \"{}\" has not ended", pod.name_any()),
            None => format!("Job \"{}\" has not ended", self.name),
        })
    }

    /// Deletes what was there for the deletion alone.
    async fn forget<K: DeserializeOwned + Clone + Debug>(&self, api: &Api<K>) -> kube::Result<()> {
        let there = api.get_metadata_opt(&self.name).await?;
        if there.is_some_and(|it| self.is_ours(&it.metadata)) {
            gone(api.delete(&self.name, &DeleteParams::background()).await)?;
        }
        Ok(())
    }

    fn is_ours(&self, meta: &ObjectMeta) -> bool {
        meta.labels.iter().flatten().any(|(key, value)| key == OF && *value == self.owner.uid)
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// That it is not there, or not any more.
fn gone<T>(deleted: kube::Result<T>) -> kube::Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

fn labelled(labels: &BTreeMap<String, String>) -> ListParams {
    let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    ListParams::default().labels(&words.join(","))
}

/// The Secrets that the Job's pod mounts.
fn secrets_of(job: &Job) -> Vec<String> {
    let volumes =
        job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).and_then(|pod| pod.volumes.as_ref());
    let sources =
        volumes.into_iter().flatten().filter_map(|volume| volume.projected.as_ref()?.sources.as_ref());
    sources.flatten().filter_map(|source| Some(source.secret.as_ref()?.name.clone())).collect()
}
