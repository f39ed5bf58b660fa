//! A server of somebody else's, as a process that does not outlive the test.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running server. It ends with this handle, and with this process.
pub(crate) struct ServerProcess {
    stop: mpsc::Sender<()>,
    /// The thread that started it: a death signal is bound to the thread that asked for it.
    thread: JoinHandle<Result<()>>,
}

impl ServerProcess {
    /// Starts `command`, which [`dies_with_us`] made. It ends by `signal`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(name: &str, mut command: Command, signal: Signal) -> Result<Self> {
        // What a terminal sends is for the test, or for `up`, which ends it when nobody uses it any more.
        command.stdin(Stdio::null()).process_group(0);
        let (stop, stopped) = mpsc::channel::<()>();
        let (tell, started) = mpsc::channel();
        let what = name.to_owned();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let child = command.spawn();
            let is_started = child.as_ref().map(drop).map_err(std::io::Error::kind);
            // Nobody waits for it any more only when the test is gone.
            let _ = tell.send(is_started);
            let child = child.with_context(|| format!("starting {what}"))?;
            // Nothing is ever sent: an error means that the last handle is gone.
            let _ = stopped.recv();
            end(child, signal, &what)
        })?;
        match started.recv().with_context(|| format!("the thread of {name}"))? {
            Ok(()) => Ok(Self { stop, thread }),
            Err(kind) => bail!("{name} could not be started: {kind}"),
        }
    }

    /// Ends it, and waits until it has.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread of the server panicked"))?
    }
}

fn end(mut child: Child, signal: Signal, what: &str) -> Result<()> {
    // It may have ended by itself.
    if child.try_wait().with_context(|| format!("looking at {what}"))?.is_none() {
        kill_process(Pid::from_child(&child), signal).with_context(|| format!("stopping {what}"))?;
        child.wait().with_context(|| format!("waiting for {what}"))?;
    }
    Ok(())
}

/// A command for `program` that ends by the signal of this name when the thread does that starts it; `more` is said to `setpriv`.
pub fn dies_with_us(program: &std::path::Path, signal: &str, more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]).args(more).arg("--").arg(program);
    command
}

/// What `slot` holds, if somebody still has it; else what `start` starts, for all who ask from now on.
///
/// # Errors
/// As `start`.
pub(crate) fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = slot.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(start()?);
    *slot = Arc::downgrade(&server);
    Ok(server)
}

/// Ports that nobody uses now, all different.
///
/// # Errors
/// When there are none.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
