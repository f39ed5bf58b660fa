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

/// How the variables begin by which cargo tells a program of its package.
const OF_XTASK: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];

/// `cargo` with `arguments`: the cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Step {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // What cargo has told this program of itself: there are build scripts that run again where it differs, and what a person has built would be
    // built anew, and then anew for that person.
    for (name, _) in std::env::vars_os() {
        if OF_XTASK.iter().any(|of| name.to_string_lossy().starts_with(of)) {
            command.env_remove(name);
        }
    }
    Step { command, line: format!("cargo {}", arguments.join(" ")) }
}

/// A program of this machine.
pub(crate) fn program(name: &str, arguments: &[&str]) -> Step {
    let mut command = Command::new(name);
    command.args(arguments);
    Step { command, line: format!("{name} {}", arguments.join(" ")) }
}

/// Builds all programs of the workspace: with others beside them, they would be built of parts that are not those of any other command.
pub(crate) fn build() -> anyhow::Result<()> {
    cargo(&["build", "--release", "--workspace", "--bins"]).run()
}

/// A program of the workspace that has been built.
pub(crate) fn built(name: &str, arguments: &[&str]) -> anyhow::Result<Step> {
    let path = built_folder()?.join(name);
    Ok(program(path.to_str().context("a path of UTF-8")?, arguments).within(&root()))
}

/// Where programs are built, and this one was.
pub(crate) fn built_folder() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("the path of this program")?;
    Ok(this.parent().context("it lies in a folder")?.to_owned())
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
