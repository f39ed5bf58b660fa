//! `headwater-query-worker`: one projection, over an event store elsewhere.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::AdminArguments;
use crate::configuration::configure;
use crate::deletion::Deletion;
use crate::event_store::Keep;
use crate::listen::Listen;
use crate::process::ProcessArguments;
use crate::query_worker::{QueryWorker, QueryWorkerOptions};

/// What it is called.
const NAME: &str = "headwater-query-worker";

/// Fold one Projection over an event store elsewhere, and answer queries.
///
/// Reads the Projection, its EventStream and Secrets in DIR. The read model is in the database or the Redis that the manifests name, or that
/// --database does: several of these processes may have it, share its partitions out among them, and each event takes effect once. With
/// --data-dir it is in a file, which only one process may have. The query API, /healthz, /readyz and /metrics are served on --listen. What people
/// decide is said on --admin-listen, which only the machine itself reaches.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    after_help = "\
Examples:
  headwater-query-worker examples/banku --event-store http://127.0.0.1:50051 --data-dir /var/lib/headwater
  headwater-query-worker examples/banku --event-store http://127.0.0.1:50051 --database postgres://me@127.0.0.1/banku
  headwater-query-worker examples/banku --event-store http://127.0.0.1:50051 --database redis://127.0.0.1:6379
  headwater query accounts/accounts --query-server 127.0.0.1:8082"
)]
struct Arguments {
    /// Which Projection [default: the only one in DIR].
    #[arg(long, value_name = "NAME", env = "HEADWATER_PROJECTION")]
    projection: Option<String>,

    /// Where the event store of its EventStream is.
    #[arg(long, value_name = "URL", env = "HEADWATER_EVENT_STORE")]
    event_store: String,

    /// Keep the read model in this database, postgres://… or redis://…, whatever the manifests say.
    #[arg(
        long,
        value_name = "URL",
        env = "HEADWATER_DATABASE",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    database: Option<String>,

    /// Keep the read model in a file here.
    #[arg(long, value_name = "PATH", env = "HEADWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Where it answers queries. Port 0: a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8082", env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// What `headwater projections show` calls this process, among those that fold the projection [default: where it answers].
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new(), env = "HEADWATER_WORKER")]
    worker: Option<String>,

    #[command(flatten)]
    admin: AdminArguments,

    #[command(flatten)]
    process: ProcessArguments,
}

/// The program, called with `words`, its name the first of them.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn query_worker(words: Vec<OsString>) -> ExitCode {
    let arguments: Arguments = configure(words);
    let (bus, namespace) = (arguments.process.bus(), arguments.process.namespace());
    let (security, client) = (arguments.process.security(), arguments.process.client());
    let deletes_data = arguments.process.deletes_data();
    let run = arguments.process.run(NAME, async |loaded, shutdown| {
        if let Some(log_id) = deletes_data {
            let keep = Keep::of(arguments.database, arguments.data_dir);
            let deletion = Deletion { name: arguments.projection, keep, namespace, log_id, loaded };
            return Ok(Box::pin(deletion.of_projection()).await?);
        }
        let options = QueryWorkerOptions {
            projection: arguments.projection,
            event_store: arguments.event_store,
            keep: Keep::of(arguments.database, arguments.data_dir),
            bus,
            namespace,
            listen: Listen { address: arguments.listen, flag: "--listen" },
            admin: arguments.admin,
            security,
            client,
            worker: arguments.worker,
        };
        let worker = QueryWorker::start(options, loaded).await?;
        println!("projection {}: listening on {}", worker.name(), worker.url());
        println!("administered at {}", worker.admin_url());
        Ok(Box::pin(worker.run(shutdown)).await?)
    });
    run.await
}
