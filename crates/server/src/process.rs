//! What the programs that run one resource have in common: logs, signals, manifests, and an exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use headwater_core::LogId;
use headwater_runtime::{shutdown, telemetry};
use tokio_util::sync::CancellationToken;

use crate::arguments::{ClientArguments, SecurityArguments};
use crate::bus::BusFlag;
use crate::configuration::ConfigurationArguments;
use crate::load::{LoadError, Loaded, load_with_secrets};

/// What every one of them is told.
#[derive(Debug, Args)]
pub struct ProcessArguments {
    /// Where the manifests are.
    #[arg(required = true, value_name = "DIR", env = "HEADWATER_MANIFESTS")]
    manifests: Vec<PathBuf>,

    /// Secrets beside those in DIR: a folder with a folder for each, by its name, with a file for each key, as a cluster mounts them.
    #[arg(long, value_name = "PATH", env = "HEADWATER_SECRETS")]
    secrets: Option<PathBuf>,

    /// Where the event stream's bus is, whatever the manifest says; or "none", to do without [default: as the manifest says].
    #[arg(long, value_name = "URL", env = "HEADWATER_BUS", hide_env_values = true)]
    bus: Option<BusFlag>,

    /// The namespace of the resource.
    #[arg(long, value_name = "NAME", value_parser = namespace, default_value = "default", env = "HEADWATER_NAMESPACE")]
    namespace: String,

    /// Delete what it keeps, and end: the log or the read model that is its own, when no process uses it, and what it has made on the bus.
    ///
    /// With LOG_ID, only if it is that log, or a read model of it.
    #[arg(long, value_name = "LOG_ID", num_args = 0..=1, require_equals = true, conflicts_with = "data_dir")]
    #[allow(clippy::option_option, reason = "told, and told of which log")]
    delete_data: Option<Option<LogId>>,

    /// Log one JSON object a line.
    #[arg(long, env = "HEADWATER_LOG_JSON")]
    log_json: bool,

    /// What to log.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,

    #[command(flatten)]
    _configuration: ConfigurationArguments,

    #[command(flatten)]
    security: SecurityArguments,

    #[command(flatten)]
    client: ClientArguments,
}

/// A name as Kubernetes gives them to namespaces: it stands in events and in keys.
fn namespace(text: &str) -> std::result::Result<String, String> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty()
        || text.len() > 63
        || !text.chars().all(is_inner)
        || text.starts_with('-')
        || text.ends_with('-')
    {
        return Err(
            "a namespace has 1 to 63 small letters, digits and '-', and neither begins nor ends with '-'"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

impl ProcessArguments {
    /// What it is told about the bus.
    pub fn bus(&self) -> BusFlag {
        self.bus.clone().unwrap_or_default()
    }

    /// Whether it is to delete what it keeps, and do nothing else; and of which log, where that was said.
    #[allow(clippy::option_option, reason = "told, and told of which log")]
    pub const fn deletes_data(&self) -> Option<Option<LogId>> {
        self.delete_data
    }

    /// How what it serves is protected.
    pub fn security(&self) -> SecurityArguments {
        self.security.clone()
    }

    /// What it proves to be to those whom it calls.
    pub fn client(&self) -> ClientArguments {
        self.client.clone()
    }

    /// The namespace of the resource that it runs.
    pub fn namespace(&self) -> String {
        self.namespace.clone()
    }

    /// Does `work` of the program `service` with the manifests until it ends, which it does soon after the token is cancelled; says on standard error why it failed.
    pub async fn run(
        self,
        service: &'static str,
        work: impl AsyncFnOnce(&Loaded, CancellationToken) -> Result<()>,
    ) -> ExitCode {
        match Box::pin(self.try_run(service, work)).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                telemetry::last_words(&format!("error: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }

    async fn try_run(
        self,
        service: &'static str,
        work: impl AsyncFnOnce(&Loaded, CancellationToken) -> Result<()>,
    ) -> Result<()> {
        let format = if self.log_json { telemetry::Format::Json } else { telemetry::Format::Text };
        let traces = telemetry::Traces::from_environment(service, |name| std::env::var(name).ok())?;
        let telemetry = telemetry::init(&telemetry::Telemetry { format, filter: self.log, traces })?;
        let shutdown = shutdown::on_signals(|| {}).context("listen to signals")?;
        let loaded = load_with_secrets(&self.manifests, self.secrets.as_deref());
        let done = match loaded.inspect_err(LoadError::print) {
            Ok(loaded) => work(&loaded, shutdown).await,
            Err(error) => Err(error.into()),
        };
        telemetry.stop().await;
        done
    }
}
