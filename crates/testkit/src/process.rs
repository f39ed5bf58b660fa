//! A real program as a child: its output line by line, signals, and an end that is always awaited.
//!
//! ```text
//! test ──spawn──▶ program
//!      ◀──lines── standard output and standard error, kept for the message of a failure
//!      ──signal─▶ SIGTERM · SIGKILL · SIGSTOP
//! ```

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use crate::server_process::dies_with_us;
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long a test waits for a program to do what it must, before it fails with all that the program printed.
/// Generous: it is no measure of speed, and two cores may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Lines that may wait to be read; beyond that the program's pipe fills.
const LINES: usize = 100_000;

/// A running program. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// The program `name` of this workspace, built into the folder where the running test lies.
///
/// # Errors
/// When it has not been built: the message says how.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe().context("the path of the running test")?;
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| anyhow!("the program `{name}` is not built: run `cargo build --release --workspace --bins`, as `cargo xtask test` does"))
}

impl Process {
    /// Starts `program` with `arguments`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn<A: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::start(command)
    }

    /// Starts `command`, whose output is taken.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let name = command.as_std().get_program().to_string_lossy().into_owned();
        // Tests say which bus they mean: what manifests name is not on this machine, as a rule.
        if !command.as_std().get_envs().any(|(name, _)| name == "HEADWATER_BUS") {
            command.env("HEADWATER_BUS", "none");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("`{name}` could not be started"))?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = mpsc::channel(LINES);
        forward(child.stdout.take().context("piped")?, sender.clone(), seen.clone());
        forward(child.stderr.take().context("piped")?, sender, seen.clone());
        Ok(Self { name, child, lines, seen })
    }

    /// The next line of output for which `wanted` gives something.
    ///
    /// # Errors
    /// When the program ends, or [`PATIENCE`] does, before such a line; with all that was printed.
    pub async fn line<T>(&mut self, what: &str, wanted: impl FnMut(&str) -> Option<T>) -> Result<T> {
        self.line_within(PATIENCE, what, wanted).await
    }

    /// As [`line`](Self::line), for a program that has more to do first, such as to be built.
    ///
    /// # Errors
    /// When the program ends, or `patience` does, before such a line; with all that was printed.
    pub async fn line_within<T>(
        &mut self,
        patience: Duration,
        what: &str,
        mut wanted: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let found = timeout(patience, async {
            while let Some(line) = self.lines.recv().await {
                if let Some(found) = wanted(&line) {
                    return Some(found);
                }
            }
            None
        })
        .await;
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => {
                bail!("`{}` ended before it printed {what}; it printed:\n{}", self.name, self.output())
            }
            Err(_) => bail!(
                "`{}` did not print {what} within {patience:?}; it printed:\n{}",
                self.name,
                self.output()
            ),
        }
    }

    /// All that was printed so far.
    pub fn output(&self) -> String {
        self.seen.lock().map(|lines| lines.join("\n")).unwrap_or_default()
    }

    /// The process id.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("`{}` has ended; it printed:\n{}", self.name, self.output()))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()?).ok().and_then(Pid::from_raw).context("a process id")?;
        rustix::process::kill_process(id, signal).with_context(|| format!("{signal:?} to `{}`", self.name))
    }

    /// Ends the program as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// When it cannot be awaited.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing `{}`", self.name))
    }

    /// Asks the program to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    /// When it does not end within [`PATIENCE`].
    pub async fn terminate(self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait().await
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub async fn wait(mut self) -> Result<ExitStatus> {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("waiting for `{}`", self.name)),
            Err(_) => {
                bail!("`{}` did not end within {PATIENCE:?}; it printed:\n{}", self.name, self.output())
            }
        }
    }
}

fn forward(
    output: impl AsyncRead + Unpin + Send + 'static,
    sender: mpsc::Sender<String>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(mut seen) = seen.lock() {
                seen.push(line.clone());
            }
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
}
