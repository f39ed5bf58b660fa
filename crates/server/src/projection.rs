//! One Projection that runs.

use std::sync::Arc;

use headwater_core::{Error, Result};
use headwater_log::LogReader;
use headwater_projection::{Desired, ProjectionService};
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_sql::SqliteView;
use tokio_util::sync::CancellationToken;

use crate::data_dir::DataDir;

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
        data: &DataDir,
    ) -> Result<Self> {
        let path = data.projection(name);
        let view = tokio::task::spawn_blocking(move || SqliteView::open(path))
            .await
            .map_err(|error| Error::internal(format!("opening the read model of \"{name}\": {error}")))??;
        let service =
            ProjectionService::start(name, reader, Arc::new(view), CancellationToken::new()).await?;
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
