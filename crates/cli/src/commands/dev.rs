use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use headwater_runtime::{shutdown, telemetry};
use headwater_server::{Dev, Listen, LoadError, Loaded, Notice, Options, Ready};
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::console::Console;
use crate::dev::{Demo, Screen};
use crate::failure::Failure;
use crate::play::is_name;
use crate::procfile::{self, Program, Running, Said};

/// Data of a manifest directory, unless --data-dir says otherwise.
const DATA_DIR: &str = ".headwater";

/// Notices and lines that may wait to be printed.
const UNPRINTED: usize = 1_000;

/// Runs every resource found in DIR in one process, with SQLite and an in-process bus.
///
/// Reads DIR/*.yaml, DIR/dev.yaml, DIR/Procfile and, with --demo, DIR/demo.http. Changed manifests take effect when they are
/// saved. Ctrl-C ends it; the data stays in --data-dir.
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
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "warn", hide_env_values = true)]
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
    telemetry::init(&telemetry::Telemetry { format, filter: arguments.log.clone() })
        .map_err(|error| Failure::invalid(error.to_string()))?;
    // Few threads: each has its stack and its arena, and a laptop has other work to do.
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(dev(&arguments, begun, console))
}

async fn dev(arguments: &Arguments, begun: Instant, console: &Console) -> Result<()> {
    let shutdown = shutdown::on_signals().context("listen to signals")?;
    let Plan { loaded, programs, demo } = plan(arguments, console)?;
    let screen = Screen::new(console, programs.iter().map(|(_, program)| program.name.as_str()));
    let (sender, notices) = mpsc::channel(UNPRINTED);
    let options = Options {
        directories: arguments.directories.clone(),
        data_dir: arguments.data_dir.clone().unwrap_or_else(|| arguments.directories[0].join(DATA_DIR)),
        listen: Listen { address: arguments.listen, flag: "--listen" },
        query_listen: Listen { address: arguments.query_listen, flag: "--query-listen" },
        watch: !arguments.no_watch,
        tell_changes: arguments.demo,
        begun,
    };
    let dev = Dev::start(options, loaded, sender).await?;
    let ready = dev.ready();
    let (said_sender, said) = mpsc::channel(UNPRINTED);
    let stop = CancellationToken::new();
    let server = tokio::spawn(dev.run(stop.clone()));
    let running = start(&programs, &ready, &said_sender).await;
    drop(said_sender);
    let mut session = Session {
        screen: &screen,
        notices,
        said,
        shutdown,
        failed_programs: Vec::new(),
        exit: arguments.exit,
    };
    let outcome = match running {
        Ok(running) => session.run(demo.as_ref(), &ready, running, &stop, server).await,
        Err(error) => {
            stop.cancel();
            server.await.context("the server panicked")??;
            Err(error)
        }
    };
    outcome?;
    Ok(screen.stopped()?)
}

/// What there is to run, and nothing is wrong with it.
struct Plan {
    loaded: Loaded,
    /// Each with the folder that it runs in.
    programs: Vec<(PathBuf, Program)>,
    demo: Option<Demo>,
}

/// Reads everything before anything is started, and shows all faults at once.
fn plan(arguments: &Arguments, console: &Console) -> Result<Plan> {
    let mut faults = Vec::new();
    let loaded = match headwater_server::load(&arguments.directories) {
        Ok(loaded) => Some(loaded),
        Err(LoadError::Faults(found)) => {
            faults.extend(found.iter().map(Notice::from));
            None
        }
        Err(error) => return Err(Failure::invalid(error.to_string()).into()),
    };
    let mut programs = Vec::new();
    if !arguments.no_procfile {
        for directory in &arguments.directories {
            let path = directory.join("Procfile");
            if !path.exists() {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?;
            match procfile::parse(&text) {
                Ok(found) => programs.extend(found.into_iter().map(|program| (directory.clone(), program))),
                Err(found) => faults.extend(found.into_iter().map(|fault| notice(&path, fault))),
            }
        }
    }
    let demo = match arguments.demo {
        true => Some(Demo::find(&arguments.directories, arguments.variables.clone())?),
        false => None,
    };
    if let (Some(demo), Some(loaded)) = (&demo, &loaded) {
        let names =
            loaded.manifests.event_streams.iter().filter_map(|stream| stream.metadata.name.as_deref());
        if let Err(found) = demo.check(names) {
            faults.extend(found.into_iter().map(|(path, fault)| notice(&path, fault)));
        }
    }
    match loaded {
        Some(loaded) if faults.is_empty() => {
            if loaded.manifests.event_streams.is_empty() {
                let directories = crate::dev::list(&arguments.directories);
                return Err(Failure::invalid(format!("there is no EventStream in {directories}"))
                    .hint("docs/dev.md says what dev reads; examples/ has some")
                    .into());
            }
            Ok(Plan { loaded, programs, demo })
        }
        _ => {
            let screen = Screen::new(console, []);
            faults.iter().try_for_each(|fault| screen.notice(fault))?;
            let faults = crate::console::count(faults.len() as u64, "fault");
            Err(Failure::invalid(format!("{faults}; nothing was started, nothing was changed")).into())
        }
    }
}

fn notice(path: &std::path::Path, fault: crate::play::Fault) -> Notice {
    Notice::Fault { file: path.display().to_string(), line: Some(fault.line), message: fault.message }
}

/// Starts the programs of the Procfiles, in their folders.
async fn start(
    programs: &[(PathBuf, Program)],
    ready: &Ready,
    said: &mpsc::Sender<Said>,
) -> Result<Vec<Running>> {
    let environment = environment(ready)?;
    let mut running = Vec::new();
    for (folder, program) in programs {
        match Running::start(std::slice::from_ref(program), folder, &environment, said).await {
            Ok(started) => running.push(started),
            Err(error) => {
                stop_all(running).await;
                return Err(error);
            }
        }
    }
    Ok(running)
}

async fn stop_all(running: Vec<Running>) {
    futures_util::future::join_all(running.into_iter().map(Running::stop)).await;
}

/// What programs need to know to find us.
fn environment(ready: &Ready) -> Result<BTreeMap<String, OsString>> {
    let mut environment = BTreeMap::from([("HEADWATER_QUERY_SERVER".to_owned(), ready.query.clone().into())]);
    if let Some(stream) = ready.streams.first() {
        environment.insert("HEADWATER_SERVER".to_owned(), stream.url.clone().into());
    }
    for stream in &ready.streams {
        let name = stream.name.to_uppercase().replace('-', "_");
        environment.insert(format!("HEADWATER_SERVER_{name}"), stream.url.clone().into());
    }
    let own = std::env::current_exe().context("the path of this program")?;
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&inherited));
    environment.insert("PATH".to_owned(), std::env::join_paths(folders).context("the PATH of programs")?);
    Ok(environment)
}

/// Everything that goes on once it is ready.
struct Session<'a> {
    screen: &'a Screen<'a>,
    notices: mpsc::Receiver<Notice>,
    said: mpsc::Receiver<Said>,
    shutdown: CancellationToken,
    failed_programs: Vec<String>,
    exit: bool,
}

impl Session<'_> {
    async fn run(
        &mut self,
        demo: Option<&Demo>,
        ready: &Ready,
        running: Vec<Running>,
        stop: &CancellationToken,
        mut server: tokio::task::JoinHandle<headwater_core::Result<()>>,
    ) -> Result<()> {
        let shutdown = self.shutdown.clone();
        let screen = self.screen;
        let playing = async {
            match demo {
                Some(demo) => demo.play(ready, screen).await.map(Some),
                None => std::future::pending().await,
            }
        };
        let mut playing = std::pin::pin!(playing);
        let mut played = None;
        let mut server_ended = None;
        let mut outcome = Ok(());
        while played.is_none() || !self.exit {
            tokio::select! {
                () = shutdown.cancelled() => break,
                ended = &mut server => {
                    server_ended = Some(ended);
                    break;
                }
                shown = self.show_next() => {
                    outcome = shown;
                    // Without a program that the demo needs it can only wait for its time limits.
                    if outcome.is_err() || (self.exit && !self.failed_programs.is_empty()) {
                        break;
                    }
                }
                score = &mut playing, if played.is_none() => match score {
                    Ok(score) => played = Some(score),
                    Err(error) if self.exit => {
                        outcome = Err(error);
                        break;
                    }
                    Err(error) => {
                        played = Some(None);
                        eprintln!("error: {error:#}");
                    }
                },
            }
        }
        let mut stopping = std::pin::pin!(stop_all(running));
        loop {
            tokio::select! {
                () = &mut stopping => break,
                // A reader that has gone away must not keep the programs from ending.
                shown = self.show_next() => if let Err(error) = shown { outcome = outcome.and(Err(error)) },
            }
        }
        stop.cancel();
        let ended = match server_ended {
            Some(ended) => ended,
            None => loop {
                tokio::select! {
                    ended = &mut server => break ended,
                    shown = self.show_next() => if let Err(error) = shown { outcome = outcome.and(Err(error)) },
                }
            },
        };
        ended.context("the server panicked")??;
        outcome?;
        self.judge(played.flatten())
    }

    /// Whether a demo that was to end has ended well.
    fn judge(&self, score: Option<crate::play::Score>) -> Result<()> {
        if !self.exit {
            return Ok(());
        }
        match score {
            Some(score) if score.failed > 0 => {
                let failed = crate::console::count(u64::from(score.failed), "expectation");
                Err(Failure::failed(format!("the demo failed: {failed} did not hold")).into())
            }
            Some(_) if self.failed_programs.is_empty() => Ok(()),
            Some(_) => {
                Err(Failure::failed(format!("the demo failed: {}", self.failed_programs.join(", "))).into())
            }
            None => Err(Failure::failed("the demo was interrupted").into()),
        }
    }

    /// Prints what comes next; pends for ever when nothing can come any more.
    async fn show_next(&mut self) -> Result<()> {
        tokio::select! {
            Some(notice) = self.notices.recv() => Ok(self.screen.notice(&notice)?),
            Some(said) = self.said.recv() => {
                if let Said::Ended { name, code, .. } = &said && *code != Some(0) {
                    self.failed_programs.push(format!("{name} ended with {}", said.fate()));
                }
                Ok(self.screen.said(&said)?)
            }
            else => std::future::pending().await,
        }
    }
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
