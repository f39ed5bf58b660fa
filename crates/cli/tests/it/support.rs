//! A folder with manifests, and the program on it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::process::{PATIENCE, Process, program};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// An event stream of orders in two partitions, and their read model.
pub(crate) const ORDERS: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec:
  partitions: 2
  eventTypes:
  - name: OrderCreated
    schema: {type: object, required: [amount], properties: {amount: {type: string}}}
  - name: OrderApproved
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: orders}
spec:
  streamRef: {name: orders}
  tables:
  - name: orders
    key: [id]
    columns:
    - {name: id, type: Text}
    - {name: amount, type: Decimal, default: \"0\"}
    - {name: status, type: Text}
  rules:
  - {events: [OrderCreated], type: Upsert, table: orders, key: {id: event.streamId}, set: {amount: decimal(event.data.amount), status: \"'Pending'\"}}
  - {events: [OrderApproved], type: Update, table: orders, key: {id: event.streamId}, set: {status: \"'Approved'\"}}
";

/// A folder of its own.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// With nothing in it.
    pub(crate) fn empty() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    /// With [`ORDERS`].
    pub(crate) fn orders() -> Result<Self> {
        let folder = Self::empty()?;
        folder.write("orders.yaml", ORDERS)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.join(name), text).with_context(|| format!("write {name}"))
    }

    /// Replaces `from` by `to` in a file, as an editor does: another file, then renamed.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) -> Result<()> {
        let text = std::fs::read_to_string(self.join(name))?;
        anyhow::ensure!(text.contains(from), "{name} has no {from:?}");
        self.write("edited.swp", &text.replace(from, to))?;
        Ok(std::fs::rename(self.join("edited.swp"), self.join(name))?)
    }

    pub(crate) fn options(&self) -> DevOptions {
        DevOptions::new(self.path(), self.join("data"))
    }

    /// `dev` on this folder, ready.
    pub(crate) async fn dev(&self) -> Result<Running> {
        Running::new(Dev::start(&self.options()).await?)
    }

    /// `dev` on this folder with `arguments`, on free ports, as JSON; it need not become ready.
    pub(crate) fn start(&self, arguments: &[&str]) -> Result<Process> {
        let folder = self.path().display().to_string();
        let common =
            ["--output", "json", "dev", &folder, "--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0"];
        Process::spawn(program("headwater")?, common.into_iter().chain(arguments.iter().copied()))
    }
}

/// A running `dev`, and commands that ask it.
pub(crate) struct Running {
    pub(crate) dev: Dev,
    server: String,
    queries: String,
}

impl Running {
    pub(crate) fn new(dev: Dev) -> Result<Self> {
        let (server, queries) = (dev.stream("orders")?.to_owned(), dev.queries().to_owned());
        Ok(Self { dev, server, queries })
    }

    /// Runs a command against it.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<Done> {
        self.run_with(arguments, "").await
    }

    /// Runs a command against it, with `input` on its standard input.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> Result<Done> {
        let mut command = headwater(arguments)?;
        command.env("HEADWATER_SERVER", &self.server).env("HEADWATER_QUERY_SERVER", &self.queries);
        finish(command, input).await
    }

    /// Appends one event, and gives its token.
    pub(crate) async fn append(&self, stream_id: &str, event_type: &str, data: &str) -> Result<String> {
        let arguments = ["--output", "json", "append", stream_id, "--type", event_type, "--data", data];
        let done = self.run(&arguments).await?.succeeded()?;
        Ok(done.json()?["token"].as_str().context("a token")?.to_owned())
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Result<Self> {
        anyhow::ensure!(self.code == Some(0), "it failed: {self:?}");
        Ok(self)
    }

    /// It failed with `code`, and said `message` on standard error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, message: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(message), "{message:?} is not in {}", self.err);
    }

    /// Standard output as one JSON document.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.out).with_context(|| self.out.clone())
    }

    /// Each line of standard output as JSON.
    pub(crate) fn json_lines(&self) -> Result<Vec<Value>> {
        self.out.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// The program, without what the tester's environment says.
pub(crate) fn headwater(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(program("headwater")?);
    command.args(arguments).env_remove("RUST_LOG");
    command.env_remove("HEADWATER_SERVER").env_remove("HEADWATER_QUERY_SERVER");
    Ok(command)
}

/// Runs the program, which speaks to nobody.
pub(crate) async fn run(arguments: &[&str]) -> Result<Done> {
    finish(headwater(arguments)?, "").await
}

pub(crate) async fn finish(mut command: Command, input: &str) -> Result<Done> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("piped")?;
    let input = input.to_owned();
    let write = tokio::spawn(async move {
        // A program that refuses its input early closes it.
        let _ = stdin.write_all(input.as_bytes()).await;
    });
    let output: Output =
        tokio::time::timeout(PATIENCE, child.wait_with_output()).await.context("it did not end")??;
    write.await?;
    Ok(Done {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// The first line that is JSON of this `kind`.
pub(crate) async fn line(process: &mut Process, kind: &str) -> Result<Value> {
    line_where(process, kind, |_| true).await
}

/// The first line that is JSON of this `kind` and is `wanted`.
pub(crate) async fn line_where(
    process: &mut Process,
    kind: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Result<Value> {
    process
        .line(&format!("a line of kind {kind}"), |line| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["kind"] == kind && wanted(&value)).then_some(value)
        })
        .await
}
