//! One Projection that runs.

use std::path::PathBuf;
use std::sync::Arc;

use headwater_core::{Error, Result};
use headwater_log::LogReader;
use headwater_projection::{Desired, ProjectionService};
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_sql::{Database, PostgresView, SqliteView};
use headwater_view::ViewStore;
use tokio_util::sync::CancellationToken;

/// Where a read model is kept.
#[derive(Debug, Clone)]
pub(crate) enum ViewPlace {
    /// In this file.
    File(PathBuf),
    /// In this schema of a database.
    Database(Database),
}

impl ViewPlace {
    /// In the database of `url`, in the schema that `spec` names for the projection `name`, or the one by its name.
    pub(crate) fn in_database(url: &str, name: &str, spec: &ProjectionSpec) -> Self {
        let mut database = Database::of_projection(url, name);
        if let Some(schema) = spec.sink.sql.as_ref().and_then(|sql| sql.schema.as_ref()) {
            database.schema.clone_from(schema);
        }
        Self::Database(database)
    }
}

/// A projection and what it was made from.
pub(crate) struct RunningProjection {
    pub(crate) spec: ProjectionSpec,
    pub(crate) service: ProjectionService,
}

impl RunningProjection {
    /// Opens the read model and has it follow `reader`.
    ///
    /// # Errors
    /// What the view says; `FailedPrecondition` when it was built from another log; `Invalid` when it cannot be compiled.
    pub(crate) async fn start(
        name: &str,
        spec: ProjectionSpec,
        stream: &EventStreamSpec,
        reader: Arc<dyn LogReader>,
        place: ViewPlace,
    ) -> Result<Self> {
        let view: Arc<dyn ViewStore> = match place {
            ViewPlace::File(path) => {
                let view = tokio::task::spawn_blocking(move || SqliteView::open(path)).await.map_err(
                    |error| Error::internal(format!("opening the read model of \"{name}\": {error}")),
                )??;
                Arc::new(view)
            }
            ViewPlace::Database(database) => Arc::new(Box::pin(PostgresView::open(&database, name)).await?),
        };
        let service = ProjectionService::start(name, reader, view, CancellationToken::new()).await?;
        if let Err(error) = service.reconcile(Desired::new(&spec, stream)).await {
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
