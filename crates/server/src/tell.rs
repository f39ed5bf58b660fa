//! Tasks that tell what happens while it does: stored events, changed rows, revisions.

use std::sync::Arc;

use headwater_core::RecordedEvent;
use headwater_log::{EventBatch, Subscription};
use headwater_projection::{ProjectionStatus, RowChange};
use headwater_saga::{Direction, Told};
use headwater_view::Cell;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};

use crate::notice::{Event, Notice};

/// Events that are told at once.
const BATCH: usize = 100;
/// Bytes of them.
const BATCH_BYTES: usize = 1 << 20;

/// Tells every event of `stream` from where `subscription` stands.
pub(crate) async fn events(stream: String, mut subscription: Subscription, notices: mpsc::Sender<Notice>) {
    loop {
        match subscription.next_batch(BATCH, BATCH_BYTES).await {
            Ok(EventBatch { events, .. }) => {
                for event in events {
                    if notices.send(Notice::Event(told(&stream, &event))).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!("events of \"{stream}\" are shown no longer: {error}");
                return;
            }
        }
    }
}

fn told(stream: &str, event: &RecordedEvent) -> Event {
    Event {
        stream: stream.to_owned(),
        stream_id: event.stream_id.to_string(),
        event_type: event.event_type.to_string(),
        version: event.version.get(),
        partition: event.partition.get(),
        position: event.position.to_string(),
        data: std::str::from_utf8(&event.data)
            .ok()
            .filter(|_| event.is_json())
            .and_then(|data| RawValue::from_string(data.to_owned()).ok()),
    }
}

/// Tells what happens to the instances of a saga.
pub(crate) async fn steps(saga: String, mut told: broadcast::Receiver<Told>, notices: mpsc::Sender<Notice>) {
    loop {
        let Told { instance, line } = match told.recv().await {
            Ok(told) => told,
            Err(RecvError::Lagged(lost)) => {
                let message = format!("{lost} steps of saga {saga} happened too fast to be shown");
                if notices.send(Notice::Note { message }).await.is_err() {
                    return;
                }
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        let way = if line.direction == Some(Direction::Undo) { " undo" } else { "" };
        let step = line.step.map_or_else(String::new, |step| format!("{step}{way}"));
        let notice = Notice::Step { saga: saga.clone(), instance, what: line.what, step, text: line.text };
        if notices.send(notice).await.is_err() {
            return;
        }
    }
}

/// Tells every row of the active revision that changes.
pub(crate) async fn rows(
    projection: String,
    mut changes: broadcast::Receiver<RowChange>,
    notices: mpsc::Sender<Notice>,
) {
    loop {
        let notice = match changes.recv().await {
            Ok(change) => row(&projection, change),
            Err(RecvError::Lagged(count)) => Notice::Note {
                message: format!("{projection}: {count} changed rows came too fast to be shown"),
            },
            Err(RecvError::Closed) => return,
        };
        if notices.send(notice).await.is_err() {
            return;
        }
    }
}

fn row(projection: &str, change: RowChange) -> Notice {
    let RowChange { table, key, row, .. } = change;
    let row =
        row.map(|cells| cells.into_iter().map(|(name, cell)| (name, to_json(&cell))).collect::<Map<_, _>>());
    let change = if row.is_some() { "written" } else { "deleted" };
    Notice::Row { projection: projection.to_owned(), table, change, key, row }
}

/// For people to look at: what cannot be shown as it is, is shown as text.
fn to_json(cell: &Cell) -> Value {
    cell.to_json().unwrap_or_else(|_| cell.to_string().into())
}

/// Tells when a revision is begun, and when one takes over.
pub(crate) async fn rollouts(
    mut status: watch::Receiver<Arc<ProjectionStatus>>,
    notices: mpsc::Sender<Notice>,
) {
    let mut known = Seen::of(&status.borrow_and_update().clone());
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().clone();
        for notice in known.news(&now) {
            if notices.send(notice).await.is_err() {
                return;
            }
        }
    }
}

/// What was told of a projection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    active: Option<String>,
    candidate: Option<String>,
    message: Option<String>,
    parked: u64,
}

impl Seen {
    fn of(status: &Arc<ProjectionStatus>) -> Self {
        Self {
            active: status.active.as_ref().map(|active| active.revision.clone()),
            candidate: status.candidate.as_ref().map(|candidate| candidate.revision.clone()),
            message: status.message.clone(),
            parked: status.parked,
        }
    }

    /// What is new, and worth telling.
    fn news(&mut self, status: &Arc<ProjectionStatus>) -> Vec<Notice> {
        let now = Self::of(status);
        let rollout = |revision: &str, state, message: String| Notice::Rollout {
            projection: status.name.clone(),
            revision: revision.to_owned(),
            state,
            message,
        };
        let mut news = Vec::new();
        if let Some(candidate) = now.candidate.as_ref().filter(|_| now.candidate != self.candidate) {
            let message = match &now.active {
                Some(active) => format!("is built beside revision {active}, which goes on serving"),
                None => "is built".to_owned(),
            };
            news.push(rollout(candidate, "building", message));
        }
        if let Some(active) = now.active.as_ref().filter(|_| now.active != self.active) {
            let message = match &self.active {
                Some(before) => format!("serves, in the place of revision {before}"),
                None => "serves".to_owned(),
            };
            news.push(rollout(active, "serving", message));
        }
        let name = &status.name;
        if let Some(message) = now.message.as_ref().filter(|_| now.message != self.message) {
            news.push(Notice::Note { message: format!("{name}: {message}") });
        }
        if now.parked > self.parked {
            let message = format!(
                "{name}: {} events are parked; `headwater projections parked {name}` shows why",
                now.parked
            );
            news.push(Notice::Note { message });
        }
        *self = now;
        news
    }
}
