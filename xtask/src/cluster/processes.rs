//! What runs, by a file each that names the process: its number, and when it began, since numbers are used again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) struct Processes {
    pids: PathBuf,
    logs: PathBuf,
}

impl Processes {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { pids: folder.join("pids"), logs: folder.join("logs") }
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Starts `command` as `name`, in a session of its own: it outlives whoever starts it.
    pub(crate) fn start(&self, name: &str, mut command: Command) -> anyhow::Result<()> {
        use std::os::unix::process::CommandExt as _;

        std::fs::create_dir_all(&self.pids)?;
        std::fs::create_dir_all(&self.logs)?;
        let log = File::create(self.log(name))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let began = began(child.id()).with_context(|| format!("{name} ended at once"))?;
        std::fs::write(self.pids.join(name), format!("{} {began}\n", child.id()))?;
        Ok(())
    }

    fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.pids) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| self.pids.display().to_string()),
        };
        let mut names: Vec<(std::time::SystemTime, String)> = Vec::new();
        for entry in entries {
            let entry = entry?;
            names.push((entry.metadata()?.modified()?, entry.file_name().to_string_lossy().into_owned()));
        }
        names.sort();
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    /// The process called `name`, while it runs.
    fn pid(&self, name: &str) -> anyhow::Result<Option<Pid>> {
        let text = match std::fs::read_to_string(self.pids.join(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("the process of {name}")),
        };
        let mut words = text.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(number)), Some(Ok(then))) = (words.next(), words.next()) else { return Ok(None) };
        let is_it = u32::try_from(number).ok().and_then(began) == Some(then);
        Ok(i32::try_from(number).ok().filter(|_| is_it).and_then(Pid::from_raw))
    }

    pub(crate) fn runs(&self, name: &str) -> anyhow::Result<bool> {
        Ok(self.pid(name)?.is_some())
    }

    /// What runs, in the order in which it was started.
    pub(crate) fn running(&self) -> anyhow::Result<Vec<String>> {
        self.sorted(true)
    }

    /// What was started and runs no more.
    pub(crate) fn ended(&self) -> anyhow::Result<Vec<String>> {
        self.sorted(false)
    }

    fn sorted(&self, runs: bool) -> anyhow::Result<Vec<String>> {
        let mut found = Vec::new();
        for name in self.names()? {
            if self.runs(&name)? == runs {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// The last lines of a log.
    pub(crate) fn tail(&self, name: &str) -> anyhow::Result<String> {
        let text = std::fs::read(self.log(name)).with_context(|| self.log(name).display().to_string())?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(15)..].join("\n"))
    }

    /// Ends the process `name`, if it runs.
    pub(crate) fn stop(&self, name: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut signal = Some(Signal::TERM);
        while let Some(pid) = self.pid(name)? {
            if let Some(signal) = signal.take() {
                println!("stopping {name}");
                kill_process(pid, signal).with_context(|| format!("stopping {name}"))?;
            }
            if began.elapsed() > GRACE {
                kill_process(pid, Signal::KILL).with_context(|| format!("killing {name}"))?;
            }
            ensure!(began.elapsed() < 2 * GRACE, "{name} does not end");
            std::thread::sleep(Duration::from_millis(50));
        }
        match std::fs::remove_file(self.pids.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Ends everything, the last first.
    pub(crate) fn stop_all(&self) -> anyhow::Result<()> {
        for name in self.names()?.into_iter().rev() {
            self.stop(&name)?;
        }
        Ok(())
    }
}

/// When a process began, in the kernel's ticks. `None`: there is none, or it has ended and nobody has looked.
fn began(number: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name in brackets may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
