//! `headwater-eventstore`: the event store of one event stream.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use headwater_core::LogId;

use crate::configuration::configure;
use crate::deletion::Deletion;
use crate::event_store::{EventStoreOptions, EventStoreProcess, Keep};
use crate::listen::Listen;
use crate::process::ProcessArguments;

/// What it is called.
const NAME: &str = "headwater-eventstore";

/// Serve one EventStream over gRPC and HTTP.
///
/// Reads the EventStream and Secrets in DIR. The events are in the database that the manifest names, or that --database does: any number
/// of these processes share it, each writes a part of the partitions, and a client may talk to any. With --data-dir they are in a file,
/// and only one process may have it. What is stored is relayed to the bus that the manifest names, or that --bus does. /healthz, /readyz
/// and /metrics are served on the same port. Who may call is what spec.access says; other machines are served only when callers can prove
/// who they are.
#[derive(Debug, Parser)]
#[command(
    name = NAME,
    version,
    after_help = "\
Examples:
  headwater-eventstore examples/banku --database postgres://me@127.0.0.1/banku --listen 127.0.0.1:50051
  headwater-eventstore examples/banku --database postgres://me@127.0.0.1/banku --listen 127.0.0.1:50052
  headwater-eventstore examples/banku --data-dir /var/lib/headwater --bus none
  headwater-eventstore examples/orders --data-dir /var/lib/headwater --bus nats://127.0.0.1:4222
  headwater-eventstore examples/banku --data-dir /var/lib/headwater --bus none --listen 0.0.0.0:50051 \\
    --tls-cert tls.crt --tls-key tls.key --bearer-tokens tokens.txt"
)]
struct Arguments {
    /// Which EventStream [default: the only one in DIR].
    #[arg(long, value_name = "NAME", env = "HEADWATER_STREAM")]
    stream: Option<String>,

    /// Keep the events in this database, whatever the manifest says.
    #[arg(
        long,
        value_name = "URL",
        env = "HEADWATER_DATABASE",
        hide_env_values = true,
        conflicts_with = "data_dir"
    )]
    database: Option<String>,

    /// Keep the events in a file here.
    #[arg(long, value_name = "PATH", env = "HEADWATER_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Where it listens. Port 0: a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051", env = "HEADWATER_LISTEN")]
    listen: SocketAddr,

    /// Where the other event stores of the stream reach this one [default: where it listens].
    #[arg(long, value_name = "URL", env = "HEADWATER_ADVERTISE")]
    advertise: Option<String>,

    /// The host name that the certificates of the other event stores have [default: that of the address where each is reached].
    #[arg(long, value_name = "HOST", env = "HEADWATER_PEER_NAME")]
    peer_name: Option<String>,

    /// Take over this log, which the schema holds, from the resource whose it is: an EventStream of another namespace, or one that was there
    /// before. The annotation headwater.dev/adopt does the same.
    #[arg(long, value_name = "LOG_ID", env = "HEADWATER_ADOPT", conflicts_with = "data_dir")]
    adopt: Option<LogId>,

    #[command(flatten)]
    process: ProcessArguments,
}

/// The program, called with `words`, its name the first of them.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub async fn event_store(words: Vec<OsString>) -> ExitCode {
    let arguments: Arguments = configure(words);
    let (bus, namespace) = (arguments.process.bus(), arguments.process.namespace());
    let (security, client) = (arguments.process.security(), arguments.process.client());
    let deletes_data = arguments.process.deletes_data();
    let run = arguments.process.run(NAME, async |loaded, shutdown| {
        if let Some(log_id) = deletes_data {
            let keep = Keep::of(arguments.database, arguments.data_dir);
            let deletion = Deletion { name: arguments.stream, keep, namespace, log_id, loaded };
            return Ok(Box::pin(deletion.of_event_stream(&bus)).await?);
        }
        let options = EventStoreOptions {
            stream: arguments.stream,
            keep: Keep::of(arguments.database, arguments.data_dir),
            listen: Listen { address: arguments.listen, flag: "--listen" },
            advertise: arguments.advertise,
            bus,
            namespace,
            security,
            client,
            peer_name: arguments.peer_name,
            adopt: arguments.adopt,
        };
        let store = EventStoreProcess::start(options, loaded).await?;
        println!("event stream {}: listening on {}", store.name(), store.url());
        Ok(store.run(shutdown).await?)
    });
    run.await
}
