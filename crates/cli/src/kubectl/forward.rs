//! A port of a pod, at a port of this machine.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use headwater_server::AdminArguments;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Cluster, explain};
use crate::address::Address;

/// What the operator calls the port that a pod serves at.
const API: &str = "api";

/// Forwards while it lives, and within the runtime that it was made in.
pub(crate) struct Forward {
    pub(super) address: Address,
    /// What went wrong first.
    failed: Failed,
    _forwarding: AbortOnDropHandle<()>,
}

type Failed = Arc<Mutex<Option<anyhow::Error>>>;

impl Forward {
    /// To where `pod` is administered, at whatever port is free here.
    ///
    /// # Errors
    /// When no port is free, and for a pod that serves nothing.
    pub(crate) async fn to_administration(cluster: &Cluster, pod: &Pod) -> Result<Self> {
        let port = administration(pod)
            .with_context(|| format!("find the port \"{API}\" of pod {}", pod.name_any()))?;
        let pod = pod.name_any();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on the loopback address")?;
        let address = format!("http://{}", listener.local_addr()?);
        let address = address.parse().map_err(anyhow::Error::msg)?;
        let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let failed = Failed::default();
        let forwarding = tokio::spawn({
            let failed = Arc::clone(&failed);
            async move {
                let mut connections = tokio::task::JoinSet::new();
                // The system's own errors of accepting are the caller's to see: its connection fails.
                while let Ok((stream, _)) = listener.accept().await {
                    let (pods, pod, failed) = (pods.clone(), pod.clone(), Arc::clone(&failed));
                    connections.spawn(async move {
                        if let Err(error) = forward(&pods, &pod, port, stream).await {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    });
                }
            }
        });
        Ok(Self { address, failed, _forwarding: AbortOnDropHandle::new(forwarding) })
    }

    /// `result`, or where it failed and forwarding had failed before, why.
    pub(crate) fn explain(&self, result: Result<()>) -> Result<()> {
        result.map_err(|error| {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(error)
        })
    }
}

/// The port of its administration, beside that of what it serves.
fn administration(pod: &Pod) -> Option<u16> {
    let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|it| it.ports.iter().flatten());
    let api = ports.into_iter().find(|port| port.name.as_deref() == Some(API))?;
    u16::try_from(api.container_port).ok()?.checked_add(AdminArguments::APART)
}

async fn forward(pods: &Api<Pod>, pod: &str, port: u16, mut stream: TcpStream) -> Result<()> {
    let what = format!("forward port {port} of pod {pod}");
    let mut forwarded = pods.portforward(pod, &[port]).await.map_err(|error| explain(&what, error))?;
    let mut remote = forwarded.take_stream(port).context("a stream of the port")?;
    // Either end may close when it is done.
    let _ = copy_bidirectional(&mut stream, &mut remote).await;
    Ok(())
}
