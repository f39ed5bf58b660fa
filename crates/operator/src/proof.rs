//! What the operator proves to workers to be: a token for each namespace, which is of no use in any other.
//!
//! Whoever may make resources in a namespace chooses what runs there, and so sees the token that its pods are shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, PostParams};

use crate::settings::{ServiceAccount, audience_in};

/// Seconds that a token holds.
const SECONDS: i64 = 3_600;

/// When another is asked for.
const RENEWED_AFTER: Duration = Duration::from_mins(48);

/// By which token the operator asks.
#[derive(Clone)]
pub enum Proof {
    /// That of a file, everywhere; it is read each time.
    File(PathBuf),
    /// Tokens of its service account, which the API server gives it.
    Account(Box<Tokens>),
}

/// Tokens by namespace. Clones are of one.
#[derive(Clone)]
pub struct Tokens {
    accounts: Api<v1::ServiceAccount>,
    name: String,
    known: Arc<Mutex<BTreeMap<String, Arc<Known>>>>,
}

/// A namespace's token, once there is one, and when it was given.
type Known = tokio::sync::Mutex<Option<(String, Instant)>>;

impl Tokens {
    /// Of `account`.
    pub fn of(client: Client, account: &ServiceAccount) -> Self {
        let accounts = Api::namespaced(client, &account.namespace);
        Self { accounts, name: account.name.clone(), known: Arc::default() }
    }

    async fn token(&self, namespace: &str) -> anyhow::Result<String> {
        // Those of other namespaces are not waited for.
        let known = self.known(namespace);
        let mut known = known.lock().await;
        if let Some((token, _)) = known.as_ref().filter(|(_, since)| since.elapsed() < RENEWED_AFTER) {
            return Ok(token.clone());
        }
        let asked = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience_in(namespace)],
                expiration_seconds: Some(SECONDS),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let given = self.accounts.create_token_request(&self.name, &PostParams::default(), &asked).await;
        let given = given.inspect_err(|error| {
            tracing::warn!(account = self.name, %error, "no token is given, without which workers say nothing");
        })?;
        let token = given.status.context("the API server gave no token")?.token;
        *known = Some((token.clone(), Instant::now()));
        Ok(token)
    }

    fn known(&self, namespace: &str) -> Arc<Known> {
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_use = |known: &Arc<Known>| {
            let holds = |known: &Option<(String, Instant)>| {
                known.as_ref().is_some_and(|(_, since)| since.elapsed() < RENEWED_AFTER)
            };
            Arc::strong_count(known) > 1 || known.try_lock().is_ok_and(|known| holds(&known))
        };
        all.retain(|_, known| is_of_use(known));
        all.entry(namespace.to_owned()).or_default().clone()
    }
}

impl Proof {
    /// The token for workers of `namespace`.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(&self, namespace: &str) -> anyhow::Result<String> {
        match self {
            Self::File(path) => {
                let token = tokio::fs::read_to_string(path).await.context("the operator's token")?;
                Ok(token.trim().to_owned())
            }
            Self::Account(tokens) => tokens.token(namespace).await,
        }
    }
}
