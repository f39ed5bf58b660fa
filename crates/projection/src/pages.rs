//! Pages of one partition, read ahead of whoever folds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use headwater_core::{EventType, Partition, Position, Result};
use headwater_log::{Filter, LogReader, PartitionPage, ReadPartition};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Events of a page at first: small, so that a new event is folded at once.
const FIRST_LIMIT: usize = 256;
/// Events of a page at most.
const LAST_LIMIT: usize = 4096;
/// Bytes of a page, roughly.
const MAX_BYTES: usize = 4 << 20;

/// How many events a page holds: more while folding them is quick, fewer when it is slow, so that stopping never takes long.
#[derive(Debug, Clone)]
pub(crate) struct PageSize {
    fits: Arc<AtomicUsize>,
    /// What there may be at once in any case.
    most: Arc<AtomicUsize>,
}

impl PageSize {
    pub(crate) fn of_at_most(most: usize) -> Self {
        Self { fits: Arc::new(AtomicUsize::new(FIRST_LIMIT)), most: Arc::new(AtomicUsize::new(most)) }
    }

    /// From the next page on.
    pub(crate) fn be_at_most(&self, most: usize) {
        self.most.store(most, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.fits.load(Ordering::Relaxed).min(self.most.load(Ordering::Relaxed))
    }

    /// Takes into account that a page of `events` took `elapsed` to fold.
    pub(crate) fn took(&self, events: usize, elapsed: std::time::Duration) {
        let limit = self.get();
        if elapsed.as_millis() > 250 {
            self.fits.store((limit / 2).max(FIRST_LIMIT / 4), Ordering::Relaxed);
        } else if events >= limit && elapsed.as_millis() < 100 {
            self.fits.store((limit * 2).min(LAST_LIMIT), Ordering::Relaxed);
        }
    }
}

/// Reads one partition from a position on, one page ahead, and waits at its end. Dropping it ends the reading.
///
/// The seam where a bus can take the log's place: whatever gives pages of one partition in order.
pub(crate) struct Pages {
    receiver: mpsc::Receiver<Result<PartitionPage>>,
    task: JoinHandle<()>,
}

impl Pages {
    pub(crate) fn read(
        reader: Arc<dyn LogReader>,
        partition: Partition,
        after: Position,
        event_types: Vec<EventType>,
        size: PageSize,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut after = after;
            loop {
                let page = reader
                    .read_partition(ReadPartition {
                        partition,
                        after,
                        up_to: None,
                        filter: Filter { event_types: event_types.clone(), stream_id_prefix: None },
                        limit: size.get(),
                        max_bytes: MAX_BYTES,
                    })
                    .await;
                let Ok(page) = page else {
                    // Whoever reads tries again from the checkpoint; nobody listening is fine too.
                    let _ = sender.send(page).await;
                    return;
                };
                let (reached, head) = (page.reached, page.head);
                if (reached > after || page.events.is_empty()) && sender.send(Ok(page)).await.is_err() {
                    return;
                }
                after = after.max(reached);
                if after >= head
                    && let Err(error) = reader.wait_beyond(partition, after).await
                {
                    let _ = sender.send(Err(error)).await;
                    return;
                }
            }
        });
        Self { receiver, task }
    }

    /// The next page. `None`: reading has ended, after an error that was given.
    pub(crate) async fn next(&mut self) -> Option<Result<PartitionPage>> {
        self.receiver.recv().await
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.task.abort();
    }
}
