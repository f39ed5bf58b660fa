//! A batch that is sent before it is known what became of the one before it.
//!
//! ```text
//! first    head 7 ──▶ 7 + 32 ────────────▶ committed ──▶ answered
//! behind               head 39 ──▶ 39 + 32 ──────────────────────▶ committed ──▶ answered
//! ```
//!
//! It hides the way to a database and back. The second is predicated on the head that the first leaves, and on versions as the first leaves them:
//! without the first, it is refused, whenever it arrives. Only requests that write go ahead: whatever is refused, or a repeat, or needs
//! a look at the store, rests on what is certain, and waits for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use headwater_core::{StreamId, Version};
use uuid::Uuid;

use super::commit::Commit;
use super::lane::{Begun, Lane};
use super::plan::{Facts, Plan, Request, plan};
use super::stats::add;
use crate::{Batch, CommitError};

/// A batch on its way, behind another.
pub(super) struct Sent {
    pub(super) requests: Vec<Request>,
    /// What it was planned by: so once the one before it is there.
    pub(super) facts: Facts,
    pub(super) begun: Begun,
}

impl Lane {
    /// Sends the first of those waiting behind `first`, as many as write by what is known, and says how many: perhaps none.
    pub(super) fn send_ahead(&mut self, first: &Batch) -> usize {
        let mut facts = Facts::default();
        let mut count = self.foresee(first, &mut facts);
        let head = first.head.plus(first.events.len() as u64);
        let Plan { verdicts, events, .. } = loop {
            let planned = plan(&self.waiting[..count], self.partition, head, &facts);
            let write =
                planned.verdicts.iter().take_while(|verdict| verdict.answer.is_ok() && !verdict.repeat);
            match write.count() {
                0 => return 0,
                all if all == count => break planned,
                fewer => count = fewer,
            }
        };
        let batch = Arc::new(Batch { partition: self.partition, epoch: first.epoch, head, events });
        let commit = Commit::begin(&self.store, &batch);
        let requests = self.waiting.drain(..count).collect();
        self.ahead = Some(Sent { requests, facts, begun: Begun { verdicts, batch, commit } });
        add(&self.counters.ahead, 1);
        count
    }

    /// The versions that the first of those waiting find when `first` is there; and of how many nothing else needs to be known.
    fn foresee(&mut self, first: &Batch, facts: &mut Facts) -> usize {
        // Of a stream id's events, the last one's version stays.
        let left: HashMap<&StreamId, Version> =
            first.events.iter().map(|event| (&event.stream_id, event.version)).collect();
        let taken: HashSet<Uuid> = first.events.iter().map(|event| event.event.id).collect();
        let fit = self.fit();
        let foreseen = self.waiting[..fit].iter().take_while(|request| {
            let stream_id = &request.append.stream_id;
            let Some(version) = left.get(stream_id).copied().or_else(|| self.versions.get(stream_id)) else {
                return false;
            };
            facts.versions.insert(stream_id.clone(), version);
            !request.unsettled && request.ids().all(|id| !taken.contains(&id) && self.ids.get(&id).is_none())
        });
        foreseen.count()
    }

    /// Learns what became of the batch that was sent behind one that is not there as planned, before anything is planned anew: it could still
    /// come to fit. Its requests wait again, unless they are there.
    pub(super) async fn take_back(&mut self, facts: &mut Facts) {
        let Some(Sent { mut requests, begun: Begun { verdicts, batch, commit }, .. }) = self.ahead.take()
        else {
            return;
        };
        match commit.answer.await {
            // It is there, and with it the one before it, of which that was not known.
            Ok(_) => {
                self.forget(facts);
                self.remember(&batch);
                let answers = self.answers(verdicts, None);
                return self.send(requests, answers);
            }
            Err(CommitError::Unknown(_)) => {
                add(&self.counters.unknown, 1);
                self.forget(facts);
                for request in &mut requests {
                    request.unsettled = true;
                }
            }
            Err(CommitError::Fenced | CommitError::Duplicate | CommitError::Failed(_)) => {}
        }
        self.waiting.splice(..0, requests);
    }
}
