//! Real Redis servers: one that the tests of a process share, and others to be killed, restarted, and set back to an older state.
//!
//! ```text
//! Redis::shared()  one server a test binary, each test under a prefix of its own
//! Redis::start()   one's own: kill() is SIGKILL, resume() starts it again over the same data, restore() over an older snapshot
//! ```
//!
//! What it has answered is on the disk: `appendfsync always`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::server_process::{ServerProcess, dies_with_us, free_ports, shared};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server. It ends with its last handle, and with this process.
pub struct Redis {
    folder: TempDir,
    port: u16,
    server: Mutex<Option<ServerProcess>>,
}

/// All of a server's data at one moment.
pub struct Snapshot(TempDir);

static SHARED: Mutex<Weak<Redis>> = Mutex::new(Weak::new());

impl Redis {
    /// The server that the tests of this process share; started when there is none.
    ///
    /// # Errors
    /// When there is no Redis on this machine, or it does not start.
    pub fn shared() -> Result<Arc<Self>> {
        shared(&SHARED, Self::start)
    }

    /// A server of one's own, to be restarted and killed.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [port] = free_ports()?;
        let server = Self { folder, port, server: Mutex::new(None) };
        server.resume()?;
        Ok(server)
    }

    /// `redis://…` of its first database.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A prefix of keys that no other test has.
    pub fn prefix() -> String {
        format!("test-{}", Uuid::new_v4().simple())
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn cli(&self, command: &[&str]) -> Result<String> {
        let output = self.ask(command)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let fault = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() && fault.is_empty(), "{command:?}: {said}{fault}");
        Ok(said)
    }

    /// The fields of the hash at `key`, as `redis-cli` prints them: name and value, in order of name.
    ///
    /// # Errors
    /// As [`cli`](Self::cli).
    pub fn hash(&self, key: &str) -> Result<Vec<(String, String)>> {
        let said = self.cli(&["HGETALL", key])?;
        let mut lines = said.lines().map(str::to_owned);
        let mut fields: Vec<_> = std::iter::from_fn(|| Some((lines.next()?, lines.next()?))).collect();
        fields.sort();
        Ok(fields)
    }

    fn ask(&self, command: &[&str]) -> Result<std::process::Output> {
        let mut cli = Command::new("redis-cli");
        // Errors go to standard error and into the exit code.
        cli.args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()]).args(command);
        cli.output().context("running redis-cli")
    }

    /// Ends it as a power cut would end the process: connections are cut, and scripts are cut off.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn kill(&self) -> Result<()> {
        let running = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.map_or(Ok(()), ServerProcess::end)
    }

    /// Starts it again, over the same data.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn resume(&self) -> Result<()> {
        self.run("yes")
    }

    /// All that it holds now.
    ///
    /// # Errors
    /// When it does not save.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.cli(&["SAVE"])?;
        let folder = tempfile::tempdir()?;
        std::fs::copy(self.folder.path().join("dump.rdb"), folder.path().join("dump.rdb"))?;
        Ok(Snapshot(folder))
    }

    /// Kills it and starts it over what it held at `snapshot`, as a fail-over to a replica that was behind does.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<()> {
        self.kill()?;
        std::fs::remove_dir_all(self.folder.path().join("appendonlydir"))?;
        std::fs::copy(snapshot.0.path().join("dump.rdb"), self.folder.path().join("dump.rdb"))?;
        // A snapshot is read where there is no append-only file, which is then begun from it.
        self.run("no")?;
        self.cli(&["CONFIG", "SET", "appendonly", "yes"])?;
        let began = Instant::now();
        while !self.cli(&["INFO", "persistence"])?.contains("aof_rewrite_in_progress:0") {
            ensure!(began.elapsed() < PATIENCE, "redis-server does not begin its append-only file");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn run(&self, append_only: &str) -> Result<()> {
        let log = self.folder.path().join("redis.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = dies_with_us(&program()?, "KILL", &[]);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--dir")
            .arg(self.folder.path())
            .args(["--save", "", "--appendonly", append_only, "--appendfsync", "always"])
            .current_dir(self.folder.path())
            .stdout(file.try_clone()?)
            .stderr(file);
        let server = ServerProcess::start("redis-server", command, Signal::KILL)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        let began = Instant::now();
        while !self.ask(&["PING"])?.stdout.starts_with(b"PONG") {
            ensure!(
                began.elapsed() < PATIENCE,
                "redis-server does not answer; it says:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("stopping redis-server: {error:#}");
        }
    }
}

/// The server's program.
fn program() -> Result<PathBuf> {
    let folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    let found = folders.into_iter().map(|folder| folder.join("redis-server")).find(|path| path.is_file());
    found.context(
        "there is no Redis here: install Debian's package `redis-server`, as `cargo xtask test` does",
    )
}
