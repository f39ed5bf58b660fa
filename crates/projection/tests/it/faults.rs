//! A store that fails as networks and disks do: before the work, or after it, when nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use headwater_core::{Error, Partition, Result, StreamId};
use headwater_view::{
    Answer, ApplyError, Batch, BatchLimit, Change, ChangeError, Holdings, Load, LoadedRow, LocalLeases, Look,
    ParkedStream, PartitionState, Progress, Query, QueryError, Revision, Rollout, RolloutVersion, SinkLeases,
    ViewAdmin, ViewReader, ViewSink, ViewStore, Written,
};
use uuid::Uuid;

/// Fails about every `one_in`th call that writes: half of the time before the work is done, half of the time after.
pub(crate) struct Flaky {
    inner: Arc<dyn ViewStore>,
    one_in: u64,
    random: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Instead of the store's.
    leases: Option<LocalLeases>,
}

impl Flaky {
    pub(crate) fn new(inner: Arc<dyn ViewStore>, one_in: u64, seed: u64) -> Self {
        Self { inner, one_in, random: AtomicU64::new(seed), failures: AtomicU64::new(0), leases: None }
    }

    /// Fails never, and tells whoever asks that nobody else is there: leases that protect nothing.
    pub(crate) fn alone(inner: Arc<dyn ViewStore>) -> Self {
        Self { leases: Some(LocalLeases::default()), ..Self::new(inner, u64::MAX, 1) }
    }

    /// Whether to fail, and whether before the work.
    fn fate(&self) -> Option<bool> {
        let step = |state: u64| {
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
        };
        let state = self
            .random
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(step(state)))
            .unwrap_or(0)
            >> 33;
        let fails = state.is_multiple_of(self.one_in);
        if fails {
            self.failures.fetch_add(1, Ordering::SeqCst);
        }
        fails.then_some((state / self.one_in).is_multiple_of(2))
    }
}

fn lost() -> Error {
    Error::unavailable("the connection was lost")
}

#[async_trait]
impl ViewSink for Flaky {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        self.inner.partition(revision, partition).await
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        self.inner.load(load).await
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        match self.fate() {
            None => self.inner.apply(batch).await,
            Some(true) => Err(lost().into()),
            Some(false) => {
                self.inner.apply(batch).await?;
                Err(lost().into())
            }
        }
    }

    fn batch_limit(&self) -> BatchLimit {
        self.inner.batch_limit()
    }
}

#[async_trait]
impl SinkLeases for Flaky {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        if let Some(leases) = &self.leases {
            return leases.look(look).await;
        }
        match self.fate() {
            None => self.inner.look(look).await,
            Some(true) => Err(lost()),
            Some(false) => {
                self.inner.look(look).await?;
                Err(lost())
            }
        }
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        if let Some(leases) = &self.leases {
            return leases.leave(member).await;
        }
        self.inner.leave(member).await
    }
}

#[async_trait]
impl ViewReader for Flaky {
    async fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        self.inner.query(query).await
    }
}

#[async_trait]
impl ViewAdmin for Flaky {
    async fn rollout(&self) -> Result<Rollout> {
        self.inner.rollout().await
    }

    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError> {
        match self.fate() {
            None => self.inner.change(version, change).await,
            Some(true) => Err(lost().into()),
            Some(false) => {
                self.inner.change(version, change).await?;
                Err(lost().into())
            }
        }
    }

    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        self.inner.progress(revision).await
    }

    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>> {
        self.inner.parked(revision, after, limit, events).await
    }

    async fn begin_again(&self) -> Result<()> {
        self.inner.begin_again().await
    }

    async fn parked_stream(
        &self,
        revision: Revision,
        stream_id: &StreamId,
        events: usize,
    ) -> Result<Option<ParkedStream>> {
        self.inner.parked_stream(revision, stream_id, events).await
    }
}
