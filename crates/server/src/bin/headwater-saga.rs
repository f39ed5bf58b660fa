//! `headwater-saga`: one saga, over an event store elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headwater_server::{Listen, ProcessArguments, SagaWorker, SagaWorkerOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Coordinate the instances of one Saga, over event stores elsewhere.
///
/// Reads the Saga, its EventStream, Secrets, ConfigMaps and dev.yaml in DIR. Its own log stays in --data-dir: only one process may
/// have it. The API of sagas, /healthz, /readyz and /metrics are served on --listen.
#[derive(Debug, Parser)]
#[command(
    name = "headwater-saga",
    version,
    after_help = "\
Examples:
  headwater-saga examples/orders --event-store orders=http://127.0.0.1:50051 --data-dir /var/lib/headwater
  headwater sagas list --query-server 127.0.0.1:8081"
)]
struct Arguments {
    /// Which Saga [default: the only one in DIR].
    #[arg(long, value_name = "NAME", env = "HEADWATER_SAGA")]
    saga: Option<String>,

    /// Where the event store of an EventStream is; once for each that the Saga follows or appends to.
    #[arg(long = "event-store", value_name = "STREAM=URL", value_parser = address, value_delimiter = ',', env = "HEADWATER_EVENT_STORES")]
    event_stores: Vec<(String, String)>,

    /// Where its log is kept.
    #[arg(long, value_name = "PATH", env = "HEADWATER_DATA_DIR")]
    data_dir: PathBuf,

    /// Where its API listens. Port 0: a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081", env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (bus, namespace) = (arguments.process.bus(), arguments.process.namespace());
    let run = arguments.process.run(async |loaded, shutdown| {
        let options = SagaWorkerOptions {
            saga: arguments.saga,
            namespace,
            bus,
            event_stores: arguments.event_stores.into_iter().collect(),
            data_dir: arguments.data_dir,
            listen: Listen { address: arguments.listen, flag: "--listen" },
        };
        let worker = SagaWorker::start(options, loaded).await?;
        println!("saga {}: listening on {}", worker.name(), worker.url());
        Ok(worker.run(shutdown).await?)
    });
    run.await
}
