//! The program `headwater-operator`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use headwater_runtime::{Metrics, Readiness, health, shutdown, telemetry};
use kube::Client;

use crate::ask::Workers;
use crate::controller;
use crate::leader::Candidate;
use crate::metrics::OperatorMetrics;
use crate::proof::{Proof, Tokens};
use crate::reconcile::Context;
use crate::settings::{ServiceAccount, Settings};
use crate::tell::Teller;
use crate::watched::{Scope, Watches};

/// Keep EventStreams, Projections and Sagas: make the Deployments that run them, and say how they stand.
///
/// Finds the cluster by the service account of its pod, or by KUBECONFIG. Of several, one works at a time; another takes over within seconds
/// when it ends, and within twenty when it is killed.
#[derive(Debug, Parser)]
#[command(
    name = "headwater-operator",
    version,
    after_help = "\
Examples:
  headwater-operator --image headwater:0.1.0
  headwater-operator --image headwater:0.1.0 --watch-namespace shop --kubeconfig ~/.kube/config"
)]
struct Arguments {
    /// The image of the workers, which has all programs.
    #[arg(long, value_name = "IMAGE", env = "HEADWATER_IMAGE")]
    image: String,

    /// When nodes pull it.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent", env = "HEADWATER_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,

    /// Secrets with which nodes pull it, of the namespace of each resource; where it is not there, it is passed over.
    #[arg(
        long = "image-pull-secret",
        value_name = "NAME",
        value_delimiter = ',',
        env = "HEADWATER_IMAGE_PULL_SECRETS"
    )]
    image_pull_secrets: Vec<String>,

    /// Keep the resources of this namespace alone [default: of all].
    #[arg(long, value_name = "NAME", env = "HEADWATER_WATCH_NAMESPACE")]
    watch_namespace: Option<String>,

    /// Its own namespace, where the lease is.
    #[arg(long, value_name = "NAME", default_value = "headwater", env = "POD_NAMESPACE")]
    namespace: String,

    /// The lease by which one of several works at a time: operators of other resources have another.
    #[arg(long, value_name = "NAME", default_value = "headwater-operator", env = "HEADWATER_LEASE")]
    lease: String,

    /// What it is called among the operators: its pod's name.
    #[arg(long, value_name = "NAME", default_value = "headwater-operator", env = "POD_NAME")]
    identity: String,

    /// Its service account, which workers let ask how they are, by tokens that the API server gives it for each namespace.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "headwater-operator",
        env = "HEADWATER_SERVICE_ACCOUNT"
    )]
    service_account: String,

    /// Ask workers by the token in this file instead.
    #[arg(long, value_name = "FILE", env = "HEADWATER_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// Log one JSON object a line.
    #[arg(long, env = "HEADWATER_LOG_JSON")]
    log_json: bool,

    /// What to log.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
}

/// The program, called with `words`, its name the first of them.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn program(words: Vec<OsString>) -> ExitCode {
    match run(Arguments::parse_from(words)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::last_words(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let format = if arguments.log_json { telemetry::Format::Json } else { telemetry::Format::Text };
    let telemetry = telemetry::init(&telemetry::Telemetry { format, filter: arguments.log, traces: None })?;
    let stop = shutdown::on_signals(|| {}).context("listen to signals")?;
    let client =
        Client::try_default().await.context("find the cluster: by a service account, or KUBECONFIG")?;
    let readiness = Readiness::default();
    let listener = tokio::net::TcpListener::bind(arguments.listen).await.context("serve --listen")?;
    let metrics = Metrics::default();
    telemetry::register_metrics(&metrics);
    let router = health::router(readiness.clone(), metrics.clone());
    let stopped = stop.clone();
    let served = tokio::spawn(async move {
        axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await }).await
    });

    let account = ServiceAccount { namespace: arguments.namespace.clone(), name: arguments.service_account };
    let proof = match arguments.token_file {
        Some(path) => Proof::File(path),
        None => Proof::Account(Box::new(Tokens::of(client.clone(), &account))),
    };
    let settings = Settings {
        image: arguments.image,
        image_pull_policy: arguments.image_pull_policy,
        image_pull_secrets: arguments.image_pull_secrets,
        operator: account,
    };
    let teller = Teller::new(client.clone(), &arguments.identity);
    let scope = arguments.watch_namespace.map_or(Scope::All, Scope::Namespace);
    let watches = Watches::new(&client, &scope);
    let context = Context::new(
        client.clone(),
        watches.watched(),
        settings,
        Workers::new(proof),
        teller,
        OperatorMetrics::new(&metrics),
    );
    let mut candidate = Candidate::new(client, &arguments.namespace, &arguments.lease, &arguments.identity);
    if candidate.lead(&stop).await {
        tracing::info!(identity = %arguments.identity, "leading");
        let ended = stop.child_token();
        tokio::join!(
            async {
                candidate.renew(&stop).await;
                ended.cancel();
            },
            controller::run(context, watches, &readiness, &ended),
        );
        candidate.give_back().await;
    }
    let lost = !stop.is_cancelled();
    stop.cancel();
    served.await.context("serve")??;
    telemetry.stop().await;
    // Started again, it asks for the lease anew.
    anyhow::ensure!(!lost, "the lease was lost");
    Ok(())
}
