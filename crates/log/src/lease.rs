use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Partition, Result};
use uuid::Uuid;

use crate::{Head, LogStore};

/// A process that writes partitions of a log which others write as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Made anew at each start: a process that was started again is another member.
    pub id: Uuid,
    /// Where the others reach it, as `http://HOST:PORT`.
    pub address: String,
}

/// Who writes what, as seen in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Those that are alive, in the order of their ids.
    pub members: Vec<Member>,
    /// By partition; `None`: nobody.
    pub holders: Vec<Option<Member>>,
}

/// A log whose partitions several processes write, each its own at a time.
///
/// ```text
/// head row:  partition ─ epoch ─ head ─ holder ─ lease_until
///            ├ claim:  nobody holds it, or no longer ─▶ holder = me, epoch + 1     the one before is fenced from here on
///            ├ renew:  holder = me, and still so     ─▶ lease_until later
///            └ commit: as ever, by epoch and head
/// ```
/// A lease only decides who tries. What protects the log is the epoch.
///
/// Implementations MUST:
/// - let a partition have one holder or none at any moment of the store's clock;
/// - raise the epoch in the transaction in which the holder changes, so that whoever wrote before commits nothing afterwards;
/// - renew no lease that has ended: it has to be claimed, and may be another's by then;
/// - refuse [`LogStore::acquire`] as `Unavailable` for a partition that somebody holds.
#[async_trait]
pub trait LeaseStore: LogStore {
    /// Says that `member` is alive for `term` from now on, makes the leases that it holds last as long, and gives who holds what then.
    async fn renew(&self, member: &Member, term: Duration) -> Result<Holdings>;

    /// Takes those of `partitions` that nobody holds, for `term`. Gives those that it got.
    async fn claim(
        &self,
        member: &Member,
        partitions: &[Partition],
        term: Duration,
    ) -> Result<Vec<Partition>>;

    /// Gives up those of `partitions` that the member holds. A commit that is under way is waited for.
    async fn release(&self, member: Uuid, partitions: &[Partition]) -> Result<()>;

    /// The member is gone, and holds nothing.
    async fn leave(&self, member: Uuid) -> Result<()>;

    /// As [`LogStore::acquire`], for the partition's holder alone: `Unavailable` for any other.
    async fn acquire_as(&self, partition: Partition, member: Uuid) -> Result<Head>;
}
