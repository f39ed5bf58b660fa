use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use headwater_core::{Error, Partition, Positions, Result, StreamId};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Answer, ApplyError, Batch, Change, ChangeError, Decisions, Holdings, Key, Load, LoadedRow, LocalLeases,
    Look, Park, ParkChange, ParkVersion, ParkedEvent, ParkedStream, PartitionState, Progress, Query,
    QueryError, Revision, Rollout, RolloutVersion, RowState, RowVersion, SinkLeases, ViewAdmin, ViewReader,
    ViewSink, Written,
};

/// A store that forgets: for tests, and for folding into a throw-away revision.
#[derive(Debug, Default)]
pub struct MemoryView {
    state: Mutex<State>,
    leases: LocalLeases,
}

#[derive(Debug, Default)]
struct State {
    rollout: Rollout,
    revisions: HashMap<Revision, Tables>,
    skips: HashSet<Uuid>,
    decisions: u64,
    writes: u64,
}

#[derive(Debug, Default)]
struct Tables {
    rows: Vec<HashMap<Key, (RowState, RowVersion)>>,
    checkpoints: BTreeMap<Partition, Progress>,
    parked: BTreeMap<StreamId, Entry>,
}

#[derive(Debug)]
struct Entry {
    partition: Partition,
    version: ParkVersion,
    reason: String,
    since: Timestamp,
    events: Vec<ParkedEvent>,
}

impl Entry {
    fn show(&self, stream_id: &StreamId, events: usize) -> ParkedStream {
        ParkedStream {
            stream_id: stream_id.clone(),
            partition: self.partition,
            version: self.version,
            reason: self.reason.clone(),
            since: self.since,
            count: self.events.len() as u64,
            events: self.events.iter().take(events).cloned().collect(),
        }
    }
}

impl MemoryView {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is checked before it is begun, so a panic elsewhere leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tables(&self, revision: Revision) -> Result<&Tables> {
        self.revisions
            .get(&revision)
            .ok_or_else(|| Error::not_found(format!("there is no revision {revision}")))
    }

    fn progress_of(&self, tables: &Tables, partition: Partition) -> Progress {
        tables.checkpoints.get(&partition).copied().unwrap_or(Progress {
            partition,
            position: self.rollout.start.get(partition),
            recorded_at: None,
            parked: 0,
            skipped: 0,
        })
    }

    fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        let tables = self.tables(revision)?;
        let partitions = self.rollout.log.map(|(_, partitions)| partitions);
        Ok(partitions
            .into_iter()
            .flat_map(headwater_core::PartitionCount::partitions)
            .map(|p| self.progress_of(tables, p))
            .collect())
    }

    /// Whether the batch may be applied.
    fn check(&self, batch: &Batch) -> Result<(), ApplyError> {
        let tables =
            self.revisions.get(&batch.revision).ok_or(ApplyError::Gone { revision: batch.revision })?;
        if let Some(advance) = &batch.advance {
            let found = self.progress_of(tables, advance.partition).position;
            if found != advance.from {
                return Err(ApplyError::Checkpoint { found });
            }
        }
        let conflict = |what: String| Err(ApplyError::Conflict { what });
        if batch.decisions.0 != self.decisions {
            return conflict("the list of skipped events".to_owned());
        }
        for write in &batch.rows {
            let found = tables.rows[write.table].get(&write.key).map(|(_, version)| *version);
            if found != write.expected {
                return conflict(format!("row {}", write.key));
            }
        }
        for park in &batch.parks {
            let found = tables.parked.get(&park.stream_id).map(|entry| entry.version);
            if found != park.expected {
                return conflict(format!("the list of parked events of stream \"{}\"", park.stream_id));
            }
        }
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) -> Result<Written, ApplyError> {
        self.check(batch)?;
        self.writes += 1;
        let version = self.writes;
        let mut progress: HashMap<Partition, Progress> = HashMap::new();
        {
            let tables = &self.revisions[&batch.revision];
            for partition in batch
                .advance
                .iter()
                .map(|advance| advance.partition)
                .chain(batch.parks.iter().map(|park| park.partition))
            {
                progress.entry(partition).or_insert_with(|| self.progress_of(tables, partition));
            }
        }
        if let Some(moved) =
            batch.advance.as_ref().and_then(|advance| Some((progress.get_mut(&advance.partition)?, advance)))
        {
            let (progress, advance) = moved;
            progress.position = advance.to;
            progress.recorded_at = advance.recorded_at.or(progress.recorded_at);
            progress.skipped += advance.skipped;
        }
        for skip in &batch.skips {
            if self.skips.insert(skip.id) {
                self.decisions += 1;
            }
        }
        let Some(tables) = self.revisions.get_mut(&batch.revision) else {
            return Err(ApplyError::Gone { revision: batch.revision });
        };
        for write in &batch.rows {
            let rows = &mut tables.rows[write.table];
            match &write.state {
                Some(state) => {
                    rows.insert(write.key.clone(), (state.clone(), RowVersion(version)));
                }
                None => {
                    rows.remove(&write.key);
                }
            }
        }
        for park in &batch.parks {
            let change = tables.park(park, ParkVersion(version));
            if let Some(progress) = progress.get_mut(&park.partition) {
                progress.parked = progress.parked.saturating_add_signed(change);
                if let ParkChange::Release { skipped, .. } = park.change {
                    progress.skipped += skipped;
                }
            }
        }
        tables.checkpoints.extend(progress);
        Ok(Written { version, decisions: Decisions(self.decisions) })
    }
}

impl Tables {
    /// Makes a change of parked events and answers by how many their number changed.
    fn park(&mut self, park: &Park, version: ParkVersion) -> i64 {
        match &park.change {
            ParkChange::Append { events, reason } => {
                let entry = self.parked.entry(park.stream_id.clone()).or_insert_with(|| Entry {
                    partition: park.partition,
                    version,
                    reason: reason.clone(),
                    since: Timestamp::now(),
                    events: Vec::new(),
                });
                entry.version = version;
                entry.events.extend(events.iter().cloned());
                events.len() as i64
            }
            ParkChange::Release { through, reason, .. } => {
                let Some(entry) = self.parked.get_mut(&park.stream_id) else { return 0 };
                let before = entry.events.len() as i64;
                entry.events.retain(|event| event.position > *through);
                entry.version = version;
                entry.reason.clone_from(reason);
                let after = entry.events.len() as i64;
                if after == 0 {
                    self.parked.remove(&park.stream_id);
                }
                after - before
            }
        }
    }
}

#[async_trait]
impl ViewSink for MemoryView {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        let state = self.lock();
        let tables = state.revisions.get(&revision).ok_or(ApplyError::Gone { revision })?;
        let progress = state.progress_of(tables, partition);
        Ok(PartitionState {
            progress,
            parked: tables
                .parked
                .iter()
                .filter(|(_, entry)| entry.partition == partition)
                .map(|(stream_id, entry)| (stream_id.clone(), entry.version))
                .collect(),
            skips: state.skips.clone(),
            decisions: Decisions(state.decisions),
        })
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        let state = self.lock();
        let tables =
            state.revisions.get(&load.revision).ok_or(ApplyError::Gone { revision: load.revision })?;
        Ok(load
            .rows
            .iter()
            .map(|(table, keys)| keys.iter().map(|key| tables.rows[*table].get(key).cloned()).collect())
            .collect())
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        self.lock().apply(&batch)
    }
}

#[async_trait]
impl ViewReader for MemoryView {
    async fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        let state = self.lock();
        if query.active && state.rollout.active != Some(query.revision) {
            return Err(QueryError::NotActive { active: state.rollout.active });
        }
        let tables = state.tables(query.revision)?;
        let schema = state
            .rollout
            .record(query.revision)
            .and_then(|record| record.tables.get(query.table))
            .ok_or_else(|| {
            Error::not_found(format!("revision {} has no table number {}", query.revision, query.table))
        })?;
        query.check(schema)?;
        let mut rows: Vec<&Vec<crate::Cell>> = tables.rows[query.table]
            .values()
            .filter_map(|(state, _)| match state {
                RowState::Live(row) => Some(&row.cells),
                RowState::Deleted { .. } => None,
            })
            .filter(|cells| query.filter.iter().all(|(column, wanted)| cells[*column] == *wanted))
            .filter(|cells| query.after.as_ref().is_none_or(|after| query.compare(cells, after).is_gt()))
            .collect();
        rows.sort_by(|a, b| query.compare(a, &query.cursor(b)));
        let more = rows.len() > query.limit;
        rows.truncate(query.limit);
        let progress = state.progress(query.revision)?;
        Ok(Answer {
            positions: progress
                .iter()
                .map(|progress| (progress.partition, progress.position))
                .collect::<Positions>(),
            parked: progress.iter().map(|progress| progress.parked).sum(),
            rows: rows.into_iter().cloned().collect(),
            more,
        })
    }
}

#[async_trait]
impl ViewAdmin for MemoryView {
    async fn rollout(&self) -> Result<Rollout> {
        Ok(self.lock().rollout.clone())
    }

    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError> {
        let mut state = self.lock();
        if state.rollout.version != version {
            return Err(ChangeError::Stale { found: state.rollout.version });
        }
        let next = state.rollout.after(change, Timestamp::now())?;
        if let (Change::Create(new), Some(candidate)) = (change, next.candidate) {
            let rows = new.tables.iter().map(|_| HashMap::new()).collect();
            state.revisions.insert(candidate, Tables { rows, ..Tables::default() });
        }
        state.revisions.retain(|revision, _| next.record(*revision).is_some());
        state.rollout = next.clone();
        Ok(next)
    }

    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        self.lock().progress(revision)
    }

    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>> {
        let state = self.lock();
        let parked = &state.tables(revision)?.parked;
        Ok(parked
            .iter()
            .filter(|(stream_id, _)| after.is_none_or(|after| *stream_id > after))
            .take(limit)
            .map(|(stream_id, entry)| entry.show(stream_id, events))
            .collect())
    }

    async fn parked_stream(
        &self,
        revision: Revision,
        stream_id: &StreamId,
        events: usize,
    ) -> Result<Option<ParkedStream>> {
        let state = self.lock();
        Ok(state.tables(revision)?.parked.get(stream_id).map(|entry| entry.show(stream_id, events)))
    }
}

#[async_trait]
impl SinkLeases for MemoryView {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        self.leases.look(look).await
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        self.leases.leave(member).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ViewStore;
    use crate::conformance::Place;

    struct Memory(Arc<MemoryView>);

    #[async_trait]
    impl Place for Memory {
        async fn open(&self) -> Arc<dyn ViewStore> {
            self.0.clone()
        }
    }

    crate::view_conformance!(Memory(Arc::new(MemoryView::new())));
}
