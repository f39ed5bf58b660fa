//! One partition of one revision, page by page: load, fold, apply.

use std::collections::HashSet;
use std::sync::Arc;

use headwater_core::{Error, Partition, Position, RecordedEvent, Result};
use headwater_log::PartitionPage;
use headwater_resources::projection::ErrorPolicy;
use headwater_view::{Advance, ApplyError, Batch, Decisions, Load, Progress, Revision, RowWrite, ViewSink};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::fold::{self, Context, Failure, Rows};
use crate::plan::Plan;

/// What one page did.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The rows that were written.
    pub(crate) rows: Vec<RowWrite>,
    /// Events that failed by themselves, and were parked or skipped.
    pub(crate) failures: Vec<Failure>,
    /// What stopped the fold within the page.
    pub(crate) halted: Option<Failure>,
}

impl Applied {
    /// Takes in what the events after these did.
    fn add(&mut self, later: Self) {
        self.rows.extend(later.rows);
        self.failures.extend(later.failures);
        self.halted = later.halted;
    }
}

/// Folds pages of one partition into one revision. What it knows of the sink is made sure of by every batch.
pub(crate) struct Folder {
    sink: Arc<dyn ViewSink>,
    plan: Arc<Plan>,
    revision: Revision,
    /// Where rows are written from several partitions, one batch at a time is folded, so that they need not be folded twice.
    turn: Option<Arc<Mutex<()>>>,
    context: Context,
    decisions: Decisions,
    progress: Progress,
}

impl Folder {
    /// Finds out where the partition stands.
    pub(crate) async fn open(
        sink: Arc<dyn ViewSink>,
        plan: Arc<Plan>,
        revision: Revision,
        partition: Partition,
        turn: Option<Arc<Mutex<()>>>,
    ) -> Result<Self, ApplyError> {
        let state = sink.partition(revision, partition).await?;
        let context = Context {
            policy: ErrorPolicy::default(),
            parked: state.parked,
            parked_events: state.progress.parked,
            skips: state.skips,
        };
        Ok(Self { sink, plan, revision, turn, context, decisions: state.decisions, progress: state.progress })
    }

    /// Where the checkpoint is.
    pub(crate) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What people had decided when this was last made sure of.
    pub(crate) const fn decisions(&self) -> Decisions {
        self.decisions
    }

    /// Looks whether the checkpoint is where this folder left it.
    ///
    /// # Errors
    /// [`ApplyError::Checkpoint`] where it is elsewhere, as for a batch.
    pub(crate) async fn is_where_it_was(&self) -> Result<(), ApplyError> {
        let found = self.sink.partition(self.revision, self.progress.partition).await?.progress.position;
        if found == self.progress.position { Ok(()) } else { Err(ApplyError::Checkpoint { found }) }
    }

    /// Skips these as well: what people decided where a throw-away revision does not know it.
    pub(crate) fn skip(&mut self, skips: HashSet<Uuid>) {
        self.context.skips.extend(skips);
    }

    /// Folds a page that begins after the checkpoint, and moves the checkpoint behind it: in one batch, or in several where the sink would
    /// have smaller ones. Each is what a shorter page would have been.
    ///
    /// After an error the folder no longer knows where the partition stands: open another.
    pub(crate) async fn fold(
        &mut self,
        page: &PartitionPage,
        policy: ErrorPolicy,
    ) -> Result<Applied, ApplyError> {
        let Some(first) = page.events.first() else {
            self.advance(page.reached, None, Folding::default()).await?;
            return Ok(Applied::default());
        };
        if first.position <= self.progress.position {
            return Err(ApplyError::Failed(Error::internal(format!(
                "folding partition {} from position {}: the checkpoint is already at {}",
                first.partition, first.position, self.progress.position
            ))));
        }
        let mut applied = Applied::default();
        let (mut from, mut count) = (0, page.events.len());
        while from < page.events.len() && applied.halted.is_none() {
            let to = page.events.len().min(from + count);
            let reached = if to == page.events.len() { page.reached } else { page.events[to - 1].position };
            match self.fold_some(&page.events[from..to], reached, policy).await? {
                Some(some) => {
                    applied.add(some);
                    from = to;
                }
                None => count = (to - from).div_ceil(2),
            }
        }
        Ok(applied)
    }

    /// Folds the events, of which there are some, up to `reached`, as one batch. `None`: they are too many for one; nothing was changed.
    async fn fold_some(
        &mut self,
        events: &[RecordedEvent],
        reached: Position,
        policy: ErrorPolicy,
    ) -> Result<Option<Applied>, ApplyError> {
        let limit = self.sink.batch_limit();
        let plan = Arc::clone(&self.plan);
        let views = fold::views(&plan, events);
        let mut rows = Rows::new(&plan);
        let steps = fold::prepare(&plan, events, &views, &mut rows);
        if events.len() > 1 && rows.count() > limit.rows {
            return Ok(None);
        }

        let turn = self.turn.clone();
        let _turn = match &turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let load = Load { revision: self.revision, rows: rows.wanted() };
        if !load.rows.is_empty() {
            let loaded = self.sink.load(&load).await?;
            // What rules make of rows is about as large as the rows and what comes in.
            let comes: usize = events.iter().map(|event| event.data.len()).sum();
            let is_there: usize = loaded.iter().flatten().flatten().map(|(state, _)| state.size()).sum();
            if events.len() > 1 && comes.saturating_add(is_there) > limit.bytes {
                return Ok(None);
            }
            rows.fill(&load.rows, loaded);
        }
        self.context.policy = policy;
        let folded = fold::fold(&plan, &steps, &mut rows, &mut self.context);
        let halted_at = folded.halted.as_ref().map(|(index, _)| *index);
        let reached = fold::reached(events, halted_at, reached);
        let last = events[..halted_at.unwrap_or(events.len())].last();
        let work = Folding { rows: rows.into_writes(), parks: folded.parks, skipped: folded.skipped };
        let rows = self.advance(reached, last.map(|event| event.recorded_at), work).await?;
        let halted = folded.halted.map(|(_, failure)| failure);
        Ok(Some(Applied { rows, failures: folded.failures, halted }))
    }

    /// Writes what was folded with the checkpoint's move.
    async fn advance(
        &mut self,
        to: Position,
        recorded_at: Option<jiff::Timestamp>,
        work: Folding,
    ) -> Result<Vec<RowWrite>, ApplyError> {
        let from = self.progress.position;
        if to <= from {
            return Ok(Vec::new());
        }
        let parks = work.parks;
        let batch = Batch {
            advance: Some(Advance {
                partition: self.progress.partition,
                from,
                to,
                recorded_at,
                skipped: work.skipped,
            }),
            rows: work.rows,
            parks,
            ..Batch::new(self.revision, self.decisions)
        };
        let batch = Arc::new(batch);
        let written = self.sink.apply(Arc::clone(&batch)).await?;
        for park in &batch.parks {
            self.context.parked.insert(park.stream_id.clone(), headwater_view::ParkVersion(written.version));
        }
        self.progress.position = to;
        self.progress.recorded_at = recorded_at.or(self.progress.recorded_at);
        self.progress.parked = self.context.parked_events;
        self.progress.skipped += work.skipped;
        self.decisions = written.decisions;
        Ok(Arc::try_unwrap(batch).map_or_else(|shared| shared.rows.clone(), |batch| batch.rows))
    }
}

#[derive(Default)]
struct Folding {
    rows: Vec<RowWrite>,
    parks: Vec<headwater_view::Park>,
    skipped: u64,
}

#[cfg(test)]
mod tests;
