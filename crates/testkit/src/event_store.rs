//! `headwater-eventstore` as a child.

use std::path::Path;

use anyhow::{Context, Result};

use crate::http::Http;
use crate::process::{Process, program};

/// One of the event stores of an event stream, over a database.
pub struct EventStore {
    process: Process,
    url: String,
}

impl EventStore {
    /// Starts one for the only event stream in `directory`, on a free port, and waits until it serves.
    ///
    /// # Errors
    /// When it does not, with all that it printed.
    pub async fn start(directory: &Path, database: &str) -> Result<Self> {
        let mut process = Process::spawn(
            program("headwater-eventstore")?,
            [
                directory.as_os_str(),
                "--database".as_ref(),
                database.as_ref(),
                "--listen".as_ref(),
                "127.0.0.1:0".as_ref(),
            ],
        )?;
        let listening = |line: &str| Some(line.split_once(": listening on ")?.1.to_owned());
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
        let text = reqwest::get(format!("{}/metrics", self.url)).await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} in\n{text}"))?.parse().context("a number")
    }
}
