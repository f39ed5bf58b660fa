//! The API server, and what is found there.

use std::fmt::Debug;
use std::path::Path;

use anyhow::Result;
use headwater_core::Error;
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde::de::DeserializeOwned;

use super::target::{Kind, Target};
use crate::failure::Failure;

/// A cluster, and the namespace that is looked at.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

/// What is asked of a resource, whatever its kind.
struct Found {
    conditions: Vec<Condition>,
    /// Which pods run it.
    selector: Option<String>,
}

/// The condition of that type.
pub(crate) fn condition<'c>(conditions: &'c [Condition], of: &str) -> Option<&'c Condition> {
    conditions.iter().find(|condition| condition.type_ == of)
}

impl Cluster {
    /// By a kubeconfig, as `kubectl` finds it; in a pod without one, by the pod's own account.
    ///
    /// # Errors
    /// What is wrong with the kubeconfig.
    pub(crate) async fn connect(
        kubeconfig: Option<&Path>,
        context: Option<String>,
        namespace: Option<String>,
    ) -> Result<Self> {
        let hint = "--kubeconfig and --context, or KUBECONFIG, say which cluster";
        let wrong = |error: &dyn std::error::Error| Failure::invalid(error.to_string()).hint(hint);
        let config = if kubeconfig.is_none() && context.is_none() {
            Config::infer().await.map_err(|error| wrong(&error))?
        } else {
            let known = match kubeconfig {
                Some(path) => Kubeconfig::read_from(path),
                None => Kubeconfig::read(),
            };
            let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
            let known = known.map_err(|error| wrong(&error))?;
            Config::from_custom_kubeconfig(known, &options).await.map_err(|error| wrong(&error))?
        };
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| wrong(&error))?;
        Ok(Self { client, namespace })
    }

    /// All of a kind: of the namespace, or of all.
    pub(crate) async fn list<K>(&self, everywhere: bool) -> Result<Vec<K>>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = if everywhere {
            Api::all(self.client.clone())
        } else {
            Api::namespaced(self.client.clone(), &self.namespace)
        };
        let listed = api.list(&ListParams::default()).await;
        Ok(listed.map_err(|error| explain(&format!("list {}", K::plural(&())), error))?.items)
    }

    async fn get<K>(&self, target: &Target) -> Result<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let found =
            api.get_opt(&target.name).await.map_err(|error| explain(&format!("get {target}"), error))?;
        if let Some(found) = found {
            return Ok(found);
        }
        let names: Vec<String> = self.list::<K>(false).await?.iter().map(ResourceExt::name_any).collect();
        let others = match names.len() {
            0 => "it has none of that kind".to_owned(),
            _ => format!("it has {}", names.join(", ")),
        };
        let message = format!("there is no {target} in namespace \"{}\"; {others}", self.namespace);
        Err(Error::not_found(message).into())
    }

    /// What is known of `target`.
    async fn find(&self, target: &Target) -> Result<Found> {
        Ok(match target.kind {
            Kind::EventStream => {
                let status = self.get::<EventStream>(target).await?.status.unwrap_or_default();
                Found { conditions: status.conditions, selector: status.selector }
            }
            Kind::Projection => {
                let status = self.get::<Projection>(target).await?.status.unwrap_or_default();
                Found { conditions: status.conditions, selector: status.selector }
            }
            Kind::Saga => {
                let status = self.get::<Saga>(target).await?.status.unwrap_or_default();
                Found { conditions: status.conditions, selector: status.selector }
            }
        })
    }

    /// The pods of `target`.
    pub(crate) async fn pods(&self, target: &Target) -> Result<Vec<Pod>> {
        self.pods_of(target, &self.find(target).await?).await
    }

    async fn pods_of(&self, target: &Target, found: &Found) -> Result<Vec<Pod>> {
        let Some(selector) = &found.selector else {
            return Err(Failure::unavailable(format!(
                "{target} has no pods yet: no operator has looked at it"
            ))
            .hint("is the operator installed? `helm list --all-namespaces` shows it")
            .into());
        };
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = pods.list(&ListParams::default().labels(selector)).await;
        Ok(listed.map_err(|error| explain(&format!("list the pods of {target}"), error))?.items)
    }

    /// The newest pod of `target` that is ready: it has the newest spec.
    pub(crate) async fn ready_pod(&self, target: &Target) -> Result<Pod> {
        let found = self.find(target).await?;
        let ready = self.pods_of(target, &found).await?.into_iter().filter(is_ready);
        let newest = ready.max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        if let Some(pod) = newest {
            return Ok(pod);
        }
        let why = match condition(&found.conditions, "Ready") {
            Some(condition) => format!("{}: {}", condition.reason, condition.message),
            None => "nothing is said of why".to_owned(),
        };
        Err(Failure::unavailable(format!("no pod of {target} is ready: {why}"))
            .hint("`kubectl headwater status` shows more")
            .into())
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// What the API server's refusal, or its silence, means for whoever asked for `what`.
pub(crate) fn explain(what: &str, error: kube::Error) -> anyhow::Error {
    let kube::Error::Api(status) = error else {
        let unreachable = "`kubectl cluster-info` says whether the cluster can be reached";
        return anyhow::Error::from(error).context(Failure::unavailable(what).hint(unreachable));
    };
    let message = status.message.clone();
    let failure: anyhow::Error = match status.code {
        401 => Error::unauthenticated(message).into(),
        403 => Error::permission_denied(message).into(),
        404 => Error::not_found(message).into(),
        _ => Failure::failed(message).into(),
    };
    failure.context(what.to_owned())
}
