use std::sync::atomic::{AtomicU64, Ordering};

/// What a sequencer has done since it started, for metrics. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequencerStats {
    /// Requests that were answered, whatever the answer.
    pub requests: u64,
    /// Requests answered with the result of an earlier one.
    pub repeated: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Batches that were committed. `events / batches` is the mean batch size.
    pub batches: u64,
    /// Events that were committed.
    pub events: u64,
    /// Bytes of data and metadata that were committed.
    pub bytes: u64,
    /// Events of the largest batch.
    pub largest_batch: u64,
    /// Batches that met another writer.
    pub fenced: u64,
    /// Batches that met an id or version that was taken.
    pub duplicates: u64,
    /// Commits whose fate was unknown at first.
    pub unknown: u64,
    /// Batches that were sent while the one before them was under way.
    pub ahead: u64,
    /// Of these, those that came to the store before it, and are there since they were sent again.
    pub overtook: u64,
    /// Microseconds spent in commits; one that is sent behind another counts from when it was sent.
    pub commit_micros: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) largest_batch: AtomicU64,
    pub(super) fenced: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) ahead: AtomicU64,
    pub(super) overtook: AtomicU64,
    pub(super) commit_micros: AtomicU64,
}

/// Counters are statistics: no other memory depends on their order.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    pub(super) fn read(&self) -> SequencerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SequencerStats {
            requests: get(&self.requests),
            repeated: get(&self.repeated),
            refused: get(&self.refused),
            batches: get(&self.batches),
            events: get(&self.events),
            bytes: get(&self.bytes),
            largest_batch: get(&self.largest_batch),
            fenced: get(&self.fenced),
            duplicates: get(&self.duplicates),
            unknown: get(&self.unknown),
            ahead: get(&self.ahead),
            overtook: get(&self.overtook),
            commit_micros: get(&self.commit_micros),
        }
    }
}
