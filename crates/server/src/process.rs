//! What the programs that run one resource have in common: logs, signals, manifests, and an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use headwater_runtime::{shutdown, telemetry};
use tokio_util::sync::CancellationToken;

use crate::bus::BusFlag;
use crate::load::{LoadError, Loaded, load};

/// What every one of them is told.
#[derive(Debug, Args)]
pub struct ProcessArguments {
    /// Where the manifests are.
    #[arg(required = true, value_name = "DIR", env = "HEADWATER_MANIFESTS")]
    directories: Vec<PathBuf>,

    /// Where the event stream's bus is, whatever the manifest says; or "none", to do without [default: as the manifest says].
    #[arg(long, value_name = "URL", env = "HEADWATER_BUS", hide_env_values = true)]
    bus: Option<BusFlag>,

    /// The namespace of the resource.
    #[arg(long, value_name = "NAME", default_value = "default", env = "HEADWATER_NAMESPACE")]
    namespace: String,

    /// Log one JSON object a line.
    #[arg(long, env = "HEADWATER_LOG_JSON")]
    log_json: bool,

    /// What to log.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

impl ProcessArguments {
    /// What it is told about the bus.
    pub fn bus(&self) -> BusFlag {
        self.bus.clone().unwrap_or_default()
    }

    /// The namespace of the resource that it runs.
    pub fn namespace(&self) -> String {
        self.namespace.clone()
    }

    /// Does `work` with the manifests until it ends, which it does soon after the token is cancelled; says on standard error why it failed.
    pub async fn run(self, work: impl AsyncFnOnce(&Loaded, CancellationToken) -> Result<()>) -> ExitCode {
        match Box::pin(self.try_run(work)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    async fn try_run(self, work: impl AsyncFnOnce(&Loaded, CancellationToken) -> Result<()>) -> Result<()> {
        let format = if self.log_json { telemetry::Format::Json } else { telemetry::Format::Text };
        telemetry::init(&telemetry::Telemetry { format, filter: self.log })?;
        let shutdown = shutdown::on_signals(|| {}).context("listen to signals")?;
        let loaded = load(&self.directories).inspect_err(LoadError::print)?;
        work(&loaded, shutdown).await
    }
}
