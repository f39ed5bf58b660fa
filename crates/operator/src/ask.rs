//! Asks workers how they are, by their Service, with the operator's own token.
//!
//! What does not answer in time is not known: nothing is said of it, and the Deployment says that it is not ready.

use std::path::PathBuf;
use std::time::Duration;

use headwater_resources::shared::Count;
use serde::Deserialize;

use crate::part::Owner;

/// How long an answer is waited for: a worker that is well has it at hand.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client of workers.
#[derive(Debug, Clone)]
pub struct Workers {
    http: reqwest::Client,
    token: Option<PathBuf>,
}

/// What the event store says of its log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Head {
    /// The log's identity.
    pub log_id: String,
    /// Each partition.
    pub partitions: Vec<PartitionHead>,
}

/// What the event store says of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PartitionHead {
    /// Its number.
    pub partition: i32,
    /// The position of its last event.
    pub position: Count,
}

/// What query workers say of their projection.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ProjectionState {
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
    /// What is wrong, if something is.
    pub message: Option<String>,
}

impl Workers {
    /// A client that proves who it is by the token in a file, which is read each time: it is renewed.
    ///
    /// # Errors
    /// When there is no TLS to be had.
    pub fn new(token: Option<PathBuf>) -> reqwest::Result<Self> {
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build()?;
        Ok(Self { http, token })
    }

    /// What `path` of the workers of `owner` answers.
    ///
    /// # Errors
    /// When nothing answers, or something else than is asked for.
    pub async fn ask<T: serde::de::DeserializeOwned>(&self, owner: &Owner, path: &str) -> anyhow::Result<T> {
        let address = owner.kind.address(&owner.name, &owner.namespace);
        let mut request = self.http.get(format!("http://{address}{path}"));
        if let Some(token) = &self.token {
            request = request.bearer_auth(tokio::fs::read_to_string(token).await?.trim());
        }
        let answer = request.send().await?.error_for_status()?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }
}
