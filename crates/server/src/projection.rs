//! One Projection that runs.

use std::path::PathBuf;
use std::sync::Arc;

use crate::database::DatabaseAddress;
use headwater_core::{Error, Result};
use headwater_log::LogReader;
use headwater_projection::{Desired, ProjectionService};
use headwater_redis::RedisView;
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_sql::{Database, PostgresView, SqliteView};
use headwater_view::{SpecGeneration, ViewStore};
use tokio_util::sync::CancellationToken;

/// Where a read model is kept.
#[derive(Debug, Clone)]
pub(crate) enum ViewPlace {
    /// In this file.
    File(PathBuf),
    /// In this schema of a database.
    Database(Database),
    /// Under a prefix of a Redis.
    Redis {
        /// Where it is.
        url: String,
        /// What every key begins with.
        prefix: String,
        /// The member of the manifest or the flag that gave the URL.
        said_at: &'static str,
    },
}

impl ViewPlace {
    /// In the database `at`, in the schema that `spec` names for the projection `name`, or the one by its name.
    pub(crate) fn in_database(at: &DatabaseAddress, name: &str, spec: &ProjectionSpec) -> Self {
        let mut database = at.at(|url| Database::of_projection(url, name));
        if let Some(schema) = spec.sink.sql.as_ref().and_then(|sql| sql.schema.as_ref()) {
            database.schema.clone_from(schema);
        }
        Self::Database(database)
    }

    /// In the Redis of `url`, which stands at `said_at`, under the prefix that `spec` names for the projection `name`, or its name.
    ///
    /// # Errors
    /// `Invalid` for what is no URL of Redis.
    pub(crate) fn in_redis(
        url: &str,
        said_at: &'static str,
        name: &str,
        spec: &ProjectionSpec,
    ) -> Result<Self> {
        let declared = spec.sink.redis.as_ref().and_then(|redis| redis.key_prefix.as_deref());
        let prefix = declared.unwrap_or(name).to_owned();
        RedisView::check(url, &prefix).map_err(|error| at(said_at, error))?;
        Ok(Self::Redis { url: url.to_owned(), prefix, said_at })
    }
}

/// The same error about the place where a person has said it.
fn at(said_at: &str, error: Error) -> Error {
    match error {
        Error::Invalid { field, message } if field == "url" => Error::invalid(said_at, message),
        other => other,
    }
}

/// A projection and what it was made from.
pub(crate) struct RunningProjection {
    pub(crate) spec: ProjectionSpec,
    pub(crate) service: ProjectionService,
}

impl RunningProjection {
    /// Opens the read model and has it follow `reader`, beside other processes or not: `worker` is what people call this one, and `generation`
    /// says which of their specs is the newest.
    ///
    /// # Errors
    /// What the view says; `FailedPrecondition` when it was built from another log; `Invalid` when it cannot be compiled.
    pub(crate) async fn start(
        name: &str,
        spec: ProjectionSpec,
        stream: &EventStreamSpec,
        generation: Option<SpecGeneration>,
        reader: Arc<dyn LogReader>,
        place: ViewPlace,
        worker: &str,
    ) -> Result<Self> {
        let view: Arc<dyn ViewStore> = match place {
            ViewPlace::File(path) => {
                let view = tokio::task::spawn_blocking(move || SqliteView::open(path)).await.map_err(
                    |error| Error::internal(format!("opening the read model of \"{name}\": {error}")),
                )??;
                Arc::new(view)
            }
            ViewPlace::Database(database) => Arc::new(Box::pin(PostgresView::open(&database, name)).await?),
            ViewPlace::Redis { url, prefix, said_at } => {
                Arc::new(RedisView::open(&url, &prefix, name).await.map_err(|error| at(said_at, error))?)
            }
        };
        let service = ProjectionService::start(name, worker, reader, view, CancellationToken::new()).await?;
        if let Err(error) = service.reconcile(Desired::new(&spec, stream).of(generation)).await {
            service.stop().await;
            return Err(error);
        }
        Ok(Self { spec, service })
    }

    /// Waits until a revision answers queries.
    pub(crate) async fn first_build(&self) {
        let mut status = self.service.watch();
        // An error means that the service has ended, and nothing will come.
        let _ = status.wait_for(|status| status.active.is_some()).await;
    }

    /// Rolls `spec` out, over events as `stream` declares them.
    ///
    /// # Errors
    /// `Invalid` when it cannot be compiled: what runs goes on.
    pub(crate) async fn update(&mut self, spec: ProjectionSpec, stream: &EventStreamSpec) -> Result<()> {
        self.service.reconcile(Desired::new(&spec, stream)).await?;
        self.spec = spec;
        Ok(())
    }
}
