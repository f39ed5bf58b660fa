//! A real PostgreSQL server in a folder of its own, on the loopback address, with `fsync` on.
//!
//! ```text
//! test ──shared()──▶ Postgres ──▶ postgres, in a process of its own, as the user postgres where we are root
//!      ──schema()──▶ a URL, and a name that nobody else has
//! ```

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::server_process::{ServerProcess, dies_with_us, free_ports, shared};

/// The user and the database of the server.
const USER: &str = "headwater";
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server. It ends with its last handle, and with this process.
pub struct Postgres {
    folder: TempDir,
    programs: PathBuf,
    port: u16,
    has_tls: bool,
    server: Mutex<Option<ServerProcess>>,
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

impl Postgres {
    /// The server that the tests of this process share; started when there is none.
    ///
    /// # Errors
    /// When there is no PostgreSQL on this machine, or it does not start.
    pub fn shared() -> Result<Arc<Self>> {
        shared(&SHARED, Self::start)
    }

    /// A server of one's own, to be restarted and killed.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start() -> Result<Self> {
        let server = Self::prepare()?;
        server.resume()?;
        Ok(server)
    }

    /// Makes the folder of its data.
    fn prepare() -> Result<Self> {
        let programs = programs()?;
        let folder = folder()?;
        let data = folder.path().join("data");
        let mut initdb = as_postgres(&programs.join("initdb"));
        initdb.args([
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--username",
            USER,
            "--pgdata",
        ]);
        run(initdb.arg(&data).current_dir(folder.path()))?;
        let [port] = free_ports()?;
        Ok(Self { folder, programs, port, has_tls: false, server: Mutex::new(None) })
    }

    /// A server that follows `primary` by streaming replication: it has what that one had a moment ago, and takes no writes.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn follower_of(primary: &Self) -> Result<Self> {
        let programs = programs()?;
        let folder = folder()?;
        let mut copy = as_postgres(&programs.join("pg_basebackup"));
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--host=127.0.0.1", "--username", USER]);
        copy.args(["--port", &primary.port.to_string(), "--pgdata"]).arg(folder.path().join("data"));
        run(copy.current_dir(folder.path()))?;
        let [port] = free_ports()?;
        let server = Self { folder, programs, port, has_tls: false, server: Mutex::new(None) };
        server.resume()?;
        Ok(server)
    }

    /// A server of one's own that lets in only who comes by TLS and shows a certificate of the authority `clients`; its own is `certificate`.
    /// All in PEM.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start_with_tls(certificate: &str, key: &str, clients: &str) -> Result<Self> {
        let mut server = Self::prepare()?;
        server.has_tls = true;
        let data = server.folder.path().join("data");
        let files = [
            ("server.crt", certificate),
            ("server.key", key),
            ("clients.crt", clients),
            ("pg_hba.conf", "hostssl all all 127.0.0.1/32 trust clientcert=verify-ca\n"),
        ];
        for (name, text) in files {
            let path = data.join(name);
            std::fs::write(&path, text)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            if rustix::process::geteuid().is_root() {
                run(Command::new("chown").arg("postgres").arg(&path))?;
            }
        }
        server.resume()?;
        Ok(server)
    }

    /// `postgres://…` of a database that any test may put schemas into.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://{USER}@127.0.0.1:{port}/postgres")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `psql` prints for a query, without headings.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn query(&self, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql]).arg(self.url());
        let output = psql.output().context("running psql")?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The name of a schema that no other test has.
    pub fn schema() -> String {
        format!("test_{}", Uuid::new_v4().simple())
    }

    /// Ends it as a power cut would end the process: connections are cut, and what was not synced is lost.
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
        let log = self.folder.path().join("postgres.log");
        let mut command = as_postgres(&self.programs.join("postgres"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=on", "-c", "synchronous_commit=on"])
            .args(if self.has_tls { &["-c", "ssl=on", "-c", "ssl_ca_file=clients.crt"][..] } else { &[] })
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(file);
        // SIGQUIT is an immediate end: no checkpoint, as after a crash.
        let server = ServerProcess::start("postgres", command, Signal::QUIT)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        let began = Instant::now();
        let ready = self.programs.join("pg_isready");
        loop {
            let mut ask = Command::new(&ready);
            ask.args([
                "--quiet",
                "--host",
                "127.0.0.1",
                "--username",
                USER,
                "--port",
                &self.port.to_string(),
            ]);
            if ask.status().context("running pg_isready")?.success() {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "postgres does not answer; it says:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("stopping postgres: {error:#}");
        }
    }
}

/// A folder that the server may write into.
fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").arg("postgres").arg(folder.path()))?;
    }
    Ok(folder)
}

/// `program`, as the user postgres where we are root: it refuses to be root.
fn as_postgres(program: &Path) -> Command {
    let user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
    dies_with_us(program, "QUIT", if rustix::process::geteuid().is_root() { &user } else { &[] })
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The folder of PostgreSQL's programs.
fn programs() -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = folders
        .into_iter()
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    found.context(
        "there is no PostgreSQL here: install Debian's package `postgresql`, as `cargo xtask test` does",
    )
}
