//! The program `banku` as somebody at its prompt sees it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::process::PATIENCE;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The event stream.
pub(crate) const STREAM: &str = "banku";

/// `dev` on this example's own folder.
pub(crate) fn options(data: &Path) -> DevOptions {
    DevOptions::new(env!("CARGO_MANIFEST_DIR"), data)
}

/// What the prompt says to one command.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Stored { event: Value, partition: u64, position: u64 },
    Balance(String),
    No(String),
}

impl Answer {
    /// The account of a stored event.
    pub(crate) fn account(&self) -> Result<String> {
        match self {
            Self::Stored { event, .. } => Ok(event["AccId"].as_str().context("AccId")?.to_owned()),
            other => bail!("nothing was stored: {other:?}"),
        }
    }
}

/// A running prompt whose standard input is no terminal.
pub(crate) struct Prompt {
    child: Child,
    input: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    refusals: Lines<BufReader<ChildStderr>>,
}

impl Prompt {
    pub(crate) fn start(dev: &Dev) -> Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_banku"))
            .args(["--server", &host_and_port(dev.stream(STREAM)?)])
            .args(["--query-server", &host_and_port(dev.queries())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting banku")?;
        let input = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("piped")?).lines();
        let refusals = BufReader::new(child.stderr.take().context("piped")?).lines();
        Ok(Self { child, input, answers, refusals })
    }

    /// Types `line` and waits for what the prompt says to it.
    pub(crate) async fn say(&mut self, line: &str) -> Result<Answer> {
        let input = self.input.as_mut().context("the input is open")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        let answer =
            timeout(PATIENCE, self.answer()).await.with_context(|| format!("no answer to {line:?}"))?;
        answer.with_context(|| format!("the answer to {line:?}"))
    }

    async fn answer(&mut self) -> Result<Answer> {
        let first = tokio::select! {
            line = self.answers.next_line() => line?.context("banku ended")?,
            line = self.refusals.next_line() => return Ok(Answer::No(line?.context("banku ended")?)),
        };
        let Some(event) = first.strip_prefix("Message: ") else { return Ok(Answer::Balance(first)) };
        let second = self.answers.next_line().await?.context("banku ended")?;
        let place = second.strip_prefix("Message is stored in partition ");
        let (partition, position) =
            place.and_then(|place| place.split_once(", position ")).with_context(|| second.clone())?;
        Ok(Answer::Stored {
            event: serde_json::from_str(event)?,
            partition: partition.parse()?,
            position: position.parse()?,
        })
    }

    /// Ends the input, and gives the exit code.
    pub(crate) async fn end(mut self) -> Result<i32> {
        drop(self.input.take());
        let status = timeout(PATIENCE, self.child.wait()).await.context("banku does not end")??;
        ensure!(self.answers.next_line().await?.is_none(), "there was an answer to nothing");
        status.code().context("banku was killed")
    }
}

fn host_and_port(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}
