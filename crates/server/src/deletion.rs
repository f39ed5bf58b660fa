//! The end of what the programs keep, in place of running them: `--delete-data`.

use headwater_core::{Error, LogId, PartitionCount, Result};
use headwater_log::LogDescriptor;
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_sql::{Database, KeptSchema, Owner, RemoveAs};

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
        let removed = remove_log(&database, owner).await?;
        let of = format!("event stream {name}");
        say(&of, removed.as_ref().map(events));
        if let Some(bus) = bus {
            let log_id = removed.and_then(|kept| kept.log_id).unwrap_or_else(LogId::generate);
            let log = LogDescriptor { log_id, partitions: PartitionCount::new(spec.partitions)? };
            if bus.remove(&self.namespace, &name, log).await? {
                say(&of, Some(bus.describe()));
            }
        }
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
        let removed = remove_log(&database, owner).await?;
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
        // A read model of that name may be another namespace's, of another log.
        let log_id = match self.keep {
            Keep::Manifest if stream.database.is_some() => {
                let address = DatabaseAddress::of_stream(stream_name, &stream, self.loaded)?;
                let log = headwater_sql::find(&log_database(&address, stream_name, &stream)).await?;
                log.and_then(|kept| kept.log_id)
            }
            _ => None,
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

async fn remove_log(database: &Database, owner: Owner) -> Result<Option<KeptSchema>> {
    headwater_sql::remove(database, &RemoveAs::Log(owner)).await
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
