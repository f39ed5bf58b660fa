//! `headwater-saga`: one saga, over an event store elsewhere.

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
use crate::saga_worker::{SagaWorker, SagaWorkerOptions};

/// What it is called.
const NAME: &str = "headwater-saga";

/// Coordinate the instances of one Saga, over event stores elsewhere.
///
/// Reads the Saga, its EventStream, Secrets, ConfigMaps and dev.toml in DIR. Its own log is in the database of the event stream that the
/// manifests name, or that --database does: several of these processes may have it; one coordinates, and the others answer what is asked and
/// stand by. With --data-dir it is in a file, which only one process may have. The API of sagas, /healthz, /readyz and /metrics are served on --listen. What people decide is
/// said on --admin-listen, which only the machine itself reaches.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    after_help = "\
Examples:
  headwater-saga examples/orders --event-store orders=http://127.0.0.1:50051 --data-dir /var/lib/headwater
  headwater-saga examples/orders --event-store orders=http://127.0.0.1:50051 --database postgres://me@127.0.0.1/orders
  headwater sagas list --query-server 127.0.0.1:8081"
)]
struct Arguments {
    /// Which Saga [default: the only one in DIR].
    #[arg(long, value_name = "NAME", env = "HEADWATER_SAGA")]
    saga: Option<String>,

    /// Where the event store of an EventStream is; once for each that the Saga follows or appends to.
    #[arg(long = "event-store", value_name = "STREAM=URL", value_parser = address, value_delimiter = ',', env = "HEADWATER_EVENT_STORES")]
    event_stores: Vec<(String, String)>,

    /// Keep its log in this database, postgres://…, whatever the manifests say.
    #[arg(
        long,
        value_name = "URL",
        env = "HEADWATER_DATABASE",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    database: Option<String>,

    /// Keep its log in a file here.
    #[arg(long, value_name = "PATH", env = "HEADWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Where its API listens. Port 0: a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// What the others call this process, among those that have the saga's log [default: where its API listens].
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new(), env = "HEADWATER_WORKER")]
    worker: Option<String>,

    #[command(flatten)]
    admin: AdminArguments,

    #[command(flatten)]
    process: ProcessArguments,
}

fn address(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((stream, url)) if !stream.is_empty() && !url.is_empty() => {
            Ok((stream.to_owned(), url.to_owned()))
        }
        _ => Err("give STREAM=URL, for example orders=http://127.0.0.1:50051".to_owned()),
    }
}

/// The program, called with `words`, its name the first of them.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn saga(words: Vec<OsString>) -> ExitCode {
    let arguments: Arguments = configure(words);
    let (bus, namespace) = (arguments.process.bus(), arguments.process.namespace());
    let (security, client) = (arguments.process.security(), arguments.process.client());
    let deletes_data = arguments.process.deletes_data();
    let run = arguments.process.run(NAME, async |loaded, shutdown| {
        if let Some(log_id) = deletes_data {
            let keep = Keep::of(arguments.database, arguments.data_dir);
            let deletion = Deletion { name: arguments.saga, keep, namespace, log_id, loaded };
            return Ok(Box::pin(deletion.of_saga()).await?);
        }
        let options = SagaWorkerOptions {
            saga: arguments.saga,
            namespace,
            bus,
            event_stores: arguments.event_stores,
            keep: Keep::of(arguments.database, arguments.data_dir),
            worker: arguments.worker,
            listen: Listen { address: arguments.listen, flag: "--listen" },
            admin: arguments.admin,
            security,
            client,
        };
        let worker = SagaWorker::start(options, loaded).await?;
        println!("saga {}: listening on {}", worker.name(), worker.url());
        println!("administered at {}", worker.admin_url());
        Ok(worker.run(shutdown).await?)
    });
    run.await
}
