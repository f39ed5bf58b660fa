use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use headwater_runtime::{shutdown, telemetry};
use headwater_server::{BusFlag, Dev, Listen, Options};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::dev::{Plan, Screen, Session, environment};
use crate::failure::Failure;
use crate::play::is_name;
use crate::procfile::{Groups, Running};

/// Data of a manifest directory, unless --data-dir says otherwise.
const DATA_DIR: &str = ".headwater";

/// Notices and lines that may wait to be printed.
const UNPRINTED: usize = 1_000;

/// Run every resource found in DIR in one process, with SQLite and no broker.
///
/// Reads DIR/*.yaml, DIR/dev.toml, DIR/Procfile and, with --demo, DIR/demo.http. Changed manifests take effect when they are
/// saved. Ctrl-C ends it; the data stays in --data-dir.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater dev examples/orders
  headwater dev examples/orders --demo
  headwater dev . --demo --exit --data-dir \"$(mktemp -d)\"    # a test of what DIR declares
  headwater --output json dev . --listen 127.0.0.1:0 --query-listen 127.0.0.1:0")]
pub(crate) struct Arguments {
    /// Where the manifests are.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,

    /// Where the data is kept [default: .headwater in the first DIR].
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,

    /// Keep everything in this PostgreSQL instead of SQLite: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    #[arg(long, value_name = "URL", env = "HEADWATER_DATABASE_URL", hide_env_values = true)]
    database: Option<String>,

    /// Relay the event streams whose manifests declare a bus of this kind to this one: nats://HOST:PORT.
    #[arg(long, value_name = "URL", env = "HEADWATER_BUS_URL", hide_env_values = true)]
    bus: Option<BusFlag>,

    /// Where the first event store listens; the others on the ports after it, in order of name. Port 0: free ones.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,

    /// Where the query API listens. Port 0: a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    query_listen: SocketAddr,

    /// Play DIR/demo.http, and show events and rows as they come and the read models at the end.
    #[arg(long)]
    demo: bool,

    /// End when the demo is over; fail if something that it expects did not hold.
    #[arg(long, requires = "demo")]
    exit: bool,

    /// Set a variable of demo.http; may be repeated.
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = variable, requires = "demo")]
    variables: Vec<(String, String)>,

    /// Do not look for changed manifests.
    #[arg(long)]
    no_watch: bool,

    /// Do not run the programs of DIR/Procfile.
    #[arg(long)]
    no_procfile: bool,

    /// The form of log lines, on standard error.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    /// What to log.
    #[arg(
        long,
        env = "RUST_LOG",
        value_name = "FILTER",
        default_value = "warn,headwater_runtime::shutdown=info",
        hide_env_values = true
    )]
    log: String,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give NAME=VALUE; a name has letters, digits, - and _".to_owned()),
    }
}

pub(crate) fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let begun = Instant::now();
    let format = match arguments.log_format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    let invalid = |error: telemetry::Error| Failure::invalid(error.to_string());
    let traces = telemetry::Traces::from_environment("headwater-dev", |name| std::env::var(name).ok())
        .map_err(invalid)?;
    let telemetry = telemetry::Telemetry { format, filter: arguments.log.clone(), traces };
    let console = if arguments.exit { &console.to_the_end() } else { console };
    // Few threads: each has its stack and its arena, and a laptop has other work to do.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let telemetry = telemetry::init(&telemetry).map_err(invalid)?;
        let done = dev(&arguments, begun, console).await;
        telemetry.stop().await;
        done
    })
}

async fn dev(arguments: &Arguments, begun: Instant, console: &Console) -> Result<()> {
    let groups = Groups::default();
    let shutdown = shutdown::on_signals({
        let groups = groups.clone();
        move || groups.kill()
    })
    .context("listen to signals")?;
    let Plan { loaded, programs, demo } = Plan::read(
        &arguments.directories,
        !arguments.no_procfile,
        arguments.demo.then_some(arguments.variables.as_slice()),
        console,
    )?;
    let options = Options {
        directories: arguments.directories.clone(),
        data_dir: arguments.data_dir.clone().unwrap_or_else(|| arguments.directories[0].join(DATA_DIR)),
        database: arguments.database.clone(),
        bus: arguments.bus.clone(),
        listen: Listen { address: arguments.listen, flag: "--listen" },
        query_listen: Listen { address: arguments.query_listen, flag: "--query-listen" },
        watch: !arguments.no_watch,
        tell_changes: arguments.demo,
        begun,
    };
    let screen = Screen::new(console, programs.iter().map(|program| program.name.as_str()));
    let (notices_sender, notices) = mpsc::channel(UNPRINTED);
    let (said_sender, said) = mpsc::channel(UNPRINTED);
    let mut session = Session::new(&screen, notices, said);

    let dev = session.showing(Box::pin(Dev::start(options, loaded, notices_sender))).await?;
    let ready = dev.ready();
    let (stop, server_ended) = (CancellationToken::new(), CancellationToken::new());
    let server = tokio::spawn({
        let (stop, server_ended) = (stop.clone(), server_ended.clone().drop_guard());
        async move {
            let _server_ended = server_ended;
            dev.run(stop).await
        }
    });
    let own = std::env::current_exe().context("the path of this program")?;
    let environment = environment(&ready, &own, &std::env::var_os("PATH").unwrap_or_default())?;
    match session.showing(Running::start(&programs, &environment, &groups, &said_sender)).await {
        Ok(running) => {
            session.run(demo.as_ref(), &ready, &server_ended, &shutdown, arguments.exit).await;
            // Programs first, while what they speak to still answers.
            session.showing(running.stop()).await;
        }
        Err(error) => session.fail(error),
    }
    stop.cancel();
    session.showing(server).await.context("the server panicked")??;
    session.end(arguments.exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_a_value() {
        assert_eq!(variable("a-1=b=c"), Ok(("a-1".to_owned(), "b=c".to_owned())));
        assert!(variable("a b=c").is_err());
        assert!(variable("a").is_err());
    }
}
