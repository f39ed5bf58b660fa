//! How far the log is, looked at beside what is folded: for partitions that others fold, and to know whether the log answers at all.

use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Partition, Position};
use headwater_log::LogReader;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the log is asked.
const EVERY: Duration = Duration::from_millis(500);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Silence that may pass by itself: an event store that is started again.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was seen last.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// By partition; empty before the first answer.
    heads: Vec<Position>,
    /// Since when there has been no answer.
    failing_since: Option<Instant>,
}

/// Asks until it is dropped.
pub(crate) struct Heads {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Heads {
    pub(crate) fn follow(projection: String, reader: Arc<dyn LogReader>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            loop {
                let asked = Instant::now();
                let failure = match tokio::time::timeout(ANSWER, reader.heads()).await {
                    Ok(Ok(heads)) => {
                        let heads = heads.into_iter().map(|head| head.position).collect();
                        sender.send_replace(Seen { heads, failing_since: None });
                        None
                    }
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(tokio::time::error::Elapsed { .. }) => Some(format!("no answer within {ANSWER:?}")),
                };
                if let Some(failure) = failure {
                    tracing::debug!(projection, failure, "the log's heads are not known");
                    sender.send_modify(|seen| seen.failing_since = seen.failing_since.or(Some(asked)));
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { seen, task }
    }

    /// The head of `partition` when it was last seen.
    pub(crate) fn of(&self, partition: Partition) -> Option<Position> {
        self.seen.borrow().heads.get(partition.index()).copied()
    }

    /// Whether the log has not answered for so long that others should try.
    pub(crate) fn is_silent(&self) -> bool {
        self.seen.borrow().failing_since.is_some_and(|since| since.elapsed() >= PATIENCE)
    }
}

impl Drop for Heads {
    fn drop(&mut self) {
        self.task.abort();
    }
}
