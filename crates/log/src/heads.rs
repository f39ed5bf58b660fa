use headwater_core::{Partition, Position};
use tokio::sync::watch;

use crate::Head;

/// The heads of a log whose only writer is this process: kept in memory, published after each commit, and waited for
/// without polling.
#[derive(Debug)]
pub struct Heads(Vec<watch::Sender<Head>>);

impl Heads {
    /// Starts from what is stored, by partition.
    pub fn new(heads: impl IntoIterator<Item = Head>) -> Self {
        Self(heads.into_iter().map(watch::Sender::new).collect())
    }

    /// The head of `partition`, which must be one of the log's.
    pub fn get(&self, partition: Partition) -> Head {
        *self.0[partition.index()].borrow()
    }

    /// All heads, by partition.
    pub fn all(&self) -> Vec<Head> {
        self.0.iter().map(|head| *head.borrow()).collect()
    }

    /// Makes a committed head visible and wakes whoever waits for it.
    pub fn publish(&self, partition: Partition, head: Head) {
        self.0[partition.index()].send_replace(head);
    }

    /// As [`publish`](Self::publish), unless what is known is further: for heads that are looked at, and may come late.
    pub fn raise(&self, partition: Partition, head: Head) {
        self.0[partition.index()].send_if_modified(|known| {
            let is_newer = (head.epoch, head.position) > (known.epoch, known.position);
            if is_newer {
                *known = head;
            }
            is_newer
        });
    }

    /// Waits until the head of `partition` is beyond `position`, and gives it.
    pub async fn wait_beyond(&self, partition: Partition, position: Position) -> Position {
        let mut head = self.0[partition.index()].subscribe();
        loop {
            let position_now = head.borrow_and_update().position;
            // The sender lives as long as `self`, which is borrowed here: there is always a change to wait for.
            if position_now > position || head.changed().await.is_err() {
                return position_now;
            }
        }
    }
}
