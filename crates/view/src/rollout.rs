use std::fmt;

use headwater_core::{Error, LogId, PartitionCount, Positions};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::TableSchema;

/// One build of a projection, counted from 1 and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u32);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the changes of a [`Rollout`], so that a decision taken on an old one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RolloutVersion(pub u64);

/// How new an object of a cluster is: one that was created later is newer, and of the same object the one with the greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// When the object was created, in seconds since 1970.
    pub created_at: i64,
    /// `metadata.generation`.
    pub number: i64,
}

/// How new a projection's spec is, as far as it decides what is built: the greater is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecGeneration {
    /// Of the projection.
    pub projection: Generation,
    /// Of the event stream that it follows.
    pub event_stream: Generation,
}

/// The newest spec that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// How new it is.
    pub generation: SpecGeneration,
    /// The digest of what it builds.
    pub digest: String,
}

/// Which revisions there are and what each is for. One row of the store, changed by compare-and-set.
///
/// ```text
///   Create ─▶ candidate ──Promote──▶ active ──(another is promoted)──▶ previous ──Drop──▶ gone
///                │                      ▲                                 │
///                └────────Drop──▶ gone  └────────────Promote──────────────┘
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rollout {
    /// How often it was changed.
    pub version: RolloutVersion,
    /// The log that all revisions are built from, and its partitions; set with the first.
    pub log: Option<(LogId, PartitionCount)>,
    /// Where every revision starts, resolved once, with the first.
    pub start: Positions,
    /// Answers queries.
    pub active: Option<Revision>,
    /// Is being built, to become active.
    pub candidate: Option<Revision>,
    /// Was active before, and is kept up to date so that it can be again.
    pub previous: Option<Previous>,
    /// The spec that decides: a process that has an older one, of another digest, decides nothing. `None`: nobody has said how new theirs is.
    pub declared: Option<Declared>,
    /// The digest that a person rolled back from: not promoted again by itself.
    pub held_digest: Option<String>,
    /// The greatest revision that there ever was.
    pub last_revision: u32,
    /// All that exist, in order; one that is none of the above is to be dropped.
    pub revisions: Vec<RevisionRecord>,
}

impl Rollout {
    /// The record of `revision`.
    pub fn record(&self, revision: Revision) -> Option<&RevisionRecord> {
        self.revisions.iter().find(|record| record.revision == revision)
    }

    /// The record of the active revision.
    pub fn active_record(&self) -> Option<&RevisionRecord> {
        self.active.and_then(|revision| self.record(revision))
    }
}

/// The revision that was active before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// Which.
    pub revision: Revision,
    /// How long it is kept.
    pub until: Timestamp,
}

/// What never changes about a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRecord {
    /// Which.
    pub revision: Revision,
    /// Of the definition that it is built from.
    pub digest: String,
    /// The definition, opaque to the store: enough to go on folding it after a restart.
    pub definition: String,
    /// Its tables.
    pub tables: Vec<TableSchema>,
    /// When it was created, by the store's clock.
    pub created_at: Timestamp,
}

/// A revision to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRevision {
    /// See [`RevisionRecord::digest`].
    pub digest: String,
    /// See [`RevisionRecord::definition`].
    pub definition: String,
    /// See [`RevisionRecord::tables`].
    pub tables: Vec<TableSchema>,
    /// The log that it is built from. Every later revision MUST name the same.
    pub log_id: LogId,
    /// The log's partitions.
    pub partitions: PartitionCount,
    /// Where the first revision starts; ignored for later ones, which start where the first did.
    pub start: Positions,
}

/// A decision about revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates the next revision, with empty tables, as the candidate. There must be no candidate.
    Create(NewRevision),
    /// Makes `revision` the active one, and the one that was active the previous.
    Promote {
        /// The candidate or the previous one.
        revision: Revision,
        /// How long the one that was active is kept.
        keep_until: Timestamp,
        /// The digest that is held from now on: that of the revision that a person rolls back from; `None` releases what was held.
        hold: Option<String>,
    },
    /// Removes `revision` with its tables, checkpoints and parked events. Not the active one.
    Drop {
        /// Which.
        revision: Revision,
    },
    /// Lets the held digest be promoted again.
    ReleaseHold,
    /// Has this spec decide from now on; `None`: whoever says next how new theirs is.
    Declare(Option<Declared>),
}

/// Why a [`Change`] was not made. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// The rollout has changed since: read it again and decide again.
    #[error("the rollout is at version {}, and the decision was taken on another: read it again", found.0)]
    Stale {
        /// The version that it is at.
        found: RolloutVersion,
    },
    /// It cannot be made on this rollout, or the store failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Stale { .. } => {
                Self::Unavailable { message: format!("{error}; repeat the command"), retry_after: None }
            }
            ChangeError::Failed(error) => error,
        }
    }
}

impl Rollout {
    /// What the rollout is after `change`, made at `now`: the one place that knows which changes are legal, for every store.
    /// A store does the work on tables that goes with it in the same transaction.
    ///
    /// # Errors
    /// `FailedPrecondition`, `NotFound` or `Invalid` when the change is not legal.
    pub fn after(&self, change: &Change, now: Timestamp) -> Result<Self, Error> {
        // Stores keep microseconds; what is answered now must equal what is read later.
        let whole =
            |moment: Timestamp| Timestamp::from_microsecond(moment.as_microsecond()).unwrap_or(moment);
        let mut next = self.clone();
        next.version = RolloutVersion(self.version.0 + 1);
        match change {
            Change::Create(new) => next.create(new, whole(now))?,
            Change::Promote { revision, keep_until, hold } => {
                next.promote(*revision, whole(*keep_until), hold.clone())?;
            }
            Change::Drop { revision } => next.remove(*revision)?,
            Change::ReleaseHold => next.held_digest = None,
            Change::Declare(declared) => next.declared.clone_from(declared),
        }
        Ok(next)
    }

    fn create(&mut self, new: &NewRevision, now: Timestamp) -> Result<(), Error> {
        if let Some(candidate) = self.candidate {
            return Err(Error::failed_precondition(format!(
                "creating a revision: revision {candidate} is already being built; promote it or drop it first"
            )));
        }
        match self.log {
            None => {
                self.log = Some((new.log_id, new.partitions));
                self.start = new.start.clone();
            }
            Some((log_id, partitions)) if (log_id, partitions) != (new.log_id, new.partitions) => {
                return Err(Error::failed_precondition(format!(
                    "creating a revision from log {} of {} partitions: the read model here is built from log {log_id} of {} partitions; \
                     point the projection at that log, or give it an empty place for its read model",
                    new.log_id,
                    new.partitions.get(),
                    partitions.get()
                )));
            }
            Some(_) => {}
        }
        for (index, table) in new.tables.iter().enumerate() {
            table.check().map_err(|error| error.within(&format!("tables[{index}]")))?;
            if new.tables[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&table.name)) {
                return Err(Error::invalid(
                    format!("tables[{index}].name"),
                    format!(
                        "\"{}\" is there twice (letter case does not count); give each table a name of its own",
                        table.name
                    ),
                ));
            }
        }
        let revision = Revision(self.last_revision + 1);
        self.last_revision = revision.0;
        self.candidate = Some(revision);
        self.revisions.push(RevisionRecord {
            revision,
            digest: new.digest.clone(),
            definition: new.definition.clone(),
            tables: new.tables.clone(),
            created_at: now,
        });
        Ok(())
    }

    fn promote(
        &mut self,
        revision: Revision,
        keep_until: Timestamp,
        hold: Option<String>,
    ) -> Result<(), Error> {
        let is_previous = self.previous.is_some_and(|previous| previous.revision == revision);
        if self.candidate != Some(revision) && !is_previous {
            return Err(Error::failed_precondition(format!(
                "promoting revision {revision}: it is neither the candidate nor the previous one; see `projections show`"
            )));
        }
        if self.candidate == Some(revision) {
            self.candidate = None;
        }
        self.previous = self.active.map(|active| Previous { revision: active, until: keep_until });
        self.active = Some(revision);
        self.held_digest = hold;
        Ok(())
    }

    fn remove(&mut self, revision: Revision) -> Result<(), Error> {
        if self.active == Some(revision) {
            return Err(Error::failed_precondition(format!(
                "dropping revision {revision}: it answers queries; promote another first"
            )));
        }
        if self.record(revision).is_none() {
            return Err(Error::not_found(format!("dropping revision {revision}: there is no such revision")));
        }
        self.revisions.retain(|record| record.revision != revision);
        if self.candidate == Some(revision) {
            self.candidate = None;
        }
        if self.previous.is_some_and(|previous| previous.revision == revision) {
            self.previous = None;
        }
        Ok(())
    }
}
