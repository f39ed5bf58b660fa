//! A port of a pod, at a port of this machine.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::cluster::{Cluster, explain};
use crate::address::Address;

/// Forwards while it lives, and within the runtime that it was made in.
pub(crate) struct Forward {
    pub(super) address: Address,
    /// What went wrong first.
    failed: Failed,
    _forwarding: AbortOnDropHandle<()>,
}

type Failed = Arc<Mutex<Option<anyhow::Error>>>;

impl Forward {
    /// To `port` of `pod`, at whatever port is free here.
    ///
    /// # Errors
    /// When no port is free.
    pub(crate) async fn to(cluster: &Cluster, pod: String, port: u16) -> Result<Self> {
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

async fn forward(pods: &Api<Pod>, pod: &str, port: u16, mut stream: TcpStream) -> Result<()> {
    let what = format!("forward port {port} of pod {pod}");
    let mut forwarded = pods.portforward(pod, &[port]).await.map_err(|error| explain(&what, error))?;
    let mut remote = forwarded.take_stream(port).context("a stream of the port")?;
    // Either end may close when it is done.
    let _ = copy_bidirectional(&mut stream, &mut remote).await;
    Ok(())
}
