//! `headwater dev` as a child, on ports of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::http::Http;
use crate::process::{Process, program};

/// How to start it.
#[derive(Debug, Clone)]
pub struct DevOptions {
    directory: PathBuf,
    data_dir: PathBuf,
    listen: String,
    query_listen: String,
    more: Vec<OsString>,
}

impl DevOptions {
    /// The manifests in `directory`, the data in `data_dir`, and nothing else running beside it.
    pub fn new(directory: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            data_dir: data_dir.into(),
            listen: "127.0.0.1:0".to_owned(),
            query_listen: "127.0.0.1:0".to_owned(),
            more: Vec::new(),
        }
    }

    /// On the ports that `dev`, which has been killed, had: for clients that must find its successor.
    ///
    /// # Errors
    /// When `dev` served not one event stream.
    pub fn succeeding(mut self, dev: &Dev) -> Result<Self> {
        let address = |url: &str| url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let [stream] = &dev.ready.streams[..] else {
            bail!("dev served {} event streams", dev.ready.streams.len())
        };
        self.listen = address(&stream.url);
        self.query_listen = address(&dev.ready.query);
        Ok(self)
    }

    /// One more argument.
    #[must_use]
    pub fn with(mut self, argument: impl Into<OsString>) -> Self {
        self.more.push(argument.into());
        self
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = ["--output", "json", "dev"].map(Into::into).into();
        arguments.push(self.directory.clone().into());
        arguments.push("--data-dir".into());
        arguments.push(self.data_dir.clone().into());
        let ports = ["--listen", &self.listen, "--query-listen", &self.query_listen];
        arguments.extend(ports.map(OsString::from));
        arguments.extend(self.more.iter().cloned());
        arguments
    }
}

/// What `dev` says, in one line of JSON, when everything serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Ready(Ready),
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
struct Ready {
    streams: Vec<Stream>,
    query: String,
    startup_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct Stream {
    name: String,
    url: String,
}

/// A running `headwater dev` that is ready. Killed when dropped.
pub struct Dev {
    process: Process,
    ready: Ready,
}

impl Dev {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time; with all that it printed.
    pub async fn start(options: &DevOptions) -> Result<Self> {
        let mut process = Process::spawn(program("headwater")?, options.arguments())?;
        let ready = process
            .line("its ready line", |line| match serde_json::from_str(line) {
                Ok(Line::Ready(ready)) => Some(ready),
                Ok(Line::Other) | Err(_) => None,
            })
            .await?;
        Ok(Self { process, ready })
    }

    /// The URL of the event stream `name`.
    ///
    /// # Errors
    /// When `dev` serves no such stream.
    pub fn stream(&self, name: &str) -> Result<&str> {
        self.ready
            .streams
            .iter()
            .find(|it| it.name == name)
            .map(|it| it.url.as_str())
            .with_context(|| format!("dev serves no event stream {name}"))
    }

    /// The URL of the query API.
    pub fn queries(&self) -> &str {
        &self.ready.query
    }

    /// How long it took to be ready by its own account, in milliseconds.
    pub fn startup_ms(&self) -> u64 {
        self.ready.startup_ms
    }

    /// A client of the event stream `name` and of the queries.
    ///
    /// # Errors
    /// When `dev` serves no such stream.
    pub fn http(&self, name: &str) -> Result<Http> {
        Ok(Http::new(self.stream(name)?, self.queries()))
    }

    /// The process, for its output and signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends it as a power cut would end the process.
    ///
    /// # Errors
    /// When it cannot be awaited.
    pub async fn kill(self) -> Result<()> {
        self.process.kill().await
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not.
    pub async fn terminate(self) -> Result<ExitStatus> {
        self.process.terminate().await
    }
}

/// Writes `text` as the file `name` in `directory`.
///
/// # Errors
/// When the file cannot be written.
pub fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}
