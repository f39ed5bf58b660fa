//! What the sagas call: a participant that keeps every key it was called with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The steps that it does, by their paths.
pub(super) const STEPS: [&str; 2] = ["reserve", "charge"];

/// Keys by instance, for each step.
type Ledger = HashMap<u64, [Option<String>; STEPS.len()]>;

#[derive(Default)]
struct Kept {
    ledger: Mutex<Ledger>,
    /// The first thing that was wrong.
    fault: Mutex<Option<String>>,
    /// Keys that are kept.
    count: watch::Sender<u64>,
}

/// A participant that listens. Ends when dropped.
pub(super) struct Participant {
    pub(super) address: SocketAddr,
    kept: Arc<Kept>,
    serving: JoinHandle<std::io::Result<()>>,
}

#[derive(Deserialize)]
struct Body {
    id: u64,
}

impl Participant {
    pub(super) async fn start() -> Result<Self> {
        let kept = Arc::new(Kept::default());
        let route = |step: usize| {
            move |State(kept): State<Arc<Kept>>, headers: HeaderMap, Json(body): Json<Body>| async move {
                kept.keep(step, &headers, body.id)
            }
        };
        let mut router = Router::new();
        for (step, name) in STEPS.iter().enumerate() {
            router = router.route(&format!("/{name}"), post(route(step)));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(axum::serve(listener, router.with_state(Arc::clone(&kept))).into_future());
        Ok(Self { address, kept, serving })
    }

    /// Waits until `count` keys are kept.
    pub(super) async fn has_kept(&self, count: u64) -> Result<()> {
        self.kept
            .count
            .subscribe()
            .wait_for(|kept| *kept >= count)
            .await
            .context("the participant is gone")?;
        Ok(())
    }

    /// Each of the instances 0 to `count` was called once a step for its first `steps`, and nothing else was called.
    pub(super) fn check(&self, count: u64, steps: usize) -> Result<()> {
        ensure!(lock(&self.kept.fault).is_none(), "{:?}", lock(&self.kept.fault));
        let ledger = lock(&self.kept.ledger);
        ensure!(ledger.len() as u64 == count, "{} instances called, of {count}", ledger.len());
        for id in 0..count {
            let keys = ledger.get(&id).with_context(|| format!("instance {id} called nothing"))?;
            let called = keys.iter().filter(|key| key.is_some()).count();
            ensure!(called == steps, "instance {id} did {called} of {steps} steps");
        }
        Ok(())
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Kept {
    fn keep(&self, step: usize, headers: &HeaderMap, id: u64) -> (StatusCode, Json<Value>) {
        let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
            return self.refuse(format!("{} of instance {id} came without a key", STEPS[step]));
        };
        let mut ledger = lock(&self.ledger);
        let known = &mut ledger.entry(id).or_default()[step];
        match known {
            None => {
                *known = Some(key.to_owned());
                self.count.send_modify(|count| *count += 1);
            }
            Some(known) if known == key => {}
            Some(known) => {
                let fault = format!("{} of instance {id} came under {known} and under {key}", STEPS[step]);
                return self.refuse(fault);
            }
        }
        (StatusCode::OK, Json(json!({"receipt": id})))
    }

    fn refuse(&self, fault: String) -> (StatusCode, Json<Value>) {
        let answer = Json(json!({"detail": fault}));
        lock(&self.fault).get_or_insert(fault);
        (StatusCode::BAD_REQUEST, answer)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
