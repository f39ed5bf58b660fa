//! `cargo xtask up`: an example on real servers, each part a process of its own, from the same manifests as on a laptop.
//!
//! ```text
//! DIR/*.yaml ─▶ which databases and brokers ─▶ PostgreSQL · Redis · NATS · Kafka, in folders of their own
//!            ─▶ Secrets with where they are  ─▶ event stores, query workers, sagas, and a program that uses them
//! ```
//!
//! Each is a process group of its own: what a terminal sends reaches `up` alone, which ends them in order, those first that use the others. They
//! die with it, however it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use headwater_resources::event_stream::BusType;
use headwater_resources::manifest::{Manifests, read_directories, specs};
use headwater_resources::projection::SinkType;
use headwater_resources::shared::SecretKeyRef;
use headwater_testkit::kafka::Kafka;
use headwater_testkit::nats::Nats;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{dies_with_us, program};
use headwater_testkit::redis::Redis;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How long a part may take until it is ready.
const PATIENCE: Duration = Duration::from_mins(1);

/// Run what DIR declares on real servers, each part in a process of its own.
///
/// Starts the databases and brokers that the manifests name, two event stores for each EventStream, a query worker for each Projection and
/// a worker for each Saga, and says where everything listens. Ctrl-C ends all of it, and nothing is kept.
#[derive(Parser)]
#[command(name = "up")]
struct Arguments {
    /// Where the manifests are.
    directory: PathBuf,
    /// Take free ports instead of the usual ones.
    #[arg(long)]
    free_ports: bool,
    /// A program to run beside it, and its arguments: {event-store} and {query-server} are where the first of these listens, {data} is a folder
    /// that goes when it ends.
    #[arg(last = true)]
    with: Vec<String>,
}

/// Servers that run for as long as this lives.
#[derive(Default)]
struct Servers {
    postgres: Option<Arc<Postgres>>,
    redis: Option<Arc<Redis>>,
    nats: Option<Arc<Nats>>,
    kafka: Option<Arc<Kafka>>,
}

impl Servers {
    /// Starts what the manifests name.
    fn start(manifests: &Manifests) -> Result<Self> {
        let streams = specs(&manifests.event_streams);
        let projections = specs(&manifests.projections);
        let has_bus = |kind| streams.values().any(|spec| spec.bus.r#type == kind);
        let mut servers = Self::default();
        say("starting", "PostgreSQL");
        servers.postgres = Some(Postgres::shared()?);
        if projections.values().any(|spec| spec.sink.r#type == SinkType::Redis) {
            say("starting", "Redis");
            servers.redis = Some(Redis::shared()?);
        }
        if has_bus(BusType::Nats) {
            say("starting", "NATS");
            servers.nats = Some(Nats::shared()?);
        }
        if has_bus(BusType::Kafka) {
            say("starting", "Kafka, which takes some ten seconds");
            servers.kafka = Some(Kafka::shared()?);
        }
        Ok(servers)
    }

    fn postgres_url(&self) -> Result<String> {
        Ok(self.postgres.as_ref().context("PostgreSQL")?.url())
    }

    /// Where the bus of this kind is, as `--bus` takes it.
    fn bus(&self, kind: BusType) -> Result<String> {
        Ok(match kind {
            BusType::None => "none".to_owned(),
            BusType::Nats => self.nats.as_ref().context("NATS")?.url(),
            BusType::Kafka => format!("kafka://{}", self.kafka.as_ref().context("Kafka")?.address()),
        })
    }

    /// The Secrets that the manifests name, with where these servers are.
    fn secrets(&self, manifests: &Manifests) -> Result<String> {
        let mut values: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut add = |key: &SecretKeyRef, value: String| {
            values.entry(key.name.clone()).or_default().insert(key.key.clone(), value);
        };
        for spec in specs(&manifests.event_streams).values() {
            if let Some(database) = &spec.database {
                add(&database.url_secret_ref, self.postgres_url()?);
            }
        }
        for spec in specs(&manifests.projections).values() {
            if let Some(redis) = &spec.sink.redis {
                add(&redis.url_secret_ref, self.redis.as_ref().context("Redis")?.url());
            }
            if let Some(key) = spec.sink.sql.as_ref().and_then(|sql| sql.url_secret_ref.as_ref()) {
                add(key, self.postgres_url()?);
            }
        }
        let secret = |(name, data): (String, BTreeMap<String, String>)| {
            let data: Vec<String> =
                data.into_iter().map(|(key, value)| format!("  {key}: \"{value}\"\n")).collect();
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: \"{name}\"\nstringData:\n{}",
                data.concat()
            )
        };
        Ok(values.into_iter().map(secret).collect::<Vec<_>>().join("---\n"))
    }
}

/// A part that runs.
struct Part {
    name: String,
    child: Child,
}

impl Part {
    /// Starts `program`, shows what it says, and waits until it has said `places` times where it listens, or is administered.
    async fn start(
        name: &str,
        path: &Path,
        arguments: &[String],
        places: usize,
    ) -> Result<(Self, Vec<String>)> {
        // By this thread, the main one, which lives as long as the process: a death signal is bound to the thread that asks for it.
        let mut command = Command::from(dies_with_us(path, "KILL", &[]));
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", path.display()))?;
        let (found, mut listening) = mpsc::channel(2);
        show(name.to_owned(), child.stdout.take().context("piped")?, Some(found));
        show(name.to_owned(), child.stderr.take().context("piped")?, None);
        let part = Self { name: name.to_owned(), child };
        let mut urls = Vec::new();
        while urls.len() < places {
            let listening = tokio::time::timeout(PATIENCE, listening.recv()).await;
            urls.push(listening.with_context(|| format!("{name} does not listen"))?.with_context(|| {
                format!("{name} has ended: why stands above; where a port is in use, end whoever has it, or give --free-ports")
            })?);
        }
        Ok((part, urls))
    }

    /// Ends it as a person would: it finishes what is under way.
    async fn stop(mut self) -> Result<()> {
        if let Some(id) = self.child.id()
            && let Some(pid) = rustix::process::Pid::from_raw(id.cast_signed())
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not end, and is killed", self.name))??;
        Ok(())
    }
}

/// Prints each line with the part's name before it, and tells where it listens and is administered.
fn show(name: String, output: impl AsyncRead + Unpin + Send + 'static, found: Option<mpsc::Sender<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let place = line.split_once(": listening on ").map(|(_, url)| url);
            if let Some(url) = place.or_else(|| line.strip_prefix("administered at "))
                && let Some(found) = &found
            {
                // Nobody waits any more when it took too long.
                let _ = found.try_send(url.trim().to_owned());
            }
            say(&name, &line);
        }
    });
}

fn say(who: &str, what: &str) {
    eprintln!("{who:>20} │ {what}");
}

/// What is told to people: what is where.
type Places = Vec<(String, String)>;

struct Up {
    arguments: Arguments,
    secrets: tempfile::TempDir,
    parts: Vec<Part>,
    places: Places,
    /// To look with, in another terminal.
    commands: Vec<String>,
    /// Where each projection says how far it is.
    projections: Vec<String>,
}

impl Up {
    fn port(&self, usual: u16) -> String {
        format!("127.0.0.1:{}", if self.arguments.free_ports { 0 } else { usual })
    }

    /// Starts one of our programs, with the manifests first, and gives where it listens and, where it has that, is administered.
    async fn start<const PLACES: usize>(
        &mut self,
        what: &str,
        name: &str,
        file: &str,
        more: &[String],
    ) -> Result<[String; PLACES]> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of UTF-8");
        let mut words = vec![text(&self.arguments.directory)?, text(self.secrets.path())?];
        words.extend_from_slice(more);
        let (part, urls) = Part::start(name, &program(file)?, &words, PLACES).await?;
        self.parts.push(part);
        self.places.extend(urls.first().map(|url| (what.to_owned(), url.clone())));
        urls.try_into().map_err(|urls| anyhow::anyhow!("{name} listens at {urls:?}"))
    }

    /// Has people told of a command, which goes to `url`.
    fn command(&mut self, words: &str, url: &str) {
        let address = url.trim_start_matches("http://");
        self.commands.push(format!("headwater {words} --query-server {address}"));
    }

    /// A word of the program's, with what it asks for in its place.
    fn fill_in(&self, word: &str) -> String {
        let first = |what: &str| {
            let found = self.places.iter().find(|(name, _)| name.starts_with(what));
            found.map_or("", |(_, url)| url.trim_start_matches("http://"))
        };
        word.replace("{event-store}", first("event store"))
            .replace("{query-server}", first("projection"))
            .replace("{data}", &self.secrets.path().join("data").to_string_lossy())
    }

    async fn until_ready(&self) -> Result<()> {
        for (what, url) in self.places.iter().filter(|(_, url)| url.starts_with("http://")) {
            let began = Instant::now();
            loop {
                let answer = reqwest::get(format!("{url}/readyz")).await;
                if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                ensure!(began.elapsed() < PATIENCE, "{what} at {url} is not ready: {answer:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Waits until each projection that runs has a revision that answers: their logs are new, so that takes no time.
    async fn until_built(&self) -> Result<()> {
        for url in &self.projections {
            let began = Instant::now();
            loop {
                let status: Value = reqwest::get(url).await?.error_for_status()?.json().await?;
                if !status["active"].is_null() || status["state"] != "Running" {
                    break;
                }
                ensure!(began.elapsed() < PATIENCE, "it is not built: {status}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

async fn run(arguments: Arguments) -> Result<()> {
    // From now on a signal ends all in order.
    let mut signals = Signals::listen()?;
    let manifests = read_directories(std::slice::from_ref(&arguments.directory))
        .with_context(|| arguments.directory.display().to_string())?;
    if let Some(fault) = manifests.errors().next() {
        bail!("{fault}");
    }
    let servers = Servers::start(&manifests)?;
    let secrets = tempfile::tempdir()?;
    std::fs::write(secrets.path().join("secrets.yaml"), servers.secrets(&manifests)?)?;
    let mut up = Up {
        arguments,
        secrets,
        parts: Vec::new(),
        places: Places::new(),
        commands: Vec::new(),
        projections: Vec::new(),
    };
    let done = tokio::select! {
        () = signals.next() => Ok(()),
        done = up.run(&manifests, &servers) => done,
    };
    tokio::select! {
        () = signals.next() => bail!("told twice to end: all that is left is killed"),
        stopped = stop(std::mem::take(&mut up.parts)) => done.and(stopped),
    }
}

impl Up {
    /// Starts the parts, says where they are, and pends until one ends by itself, which is an error.
    async fn run(&mut self, manifests: &Manifests, servers: &Servers) -> Result<()> {
        self.places.push(("PostgreSQL".to_owned(), servers.postgres_url()?));
        self.places.extend(servers.redis.iter().map(|redis| ("Redis".to_owned(), redis.url())));
        self.places.extend(servers.nats.iter().map(|nats| ("NATS".to_owned(), nats.url())));
        self.places.extend(servers.kafka.iter().map(|kafka| ("Kafka".to_owned(), kafka.address())));
        self.start_parts(manifests, servers).await?;
        self.until_ready().await?;
        self.until_built().await?;
        if let Some((file, more)) = self.arguments.with.split_first() {
            let more: Vec<String> = more.iter().map(|word| self.fill_in(word)).collect();
            let (part, _) = Part::start(file, &program(file)?, &more, 0).await?;
            self.parts.push(part);
        }
        println!();
        for (what, url) in &self.places {
            println!("{what:<28} {url}");
        }
        for command in &self.commands {
            println!("{:<28} {command}", "look");
        }
        println!("{:<28} Ctrl-C ends all of it", "ready");
        bail!("{} has ended by itself: why stands above", any_ends(&mut self.parts).await)
    }

    /// Those that others use first.
    async fn start_parts(&mut self, manifests: &Manifests, servers: &Servers) -> Result<()> {
        let streams = specs(&manifests.event_streams);
        let mut stores: BTreeMap<String, String> = BTreeMap::new();
        for (port, (name, spec)) in (50_051..).step_by(2).zip(&streams) {
            let bus = servers.bus(spec.bus.r#type)?;
            for replica in 0..2 {
                let listen = self.port(port + replica);
                let more = words(["--stream", name, "--listen", &listen, "--bus", &bus]);
                let what = format!("event store of {name}");
                let [url] =
                    self.start(&what, &format!("{name}-{replica}"), "headwater-eventstore", &more).await?;
                stores.entry(name.clone()).or_insert(url);
            }
        }
        let store = |name: &str| stores.get(name).cloned().with_context(|| format!("no event stream {name}"));
        let bus = |name: &str| servers.bus(streams.get(name).map(|spec| spec.bus.r#type).unwrap_or_default());
        for (port, (name, spec)) in (8_080..).step_by(10).zip(specs(&manifests.projections)) {
            let stream = &spec.stream_ref.name;
            let (listen, store, bus) = (self.port(port), store(stream)?, bus(stream)?);
            let more =
                words(["--projection", &name, "--listen", &listen, "--event-store", &store, "--bus", &bus]);
            let what = format!("projection {name}");
            let [url, admin] = self.start(&what, &name, "headwater-query-worker", &more).await?;
            for table in &spec.tables {
                self.command(&format!("query {name}/{}", table.name), &url);
            }
            self.command(&format!("projections show {name}"), &admin);
            self.projections.push(format!("{admin}/v1/admin/projections/{name}"));
        }
        for (port, (name, spec)) in (8_081..).step_by(10).zip(specs(&manifests.sagas)) {
            let (listen, bus) = (self.port(port), bus(&spec.stream_ref.name)?);
            let mut more = words(["--saga", &name, "--listen", &listen, "--bus", &bus]);
            for stream in spec.streams() {
                more.extend(["--event-store".to_owned(), format!("{stream}={}", store(stream)?)]);
            }
            let [_, admin] = self.start(&format!("saga {name}"), &name, "headwater-saga", &more).await?;
            self.command(&format!("sagas list {name}"), &admin);
        }
        Ok(())
    }
}

/// What ends it.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn any_ends(parts: &mut [Part]) -> String {
    let waits = parts.iter_mut().map(|part| {
        Box::pin(async {
            // Why it has ended stands in what it said.
            let _ = part.child.wait().await;
            part.name.clone()
        })
    });
    futures_util::future::select_all(waits).await.0
}

/// Those last started end first.
async fn stop(parts: Vec<Part>) -> Result<()> {
    let mut stopped = Ok(());
    for part in parts.into_iter().rev() {
        say(&part.name, "ends");
        stopped = stopped.and(part.stop().await);
    }
    stopped
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
