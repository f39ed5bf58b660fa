//! `headwater-eventstore` and `headwater-query-worker` as children.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::http::Http;
use crate::process::{PATIENCE, Process, program};

/// An event store.
pub struct EventStore {
    process: Process,
    url: String,
}

impl EventStore {
    /// Starts one for the only event stream in `directory`, on a free port, over the database of this URL, which others may share; and
    /// waits until it serves.
    ///
    /// # Errors
    /// When it does not, with all that it printed.
    pub async fn start(directory: &Path, database: &str) -> Result<Self> {
        Self::told(directory, database, &[]).await
    }

    /// The same, with more arguments.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn told(directory: &Path, database: &str, more: &[String]) -> Result<Self> {
        let words = ["--database", database, "--listen", "127.0.0.1:0"];
        Self::with(directory, words.into_iter().chain(more.iter().map(String::as_str))).await
    }

    /// The same over the database that the manifest names.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn by_manifest(directory: &Path) -> Result<Self> {
        Self::with(directory, ["--listen", "127.0.0.1:0"]).await
    }

    /// The same over a file in `data_dir`, on this address.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn alone(directory: &Path, data_dir: &Path, listen: &str) -> Result<Self> {
        let data_dir = data_dir.to_str().context("a path of UTF-8")?;
        Self::with(directory, ["--data-dir", data_dir, "--listen", listen]).await
    }

    /// The same over a file in `data_dir`, on a free port, with more arguments, which may have it speak TLS.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn secured(directory: &Path, data_dir: &Path, more: &[String]) -> Result<Self> {
        let data_dir = data_dir.to_str().context("a path of UTF-8")?;
        let words = ["--data-dir", data_dir, "--listen", "127.0.0.1:0"];
        Self::with(directory, words.into_iter().chain(more.iter().map(String::as_str))).await
    }

    /// One whose log is in `data_dir`, and which relays to the bus that the manifests name.
    ///
    /// # Errors
    /// As [`alone`](Self::alone).
    pub async fn on_its_bus(directory: &Path, data_dir: &Path) -> Result<Self> {
        let mut command = Command::new(program("headwater-eventstore")?);
        command.arg(directory).arg("--data-dir").arg(data_dir).args(["--listen", "127.0.0.1:0"]);
        command.env_remove("HEADWATER_BUS");
        Self::serving(Process::start(command)?).await
    }

    async fn with<'a>(directory: &'a Path, more: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let directory = directory.to_str().context("a path of UTF-8")?;
        let words = [directory].into_iter().chain(more);
        Self::serving(Process::spawn(program("headwater-eventstore")?, words)?).await
    }

    async fn serving(mut process: Process) -> Result<Self> {
        let url = process.line("where it listens", listening).await?;
        process.line("that it serves", |line| line.contains("serves").then_some(())).await?;
        Ok(Self { process, url })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of it alone.
    pub fn http(&self) -> Http {
        Http::new(&self.url, "")
    }

    /// The child.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// The child, to be ended.
    pub fn into_process(self) -> Process {
        self.process
    }

    /// A number that it counts, at `/metrics`.
    ///
    /// # Errors
    /// When it does not answer, or counts nothing of this name.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.url, name).await
    }
}

async fn metric(url: &str, name: &str) -> Result<f64> {
    let text = reqwest::get(format!("{url}/metrics")).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.with_context(|| format!("no {name} in\n{text}"))?.parse().context("a number")
}

fn listening(line: &str) -> Option<String> {
    Some(line.split_once(": listening on ")?.1.to_owned())
}

fn administered(line: &str) -> Option<String> {
    Some(line.strip_prefix("administered at ")?.to_owned())
}

/// A query worker.
pub struct QueryWorker {
    process: Process,
    url: String,
    admin_url: String,
}

impl QueryWorker {
    /// Starts one for the only projection in `directory`, on a free port. It may wait for its event store.
    ///
    /// # Errors
    /// When it does not start, with all that it printed.
    pub async fn start(directory: &Path, event_store: &str, data_dir: &Path) -> Result<Self> {
        Self::with(directory, event_store, &["--data-dir".as_ref(), data_dir.as_os_str()]).await
    }

    /// The same with its read model in the database of this URL, which others may share.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn over(directory: &Path, event_store: &str, database: &str) -> Result<Self> {
        Self::with(directory, event_store, &["--database".as_ref(), database.as_ref()]).await
    }

    /// The same with its read model in a file, and with more arguments, which may have it speak TLS.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn secured(
        directory: &Path,
        event_store: &str,
        data_dir: &Path,
        more: &[String],
    ) -> Result<Self> {
        let words = ["--data-dir".as_ref(), data_dir.as_os_str()];
        let words: Vec<&OsStr> = words.into_iter().chain(more.iter().map(OsStr::new)).collect();
        Self::with(directory, event_store, &words).await
    }

    /// The same, brought what comes by the bus at this address.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn fed_by(directory: &Path, event_store: &str, database: &str, bus: &str) -> Result<Self> {
        let words = ["--database".as_ref(), database.as_ref(), "--bus".as_ref(), bus.as_ref()];
        Self::with(directory, event_store, &words).await
    }

    /// The same with its read model where the manifests say.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn as_declared(directory: &Path, event_store: &str) -> Result<Self> {
        Self::with(directory, event_store, &[]).await
    }

    async fn with(directory: &Path, event_store: &str, keep: &[&OsStr]) -> Result<Self> {
        let mut arguments = vec![directory.as_os_str(), "--event-store".as_ref(), event_store.as_ref()];
        arguments.extend(keep);
        arguments.extend(["--listen", "127.0.0.1:0"].map(OsStr::new));
        let mut process = Process::spawn(program("headwater-query-worker")?, arguments)?;
        let url = process.line("where it listens", listening).await?;
        let admin_url = process.line("where it is administered", administered).await?;
        Ok(Self { process, url, admin_url })
    }

    /// Where it is administered.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// Where it answers queries.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The child.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// A number that it counts, at `/metrics`.
    ///
    /// # Errors
    /// As [`EventStore::metric`].
    pub async fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.url, name).await
    }

    /// Waits until a revision of its projection answers queries. It is asked: what it logs may come before it says where it is administered.
    ///
    /// # Errors
    /// When none does in time, with all that it printed.
    pub async fn answers(&mut self) -> Result<()> {
        let url = format!("{}/v1/admin/projections", self.admin_url);
        let began = Instant::now();
        loop {
            let asked = async { reqwest::get(&url).await?.json::<Value>().await };
            let said = asked.await.with_context(|| self.process.output())?;
            if said["projections"].as_array().is_some_and(|all| all.iter().any(|it| !it["active"].is_null()))
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "no revision answers: {said}; it printed:\n{}",
                self.process.output()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The child, to be ended.
    pub fn into_process(self) -> Process {
        self.process
    }
}
