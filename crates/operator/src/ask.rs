//! Asks workers how they are: their pods, one by one, with the operator's own token. A pod that is not ready answers, too, as far as it can.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Bytes;
use headwater_api::tls;
use headwater_resources::saga::Generation;
use headwater_resources::shared::Count;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::part::Owner;
use crate::proof::Proof;

/// How long an answer is waited for: a worker that is well has it at hand.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pods that are asked, of those that there are.
const MOST: usize = 16;

/// Bytes of an answer that are read.
const LONGEST: usize = 4 << 20;

/// A client of workers.
#[derive(Clone)]
pub struct Workers {
    proof: Proof,
}

/// Where the workers of a resource are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whose they are.
    pub owner: Owner,
    /// Their pods, those that are ready first.
    pub pods: Vec<IpAddr>,
    /// By TLS: the authorities of their certificates, in PEM, beside those that the system trusts.
    pub tls: Option<Option<String>>,
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer<T> {
    /// An answer.
    Said(T),
    /// Why there is none, in the worker's own words.
    Refused(String),
    /// None: nobody can be reached in time, or what is said cannot be understood.
    Silent,
}

/// What the event store says of its log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Log {
    /// The log's identity.
    pub log_id: String,
    /// Each partition.
    pub partitions: Vec<LogPartition>,
}

/// What the event store says of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LogPartition {
    /// Its number.
    pub partition: i32,
    /// The position of its last event.
    pub position: Count,
    /// The fencing number of whoever writes it.
    pub epoch: Count,
    /// How far it is on the bus, as whoever relays it says.
    pub relay: Option<RelayState>,
}

/// How far a partition is on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RelayState {
    /// The position of the last event that the bus has.
    pub position: Count,
    /// Why nothing gets there.
    pub fault: Option<String>,
}

/// What query workers say of their projection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProjectionState {
    /// The digest of what is wanted.
    pub digest: String,
    /// The build that answers.
    pub active: Option<RevisionState>,
    /// The build that is to take its place.
    pub candidate: Option<RevisionState>,
    /// The build before.
    pub previous: Option<RevisionState>,
    /// The digest of what was rolled back by command.
    pub held_digest: Option<String>,
    /// What becomes of the newest build, in words.
    pub rollout: String,
    /// What is wrong, if something is.
    pub message: Option<String>,
    /// How far the active build is behind.
    pub lag: Option<LagState>,
    /// Events set aside.
    pub parked: u64,
}

/// What query workers say of a build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RevisionState {
    /// Its number.
    pub revision: Count,
    /// The digest of what it was built from.
    pub digest: String,
    /// When the build began.
    pub created_at: jiff::Timestamp,
    /// Until when it is kept.
    #[serde(default)]
    pub until: Option<jiff::Timestamp>,
    /// How much of the past is folded, in percent.
    #[serde(default)]
    pub percent: Option<u8>,
    /// For how long it will be at it.
    #[serde(default)]
    pub eta_seconds: Option<u64>,
    /// Each partition.
    #[serde(default)]
    pub partitions: Vec<FoldState>,
}

/// What query workers say of a partition of a build.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FoldState {
    /// Its number.
    pub partition: u16,
    /// `Halted` where an event could not be folded, `Failing` where something does not answer.
    pub state: String,
    /// What halted it.
    #[serde(default)]
    pub failure: Option<FoldFailure>,
    /// Why it is failing.
    #[serde(default)]
    pub message: Option<String>,
}

/// Why which rule could not fold which event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FoldFailure {
    /// The event's id.
    pub event_id: String,
    /// The rule, and its member.
    pub place: String,
    /// Why.
    pub message: String,
}

/// How far a build is behind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LagState {
    /// Events not yet folded.
    pub events: Count,
    /// Seconds since the oldest of them was recorded.
    pub seconds: u64,
}

/// What a coordinator says of its saga.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SagaState {
    /// The digest of the definition that new instances follow.
    pub definition: String,
    /// Instances that go forward.
    pub running: u64,
    /// Instances that are being undone.
    pub compensating: u64,
    /// Instances that a person has to look at.
    pub needs_attention: u64,
    /// Instances that were completed.
    #[serde(default)]
    pub completed: Option<u64>,
    /// Instances that were undone.
    #[serde(default)]
    pub compensated: Option<u64>,
    /// The definitions that instances at work were started with.
    #[serde(default)]
    pub generations: Vec<Generation>,
    /// Age of the oldest instance at work.
    #[serde(default)]
    pub oldest_running_seconds: Option<u64>,
    /// What is wrong, if something is.
    pub message: Option<String>,
}

/// A failure, as the Problem Details of RFC 9457 say it.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: String,
}

impl Workers {
    /// A client that proves so who it is.
    pub const fn new(proof: Proof) -> Self {
        Self { proof }
    }

    /// What `path` of the first pod that has an answer says.
    pub async fn ask<T: DeserializeOwned>(&self, address: &Address, path: &str) -> Answer<T> {
        let mut refused = None;
        for pod in address.pods.iter().take(MOST) {
            match self.ask_pod(address, *pod, path).await {
                Ok(Answer::Said(said)) => return Answer::Said(said),
                Ok(Answer::Refused(why)) => refused = refused.or(Some(why)),
                Ok(Answer::Silent) => {}
                Err(error) => {
                    tracing::debug!(name = %address.owner.name, %pod, error = %format!("{error:#}"), "a pod does not answer");
                }
            }
        }
        refused.map_or(Answer::Silent, Answer::Refused)
    }

    /// What `path` of each pod says.
    pub async fn ask_all<T: DeserializeOwned>(&self, address: &Address, path: &str) -> Vec<Answer<T>> {
        let asked = address.pods.iter().take(MOST).map(|pod| self.ask_pod(address, *pod, path));
        let answers = futures_util::future::join_all(asked).await;
        answers.into_iter().map(|answer| answer.unwrap_or(Answer::Silent)).collect()
    }

    async fn ask_pod<T: DeserializeOwned>(
        &self,
        address: &Address,
        pod: IpAddr,
        path: &str,
    ) -> anyhow::Result<Answer<T>> {
        let (status, body) = tokio::time::timeout(PATIENCE, self.get(address, pod, path))
            .await
            .with_context(|| format!("no answer within {PATIENCE:?}"))??;
        if status.is_success() {
            return Ok(Answer::Said(serde_json::from_slice(&body)?));
        }
        let problem: Problem =
            serde_json::from_slice(&body).with_context(|| format!("it answers {status}"))?;
        Ok(Answer::Refused(problem.detail))
    }

    async fn get(&self, address: &Address, pod: IpAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let Owner { kind, name, namespace, .. } = &address.owner;
        let host = kind.host(name, namespace);
        let token = self.proof.token(namespace).await?;
        let request = Request::get(path)
            .header(HOST, &host)
            .header(CONNECTION, "close")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Empty::new())?;
        let stream = TcpStream::connect((pod, kind.port())).await?;
        let Some(authorities) = &address.tls else { return exchange(stream, request).await };
        let authorities = authorities.as_deref().map(str::as_bytes);
        let tls = tls::configuration(true, authorities, None).map_err(anyhow::Error::msg)?;
        // The certificate is of the Service's name.
        let host = host.try_into().context("the Service's name")?;
        exchange(TlsConnector::from(Arc::new(tls)).connect(host, stream).await?, request).await
    }
}

/// One request on a connection of its own.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), LONGEST).collect().await.map_err(anyhow::Error::from_boxed)?;
        anyhow::Ok((status, body.to_bytes()))
    };
    // What becomes of the connection shows in the answer.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}
