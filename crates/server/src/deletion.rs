//! The end of what the programs keep, in place of running them: `--delete-data`.

use headwater_bus::Removal;
use headwater_core::{Error, LogId, PartitionCount, Result};
use headwater_log::LogDescriptor;
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_sql::{Database, KeptSchema, RemoveAs};

use crate::bus::{BusFlag, BusPlace};
use crate::chosen::{choose, stream};
use crate::claim::claim;
use crate::database::DatabaseAddress;
use crate::event_store::{Keep, log_database};
use crate::load::Loaded;
use crate::projection::ViewPlace;
use crate::query_worker::place_of;

/// Whose data are deleted, and where they are.
pub(crate) struct Deletion<'l> {
    /// Which resource. `None`: the only one of its kind.
    pub(crate) name: Option<String>,
    /// Where its data are.
    pub(crate) keep: Keep,
    /// The resource's namespace.
    pub(crate) namespace: String,
    /// The log, or that which the read model is of, where it was said.
    pub(crate) log_id: Option<LogId>,
    /// The manifests.
    pub(crate) loaded: &'l Loaded,
}

impl Deletion<'_> {
    /// Deletes the log of an event stream, and what was made on its bus.
    ///
    /// # Errors
    /// `FailedPrecondition`, and nothing is changed, when the log is another's or in use; else as its database and its bus.
    pub(crate) async fn of_event_stream(self, bus: &BusFlag) -> Result<()> {
        let all = specs(&self.loaded.manifests.event_streams);
        let (name, spec) = choose("EventStream", "stream", all, self.name.clone())?;
        let database = log_database(&self.address(&name, &spec)?, &name, &spec);
        let all = self.loaded.manifests.event_streams.iter().map(|it| &it.metadata);
        let owner = claim("EventStream", all, &name, &self.namespace, None)?.owner;
        let bus = BusPlace::choose(&name, &spec, self.loaded, bus)?;
        let by = RemoveAs::Log { owner, log_id: self.log_id };
        let kept = headwater_sql::may_remove(&database, &by).await?;
        let of = format!("event stream {name}");
        if let (None, Some(log_id)) = (&kept, self.log_id) {
            return Err(Error::not_found(format!(
                "schema {} holds no log {log_id}, which {of} had there; nothing was changed: see whether its Secret leads to another database by now",
                database.schema
            )));
        }
        // While the log is there, it says what on the bus is its own.
        if let (Some(bus), Some(log_id)) = (bus, kept.as_ref().and_then(|kept| kept.log_id)) {
            let log = LogDescriptor { log_id, partitions: PartitionCount::new(spec.partitions)? };
            match bus.remove(&self.namespace, &name, log).await? {
                Removal::Nothing => {}
                Removal::Removed => say(&of, Some(bus.describe())),
                Removal::Left(why) => println!("{of}: {} is left: {why}", bus.describe()),
            }
        }
        let removed = headwater_sql::remove(&database, &by).await?;
        say(&of, removed.as_ref().map(events));
        Ok(())
    }

    /// Deletes the log of a saga.
    ///
    /// # Errors
    /// As [`of_event_stream`](Self::of_event_stream).
    pub(crate) async fn of_saga(self) -> Result<()> {
        let all = specs(&self.loaded.manifests.sagas);
        let (name, spec): (_, SagaSpec) = choose("Saga", "saga", all, self.name.clone())?;
        let stream_name = &spec.stream_ref.name;
        let stream = stream(self.loaded, stream_name, &format!("saga \"{name}\""))?;
        let database = self.address(stream_name, &stream)?.at(|url| Database::of_saga(url, &name));
        let all = self.loaded.manifests.sagas.iter().map(|it| &it.metadata);
        let owner = claim("Saga", all, &name, &self.namespace, None)?.owner;
        let by = RemoveAs::Log { owner, log_id: self.log_id };
        let removed = headwater_sql::remove(&database, &by).await?;
        say(&format!("saga {name}"), removed.as_ref().map(events));
        Ok(())
    }

    /// Deletes the read model of a projection.
    ///
    /// # Errors
    /// As [`of_event_stream`](Self::of_event_stream).
    pub(crate) async fn of_projection(self) -> Result<()> {
        let all = specs(&self.loaded.manifests.projections);
        let (name, spec) = choose("Projection", "projection", all, self.name.clone())?;
        let stream_name = &spec.stream_ref.name;
        let stream = stream(self.loaded, stream_name, &format!("projection \"{name}\""))?;
        let place = place_of(&self.keep, &name, &spec, &stream, self.loaded)?.ok_or_else(in_a_file)?;
        let log_id = match self.log_id {
            Some(log_id) => Some(log_id),
            None => Box::pin(self.log_of(stream_name, &stream)).await?,
        };
        let removed = match &place {
            ViewPlace::File(_) => return Err(in_a_file()),
            ViewPlace::Database(database) => {
                let by = RemoveAs::ReadModel { name: name.clone(), log_id };
                headwater_sql::remove(database, &by).await?.is_some()
            }
            ViewPlace::Redis { url, prefix, .. } => {
                headwater_redis::remove(url, prefix, &name, log_id).await?
            }
        };
        say(&format!("projection {name}"), removed.then(|| "its read model".to_owned()));
        Ok(())
    }

    /// The log of the event stream, by which its read models are told from those of another namespace's: that which is its own in its database.
    async fn log_of(&self, name: &str, spec: &EventStreamSpec) -> Result<Option<LogId>> {
        if !matches!(self.keep, Keep::Manifest) || spec.database.is_none() {
            return Ok(None);
        }
        let database = log_database(&DatabaseAddress::of_stream(name, spec, self.loaded)?, name, spec);
        let all = self.loaded.manifests.event_streams.iter().map(|it| &it.metadata);
        let owner = claim("EventStream", all, name, &self.namespace, None)?.owner;
        let kept = headwater_sql::find(&database).await?;
        Ok(kept
            .filter(|kept| kept.owner.as_ref().is_some_and(|it| it.is(&owner)))
            .and_then(|kept| kept.log_id))
    }

    fn address(&self, name: &str, spec: &EventStreamSpec) -> Result<DatabaseAddress> {
        match &self.keep {
            Keep::Manifest => DatabaseAddress::of_stream(name, spec, self.loaded),
            Keep::Database(url) => Ok(DatabaseAddress::instead_of(spec, url)),
            Keep::Directory(_) => Err(in_a_file()),
        }
    }
}

fn in_a_file() -> Error {
    Error::invalid("delete-data", "what is kept in --data-dir is deleted with that directory: rm -r PATH")
}

fn events(kept: &KeptSchema) -> String {
    let log_id = kept.log_id.map(|id| format!(" {id}")).unwrap_or_default();
    format!("its log{log_id} of {} events", kept.events.unwrap_or_default())
}

fn say(of: &str, deleted: Option<String>) {
    match deleted {
        Some(what) => println!("{of}: {what} is deleted"),
        None => println!("{of}: there is nothing to delete"),
    }
}
