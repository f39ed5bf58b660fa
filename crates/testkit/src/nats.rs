//! A real NATS server with JetStream in a folder of its own, on the loopback address, that syncs what it acknowledges.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::server_process::{ServerProcess, dies_with_us, free_ports, shared};
use crate::tools;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server. It ends with its last handle, and with this process.
pub struct Nats {
    folder: TempDir,
    program: PathBuf,
    port: u16,
    server: Mutex<Option<ServerProcess>>,
}

static SHARED: Mutex<Weak<Nats>> = Mutex::new(Weak::new());

impl Nats {
    /// The server that the tests of this process share; started when there is none.
    ///
    /// # Errors
    /// When there is no NATS server on this machine, or it does not start.
    pub fn shared() -> Result<Arc<Self>> {
        shared(&SHARED, || Self::start(""))
    }

    /// A server of one's own, to be restarted and killed; `more` is added to its configuration.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start(more: &str) -> Result<Self> {
        let program = tools::nats_server()?;
        ensure!(
            program.is_file(),
            "there is no NATS server at {}: `cargo xtask test` builds it",
            program.display()
        );
        let folder = tempfile::tempdir()?;
        let [port] = free_ports()?;
        let mut config = format!("listen: \"127.0.0.1:{port}\"\n");
        writeln!(
            config,
            "jetstream {{\n  store_dir: \"{}\"\n  sync_interval: always\n}}\n{more}",
            folder.path().join("data").display()
        )?;
        std::fs::write(folder.path().join("nats.conf"), config)?;
        let server = Self { folder, program, port, server: Mutex::new(None) };
        server.resume()?;
        Ok(server)
    }

    /// `nats://…`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its messages; to be copied and put back while it does not run.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends it as a crash would.
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
        let log = self.folder.path().join("nats.log");
        let mut command = dies_with_us(&self.program, "KILL", &[]);
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        command.arg("-c").arg(self.folder.path().join("nats.conf")).stdout(Stdio::null()).stderr(file);
        let server = ServerProcess::start("nats-server", command, Signal::KILL)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        let began = Instant::now();
        while greeting(self.port).is_err() {
            ensure!(
                began.elapsed() < PATIENCE,
                "the NATS server does not answer; it says:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A message of the stream `stream` as a NATS client that knows nothing of Headwater sees it: the text of its headers, and its payload. Speaks the
    /// protocol by hand.
    ///
    /// # Errors
    /// When there is no such message.
    pub fn raw_message(&self, stream: &str, sequence: u64) -> Result<(String, Vec<u8>)> {
        let mut connection = BufReader::new(greeting(self.port)?);
        let request = format!("{{\"seq\":{sequence}}}");
        write!(
            connection.get_mut(),
            "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true}}\r\nSUB answer 1\r\nPUB $JS.API.DIRECT.GET.{stream} answer {}\r\n{request}\r\n",
            request.len()
        )?;
        let mut line = String::new();
        while !line.starts_with("HMSG ") {
            line.clear();
            ensure!(connection.read_line(&mut line)? > 0, "the server hung up");
            ensure!(!line.starts_with("-ERR"), "{line}");
        }
        let mut sizes = line.split_whitespace().rev();
        let all: usize = sizes.next().context("a size")?.parse()?;
        let headers: usize = sizes.next().context("the headers' size")?.parse()?;
        let mut content = vec![0; all];
        connection.read_exact(&mut content)?;
        let payload = content.split_off(headers);
        Ok((String::from_utf8(content)?, payload))
    }

    /// Copies what it keeps, while it does not run.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy_data(from: &Path, to: &Path) -> Result<()> {
        let output = std::process::Command::new("cp").arg("-a").arg(from).arg(to).output()?;
        ensure!(output.status.success(), "copying: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("stopping the NATS server: {error:#}");
        }
    }
}

/// A connection, once the server has said who it is.
fn greeting(port: u16) -> Result<TcpStream> {
    let mut connection = TcpStream::connect(("127.0.0.1", port))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut info = [0; 5];
    connection.read_exact(&mut info)?;
    ensure!(&info == b"INFO ", "not a NATS server");
    Ok(connection)
}
