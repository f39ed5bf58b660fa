//! Runs programs one after another, says what runs, and keeps the time.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A program to run in the workspace's root.
pub(crate) struct Step {
    command: Command,
    line: String,
}

/// `cargo` with `arguments`: the cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Step {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    Step { command, line: format!("cargo {}", arguments.join(" ")) }
}

/// A program of this machine.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Step {
    let mut command = Command::new(name);
    command.args(arguments);
    Step { command, line: format!("{name} {}", arguments.join(" ")) }
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

impl Step {
    /// Sets an environment variable for the program.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it in this folder.
    pub(crate) fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Runs the program; its failure is an error.
    pub(crate) fn run(mut self) -> anyhow::Result<()> {
        let status =
            self.command.status().with_context(|| format!("`{}` could not be started", self.line))?;
        if !status.success() {
            bail!("`{}` failed: {status}", self.line);
        }
        Ok(())
    }

    /// Becomes the program, so that whoever ends this ends that. Returns only when it cannot.
    pub(crate) fn exec(mut self) -> anyhow::Error {
        use std::os::unix::process::CommandExt as _;

        anyhow::Error::from(self.command.exec()).context(format!("`{}` could not be started", self.line))
    }

    /// Runs the program, shows each line that it prints and hands it to `look`; its failure is `Ok(false)`.
    pub(crate) fn watch(mut self, mut look: impl FnMut(&str)) -> anyhow::Result<bool> {
        let mut child = self
            .command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("`{}` could not be started", self.line))?;
        let output = child.stdout.take().context("the child's output is piped")?;
        let mut out = std::io::stdout().lock();
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("`{}` printed what is not UTF-8", self.line))?;
            writeln!(out, "{line}")?;
            look(&line);
        }
        Ok(child.wait()?.success())
    }
}

/// Where the time went.
#[derive(Default)]
pub(crate) struct Clock {
    laps: Vec<(String, Duration)>,
}

impl Clock {
    /// Announces and times `work`.
    pub(crate) fn lap<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        println!("\n── {name}");
        let start = Instant::now();
        let result = work();
        self.laps.push((name.to_owned(), start.elapsed()));
        result
    }

    /// The sum of all laps.
    pub(crate) fn total(&self) -> Duration {
        self.laps.iter().map(|(_, time)| *time).sum()
    }

    /// Prints one line a lap.
    pub(crate) fn report(&self) {
        println!("\n── where the time went");
        for (name, time) in &self.laps {
            println!("{:>7.1} s  {name}", time.as_secs_f64());
        }
        println!("{:>7.1} s  in all", self.total().as_secs_f64());
    }
}
