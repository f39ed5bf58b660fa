//! What the services that a saga calls have in common: the headers of a call, the ledger behind a lock, and how they say no.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use axum::Json;
use axum::body::Bytes;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::ledger::{Entry, Ledger, Refusal};

/// A call of a saga: its body, and the headers that say which call it is.
#[derive(Debug, Clone)]
pub(crate) struct Call<B> {
    /// The same for every attempt of one step in one direction.
    pub(crate) key: String,
    /// What the call belongs to.
    pub(crate) correlation_id: String,
    /// The event that began it.
    pub(crate) causation_id: String,
    pub(crate) body: B,
}

impl<S: Send + Sync, B: DeserializeOwned> FromRequest<S> for Call<B> {
    type Rejection = No;

    async fn from_request(request: Request, state: &S) -> Result<Self, No> {
        let [key, correlation_id, causation_id] =
            ["idempotency-key", "correlation-id", "causation-id"].map(|name| {
                let value = request.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            });
        if key.is_empty() {
            return Err(No::Wrong("give the header Idempotency-Key, the same whenever you try again".into()));
        }
        let body = Bytes::from_request(request, state).await.map_err(|error| No::Wrong(error.to_string()))?;
        let body = serde_json::from_slice(&body).map_err(|error| No::Wrong(format!("the body: {error}")))?;
        Ok(Self { key, correlation_id, causation_id, body })
    }
}

/// The body of a compensation.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Undo {
    pub(crate) order_id: String,
}

/// Why a call has no success.
#[derive(Debug)]
pub(crate) enum No {
    /// It is no call of ours.
    Wrong(String),
    /// It is refused, now and whenever it is sent again.
    Refused(Refusal),
    /// It may have been done or not: send it again.
    Unknown(String),
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Wrong(detail) => (StatusCode::BAD_REQUEST, detail),
            Self::Refused(Refusal { status, detail }) => {
                (StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT), detail)
            }
            Self::Unknown(detail) => (StatusCode::SERVICE_UNAVAILABLE, detail),
        };
        (status, Json(json!({"detail": detail}))).into_response()
    }
}

/// A ledger that handlers share.
#[derive(Debug)]
pub(crate) struct Book<T>(Arc<Mutex<Ledger<T>>>);

impl<T: Clone + Serialize + DeserializeOwned + Send + 'static> Book<T> {
    /// Opens the ledger `name` in `folder`.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub(crate) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Ledger::open(folder, name)?))))
    }

    /// Writes to the ledger, which waits for the disk; goes on to its end when the caller hangs up.
    pub(crate) async fn write(
        &self,
        write: impl FnOnce(&mut Ledger<T>) -> std::io::Result<Entry<T>> + Send + 'static,
    ) -> Result<Entry<T>, No> {
        let ledger = self.0.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut ledger = ledger.lock().map_err(|_| anyhow::anyhow!("the ledger broke; restart"))?;
            write(&mut ledger).context("writing the ledger")
        });
        let entry = written
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .map_err(|error| No::Unknown(format!("{error:#}")))?;
        match entry.refused {
            Some(refusal) => Err(No::Refused(refusal)),
            None => Ok(entry),
        }
    }
}
