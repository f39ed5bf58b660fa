//! Clients that write to an event store until they are told to stop.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use headwater_testkit::counters;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::history::History;
use headwater_testkit::http::{Event, Outcome};
use headwater_testkit::process::PATIENCE;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

const WRITERS: usize = 8;

/// Counters of each writer.
const COUNTERS: usize = 5;

/// What is under way.
pub(crate) struct Load {
    history: Arc<Mutex<History>>,
    stop: watch::Sender<bool>,
    writers: JoinSet<Result<()>>,
}

impl Load {
    /// Adds 3 to counters, again and again.
    pub(crate) fn on(store: &EventStore) -> Self {
        let history = Arc::new(Mutex::new(History::default()));
        let (stop, stopped) = watch::channel(false);
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (http, history, stopped) = (store.http(), history.clone(), stopped.clone());
            writers.spawn(async move {
                for number in (0..COUNTERS).cycle() {
                    if *stopped.borrow() {
                        break;
                    }
                    let (counter, id) = (format!("counter-{writer}-{number}"), Uuid::new_v4().to_string());
                    lock(&history).sends(&id);
                    match http.append(&counter, &json!("any"), &id, "Added", &counters::added(3)).await? {
                        Outcome::Stored(stored) => lock(&history).acknowledges(&id, stored)?,
                        other => bail!("{other:?}"),
                    }
                }
                Ok(())
            });
        }
        Self { history, stop, writers }
    }

    /// Waits until so many more events are stored.
    pub(crate) async fn stores(&self, more: usize) -> Result<()> {
        let wanted = lock(&self.history).acknowledged() + more;
        let began = Instant::now();
        while lock(&self.history).acknowledged() < wanted {
            ensure!(began.elapsed() < PATIENCE, "not so many events are stored in time");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Stops, checks that all that was acknowledged is there, and gives the events and the place behind them.
    pub(crate) async fn stop(mut self, store: &EventStore) -> Result<(Vec<Event>, String)> {
        self.stop.send_replace(true);
        while let Some(writer) = self.writers.join_next().await {
            writer??;
        }
        let (events, token) = store.http().all_events().await?;
        lock(&self.history).check(&events)?;
        Ok((events, token))
    }
}

/// No writer leaves it half changed.
fn lock(history: &Mutex<History>) -> std::sync::MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}
