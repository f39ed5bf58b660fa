//! The store: what is known of its revisions, and the port's methods.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use headwater_core::{BackendFault, Error, Partition, Result, StreamId};
use headwater_view::{
    Answer, ApplyError, Batch, BatchLimit, Change, ChangeError, Load, LoadedRow, ParkedStream,
    PartitionState, Progress, Query, QueryError, Revision, Rollout, RolloutVersion, TableSchema, ViewAdmin,
    ViewReader, ViewSink, Written,
};

use crate::call::{Call, Reply};
use crate::keys::Keys;
use crate::link::Link;
use crate::order::orders;
use crate::scripts::Scripts;
use crate::server::Durable;
use crate::{batch, parked, query, rollout};

/// The number of the stored form. A newer one gets another.
const FORMAT: u32 = 1;

/// What a batch should hold: while its script runs, Redis answers nobody else.
const LIMIT: BatchLimit = BatchLimit { rows: 1_000, bytes: 1 << 20 };

/// A [`ViewStore`](headwater_view::ViewStore) under one prefix of a Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisView(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    /// The projection's.
    pub(crate) name: String,
    pub(crate) link: Link,
    /// A connection of its own: a look at leases waits for no batch, and for no disk.
    pub(crate) leases: Link,
    pub(crate) scripts: Scripts,
    pub(crate) keys: Keys,
    /// What was found first under each number stays: a worker that has folded one revision never writes into another.
    revisions: RwLock<HashMap<Revision, Arc<Layout>>>,
}

/// A revision and what it has in Redis.
pub(crate) struct Layout {
    pub(crate) revision: Revision,
    /// Made with the revision: another revision may have its number, where the server was set back to an older state.
    pub(crate) identity: String,
    pub(crate) tables: Vec<Table>,
}

/// A table of a revision.
pub(crate) struct Table {
    pub(crate) schema: TableSchema,
    /// See [`orders`].
    pub(crate) orders: Vec<Vec<usize>>,
}

/// Why there is no such revision.
pub(crate) enum Missing {
    /// It was dropped, or never there.
    Gone(Revision),
    /// There is something in the way.
    Failed(Error),
}

impl From<Error> for Missing {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Missing> for ApplyError {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Gone(revision) => Self::Gone { revision },
            Missing::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<Missing> for Error {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Gone(revision) => Self::not_found(format!("there is no revision {revision}")),
            Missing::Failed(error) => error,
        }
    }
}

impl From<Missing> for QueryError {
    fn from(missing: Missing) -> Self {
        Self::Failed(missing.into())
    }
}

impl Layout {
    pub(crate) fn new(revision: Revision, identity: String, schemas: Vec<TableSchema>) -> Self {
        let tables = schemas.into_iter().map(|schema| Table { orders: orders(&schema), schema }).collect();
        Self { revision, identity, tables }
    }

    /// The beginning of a call about it.
    pub(crate) fn call(&self, keys: &Keys) -> Call {
        Call::default().key(keys.state()).arg(self.revision.to_string()).arg(&self.identity)
    }

    pub(crate) fn table(&self, number: usize) -> Result<&Table> {
        self.tables.get(number).ok_or_else(|| {
            Error::not_found(format!("revision {} has no table number {number}", self.revision))
        })
    }
}

impl RedisView {
    /// Checks what [`open`](Self::open) is to be given, and connects to nothing.
    ///
    /// # Errors
    /// `Invalid` for the field `url` or `keyPrefix`.
    pub fn check(url: &str, prefix: &str) -> Result<()> {
        check_prefix(prefix)?;
        Link::new(url).map(drop)
    }

    /// Opens the read model of the projection `name` under `prefix` in the Redis at `url`, and removes what dropped revisions have left there.
    ///
    /// # Errors
    /// `Invalid` for a URL or a prefix that is none; `FailedPrecondition` for a server that does not do, and for a prefix that holds something else;
    /// `Corrupt` when a newer Headwater wrote there; `Unavailable` when the server cannot be reached.
    pub async fn open(url: &str, prefix: &str, name: &str) -> Result<Self> {
        check_prefix(prefix)?;
        let (link, leases) = (Link::new(url)?, Link::new(url)?);
        let (scripts, keys) = (Scripts::new(), Keys::new(prefix));
        if link.server().await?.durable == Durable::Snapshots {
            tracing::warn!(
                projection = name,
                "{} keeps no append-only file: when it ends, it is set back to its last snapshot. Events are folded again; what people have decided since \
                 (skips, promotions) is forgotten. Set appendonly to yes",
                link.place()
            );
        }
        let inner =
            Inner { name: name.to_owned(), link, leases, scripts, keys, revisions: RwLock::default() };
        inner.claim().await?;
        rollout::collect(&inner).await?;
        Ok(Self(Arc::new(inner)))
    }
}

/// As the resource says it; a brace would end the hash tag early.
pub(crate) fn check_prefix(prefix: &str) -> Result<()> {
    let fits = !prefix.is_empty()
        && prefix.len() <= 63
        && prefix.starts_with(|c: char| c.is_ascii_alphanumeric())
        && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        "keyPrefix",
        format!(
            "{prefix:?} is none; use a letter or digit, then letters, digits, '_', '.' and '-', at most 63 in all"
        ),
    ))
}

impl Inner {
    /// Takes the prefix for the projection, or finds that it has it.
    async fn claim(&self) -> Result<()> {
        let call = Call::default().key(self.keys.state()).arg(&self.name).arg(FORMAT.to_string());
        let mut reply = self.link.write("opening a read model", &self.scripts.open, &call, false).await?;
        let (format, kept) = (reply.maybe_text()?, reply.maybe_text()?);
        let place = format!("prefix \"{}\" in {}", self.keys.prefix(), self.link.place());
        let name = &self.name;
        if format.as_deref() == Some("removing") {
            return Err(Error::failed_precondition(format!(
                "{place}: the read model of projection \"{}\" is being removed, and not all of it is gone; wait, or have what removes it begin again",
                kept.unwrap_or_default()
            )));
        }
        match (format.as_deref().map(str::parse::<u32>), kept) {
            (Some(Ok(FORMAT)), Some(kept)) if kept == *name => {}
            (Some(Ok(FORMAT)), Some(kept)) => {
                return Err(Error::failed_precondition(format!(
                    "{place} holds the read model of projection \"{kept}\", and not of \"{name}\"; nothing was changed: give another prefix, by \
                     sink.redis.keyPrefix, or the old name"
                )));
            }
            (Some(Ok(newer)), Some(_)) => {
                return Err(Error::corrupt(format!(
                    "{place} was written {} (its format is {newer}, this one knows {FORMAT}): use the newer one; nothing was changed",
                    BackendFault::Newer.words()
                )));
            }
            _ => {
                return Err(Error::failed_precondition(format!(
                    "{place} holds something at {} that is not Headwater's; nothing was changed: give projection \"{name}\" another prefix, by \
                     sink.redis.keyPrefix",
                    self.keys.state()
                )));
            }
        }
        Ok(())
    }

    /// See [`ViewAdmin::begin_again`].
    async fn begin_again(&self) -> Result<()> {
        self.claim().await?;
        self.revisions.write().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// What is known of a revision.
    pub(crate) async fn layout(&self, revision: Revision) -> Result<Arc<Layout>, Missing> {
        let known = self.revisions.read().unwrap_or_else(PoisonError::into_inner).get(&revision).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let mut ask = redis::cmd("HMGET");
        ask.arg(self.keys.state()).arg(format!("revision:{revision}")).arg(format!("record:{revision}"));
        let mut reply = self.link.ask("reading a revision", &ask).await?;
        let (Some(identity), Some(record)) = (reply.maybe_text()?, reply.maybe_text()?) else {
            return Err(Missing::Gone(revision));
        };
        let record = rollout::record(revision, &record)?;
        let layout = Arc::new(Layout::new(revision, identity, record.tables));
        let mut known = self.revisions.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(known.entry(revision).or_insert(layout)))
    }

    /// Looks at how a script ended: `ok` and what follows, or another revision than the one that is known.
    pub(crate) fn ended(&self, layout: &Layout, mut reply: Reply) -> Result<(String, Reply), Missing> {
        let end = reply.text()?;
        if end != "revision" {
            return Ok((end, reply));
        }
        if reply.maybe_text()?.is_none() {
            return Err(Missing::Gone(layout.revision));
        }
        // What was folded so far is of the other one: nothing here may be taken for it.
        Err(Missing::Failed(Error::unavailable(format!(
            "{} was emptied or set back to an older state, and revision {} was made anew since: it is begun again with that",
            self.link.place(),
            layout.revision
        ))))
    }
}

impl std::fmt::Debug for RedisView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisView").field("place", &self.0.link.place()).finish_non_exhaustive()
    }
}

#[async_trait]
impl ViewSink for RedisView {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        batch::partition(&self.0, revision, partition).await
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        batch::load(&self.0, load).await
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        batch::apply(&self.0, &batch).await
    }

    fn batch_limit(&self) -> BatchLimit {
        LIMIT
    }
}

#[async_trait]
impl ViewReader for RedisView {
    async fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        query::answer(&self.0, query).await
    }
}

#[async_trait]
impl ViewAdmin for RedisView {
    async fn rollout(&self) -> Result<Rollout> {
        rollout::load(&self.0).await
    }

    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError> {
        rollout::change(&self.0, version, change).await
    }

    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        batch::progress(&self.0, revision).await
    }

    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>> {
        parked::list(&self.0, revision, parked::Which::After(after), limit, events).await
    }

    async fn parked_stream(
        &self,
        revision: Revision,
        stream_id: &StreamId,
        events: usize,
    ) -> Result<Option<ParkedStream>> {
        let mut found = parked::list(&self.0, revision, parked::Which::One(stream_id), 1, events).await?;
        Ok(found.pop())
    }

    async fn begin_again(&self) -> Result<()> {
        self.0.begin_again().await
    }
}
