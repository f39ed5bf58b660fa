use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::{Partition, Result, StreamId};

use crate::{
    Answer, ApplyError, Batch, BatchLimit, Change, ChangeError, Load, LoadedRow, ParkedStream,
    PartitionState, Progress, Query, QueryError, Revision, Rollout, RolloutVersion, SinkLeases, Written,
};

/// Takes what a worker folded.
///
/// ```text
/// partition() ──▶ where to go on, what is parked, what is skipped
///      ┌─▶ load() ──fold──▶ apply(): rows + checkpoint + parked, as ONE transaction
///      └──────── ok ────────────┘ │ Checkpoint, Conflict: partition() again
/// ```
///
/// Implementations MUST:
/// - apply all of a batch or nothing, also over SIGKILL and power loss, and a [`Durable`](crate::Durability::Durable) one for good;
/// - refuse a batch whose checkpoint, row versions, parked versions or decisions are not those in the store, whatever runs beside it:
///   of two batches for one position, one is applied;
/// - give every write a version of its own, so that a row that was removed and made again is not taken for the old one;
/// - keep every cell exactly: decimals with their digits, moments to the microsecond, text to the byte.
#[async_trait]
pub trait ViewSink: Send + Sync + 'static {
    /// What a worker must know of a partition, in one snapshot. A partition that never moved is at the rollout's start.
    ///
    /// # Errors
    /// [`ApplyError::Gone`], [`ApplyError::Failed`].
    async fn partition(&self, revision: Revision, partition: Partition)
    -> Result<PartitionState, ApplyError>;

    /// Rows by key: for each table asked for, in the order asked, in one snapshot.
    ///
    /// # Errors
    /// [`ApplyError::Gone`], [`ApplyError::Failed`].
    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError>;

    /// Applies a batch.
    ///
    /// Dropping the future does not take the batch back: it may still be applied, wholly.
    ///
    /// # Errors
    /// Any [`ApplyError`].
    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError>;

    /// How much a batch should hold at most. It takes larger ones too.
    fn batch_limit(&self) -> BatchLimit {
        BatchLimit::NONE
    }
}

/// Answers queries.
///
/// Implementations MUST read the rollout, the checkpoints and the rows in one snapshot: an answer's rows are exactly those of its positions,
/// and of the revision that was active.
#[async_trait]
pub trait ViewReader: Send + Sync + 'static {
    /// A page of rows.
    ///
    /// # Errors
    /// [`QueryError::NotActive`]; `NotFound` for a revision that is gone; `Invalid` for what [`Query::check`] refuses; `Unavailable`.
    async fn query(&self, query: &Query) -> Result<Answer, QueryError>;
}

/// Creates, promotes and drops revisions, and shows what is parked.
///
/// Implementations MUST:
/// - make a change, with all that it means for tables and names, in one durable transaction, and only on the version that it was decided on;
/// - decide legality by [`Rollout::after`] alone;
/// - give the active revision's tables their plain names for people who read the store directly, from the promotion's transaction on.
#[async_trait]
pub trait ViewAdmin: Send + Sync + 'static {
    /// The rollout as it is.
    ///
    /// # Errors
    /// `Unavailable`, `Corrupt`.
    async fn rollout(&self) -> Result<Rollout>;

    /// Makes one change, if the rollout is still at `version`, and answers what it is now.
    ///
    /// # Errors
    /// Any [`ChangeError`].
    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError>;

    /// How far each partition of `revision` is, in one snapshot.
    ///
    /// # Errors
    /// `NotFound` for a revision that is gone; `Unavailable`.
    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>>;

    /// The parked stream ids of `revision` after `after`, in order of stream id, at most `limit`, each with its first `events` events.
    ///
    /// # Errors
    /// `NotFound` for a revision that is gone; `Unavailable`.
    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>>;

    /// The parked events of one stream id, the first `events` of them. `None`: nothing of it is parked.
    ///
    /// # Errors
    /// `NotFound` for a revision that is gone; `Unavailable`.
    async fn parked_stream(
        &self,
        revision: Revision,
        stream_id: &StreamId,
        events: usize,
    ) -> Result<Option<ParkedStream>>;

    /// Takes the place anew, after it was, or may have been, emptied or set back to an older state: what is remembered of revisions is
    /// forgotten. Called only while nobody folds by this handle.
    ///
    /// # Errors
    /// As opening the store.
    async fn begin_again(&self) -> Result<()> {
        Ok(())
    }
}

/// All of a projection's store.
pub trait ViewStore: ViewSink + ViewReader + ViewAdmin + SinkLeases {}

impl<T: ViewSink + ViewReader + ViewAdmin + SinkLeases> ViewStore for T {}
