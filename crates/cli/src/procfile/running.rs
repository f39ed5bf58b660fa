use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Program;
use super::guard::Guard;

/// How long a program may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// Between two looks at whether anything that a program has started goes on without it.
const LOOK: Duration = Duration::from_millis(500);

/// The same, while everything ends.
const LAST_LOOK: Duration = Duration::from_millis(20);

/// A line that is longer is cut in several.
const LINE_BYTES: u64 = 64 << 10;

/// What a program says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A line on its standard output or standard error.
    Line { name: String, line: String },
    /// It has ended by itself.
    Ended { name: String, code: Option<i32>, signal: Option<i32> },
}

impl Said {
    /// How a program ended, in words; empty while it has not.
    pub(crate) fn fate(&self) -> String {
        match self {
            Self::Line { .. } => String::new(),
            Self::Ended { code: Some(code), .. } => format!("exit code {code}"),
            Self::Ended { signal: Some(signal), .. } => format!("signal {signal}"),
            Self::Ended { .. } => "for no known reason".to_owned(),
        }
    }
}

/// The process groups of the programs that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups(Arc<Mutex<HashSet<Pid>>>);

impl Groups {
    /// Ends all of them at once, for a process that cannot wait for them.
    pub(crate) fn kill(&self) {
        for group in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            signal(Some(*group), Signal::KILL, "a program");
        }
    }

    /// Keeps `group` until what is returned is dropped.
    fn with(&self, group: Option<Pid>) -> Entry<'_> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(group);
        Entry { groups: self, group }
    }
}

/// A group in [`Groups`].
struct Entry<'a> {
    groups: &'a Groups,
    group: Option<Pid>,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            self.groups.0.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
        }
    }
}

/// Programs that run. Stop them before dropping this.
pub(crate) struct Running {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Starts `programs` by `sh -c`, with `environment` on top of this process's own; what they say goes to `said`.
    /// Their process groups are in `groups` for as long as there is anything in them.
    ///
    /// # Errors
    /// When one cannot be started: those before it are stopped.
    pub(crate) async fn start(
        programs: &[Program],
        environment: &BTreeMap<String, OsString>,
        groups: &Groups,
        said: &mpsc::Sender<Said>,
    ) -> Result<Self> {
        let running = Self { tasks: TaskTracker::new(), stop: CancellationToken::new() };
        for program in programs {
            let started = start(program, environment).with_context(|| {
                format!("start {} of the Procfile in {}", program.name, program.folder.display())
            });
            match started {
                Ok(child) => {
                    running.tasks.spawn(watch(
                        child,
                        program.name.clone(),
                        groups.clone(),
                        said.clone(),
                        running.stop.clone(),
                    ));
                }
                Err(error) => {
                    running.stop().await;
                    return Err(error);
                }
            }
        }
        Ok(running)
    }

    /// Asks all to end, and sees to it that they do.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn start(program: &Program, environment: &BTreeMap<String, OsString>) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", &program.command])
        .current_dir(&program.folder)
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Until the program has ended, by itself or because it was asked to, with all that it has started.
async fn watch(
    mut child: Child,
    name: String,
    groups: Groups,
    said: mpsc::Sender<Said>,
    stop: CancellationToken,
) {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let _entry = groups.with(group);
    let _guard = group.and_then(|group| {
        Guard::start(group)
            .inspect_err(|error| tracing::warn!("{name} would outlive a dev that is killed: {error}"))
            .ok()
    });
    let output = TaskTracker::new();
    if let Some(stdout) = child.stdout.take() {
        output.spawn(lines(stdout, name.clone(), said.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(lines(stderr, name.clone(), said.clone()));
    }
    output.close();
    // The output closes when the last process has ended that writes to it, whoever the shell has started.
    let ended = async {
        let status = child.wait().await;
        output.wait().await;
        status
    };
    let mut ended = std::pin::pin!(ended);
    let by_itself = tokio::select! {
        status = &mut ended => {
            report(status, name.clone(), &said).await;
            true
        }
        () = stop.cancelled() => false,
    };
    // What it has left in the background is of its group, and of no other while it runs.
    if by_itself && stop.run_until_cancelled(empty(group, LOOK)).await.is_some() {
        return;
    }
    signal(group, Signal::TERM, &name);
    let all = async {
        if !by_itself {
            let _ = (&mut ended).await;
        }
        empty(group, LAST_LOOK).await;
    };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("{name} did not end within {GRACE:?} of SIGTERM; killing it");
        signal(group, Signal::KILL, &name);
        if !by_itself {
            // Reaped at least; a process that has left the group may hold the output open.
            let _ = tokio::time::timeout(GRACE, ended).await;
        }
    }
}

/// Until no process is in `group`; looks `every` so often.
async fn empty(group: Option<Pid>, every: Duration) {
    while group.is_some_and(|group| test_kill_process_group(group) != Err(rustix::io::Errno::SRCH)) {
        tokio::time::sleep(every).await;
    }
}

async fn report(status: std::io::Result<ExitStatus>, name: String, said: &mpsc::Sender<Said>) {
    match status {
        Ok(status) => {
            let ended = Said::Ended { name, code: status.code(), signal: status.signal() };
            // Nobody listens any more only when everything ends.
            let _ = said.send(ended).await;
        }
        Err(error) => tracing::error!("{name}: its end cannot be awaited: {error}"),
    }
}

fn signal(group: Option<Pid>, signal: Signal, name: &str) {
    let Some(group) = group else { return };
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => tracing::warn!("{name}: {signal:?} cannot be sent: {error}"),
    }
}

async fn lines(output: impl AsyncRead + Unpin, name: String, said: mpsc::Sender<Said>) {
    let mut output = BufReader::new(output);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match (&mut output).take(LINE_BYTES).read_until(b'\n', &mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
                // Read on all the same: a program whose output is not taken stands still.
                let _ = said.send(Said::Line { name: name.clone(), line }).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(command: &str) -> (Running, mpsc::Receiver<Said>) {
        run_in(command, &Groups::default()).await
    }

    async fn run_in(command: &str, groups: &Groups) -> (Running, mpsc::Receiver<Said>) {
        let (sender, said) = mpsc::channel(100);
        let program = Program { name: "p".to_owned(), command: command.to_owned(), folder: "/".into() };
        let environment = BTreeMap::from([("HEADWATER_SERVER".to_owned(), "http://x:1".into())]);
        let running = Running::start(&[program], &environment, groups, &sender).await.unwrap();
        (running, said)
    }

    fn line(text: &str) -> Said {
        Said::Line { name: "p".to_owned(), line: text.to_owned() }
    }

    fn ended(code: i32) -> Said {
        Said::Ended { name: "p".to_owned(), code: Some(code), signal: None }
    }

    #[tokio::test]
    async fn output_and_end_are_told() {
        let (running, mut said) = run("pwd; echo $HEADWATER_SERVER; exit 3").await;
        assert_eq!(said.recv().await, Some(line("/")));
        assert_eq!(said.recv().await, Some(line("http://x:1")));
        assert_eq!(said.recv().await, Some(ended(3)));
        running.stop().await;
        assert_eq!(said.recv().await, None);
    }

    #[tokio::test]
    async fn a_program_is_asked_to_end_with_all_that_it_started() {
        let (running, mut said) =
            run("trap 'echo bye; exit 0' TERM; (trap 'echo child; exit 0' TERM; echo in; tail -f /dev/null & wait) & echo up; wait; wait").await;
        let mut first = [said.recv().await, said.recv().await];
        first.sort_by_key(|said| format!("{said:?}"));
        assert_eq!(first, [Some(line("in")), Some(line("up"))]);
        running.stop().await;
        let mut rest = Vec::new();
        while let Some(more) = said.recv().await {
            rest.push(more);
        }
        assert!(rest.contains(&line("child")), "{rest:?}");
    }

    /// Starts something in the background that holds no output, and says which process it is.
    const LEAVES_A_CHILD: &str = "sleep 1000 >/dev/null 2>&1 & echo $!";

    async fn child(said: &mut mpsc::Receiver<Said>) -> Pid {
        let Some(Said::Line { line, .. }) = said.recv().await else { panic!("no line") };
        Pid::from_raw(line.parse().unwrap()).unwrap()
    }

    /// Whether `process` has ended, now or soon; whoever has inherited it may not have reaped it.
    async fn ends(process: Pid) -> bool {
        for _ in 0..100 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
            if stat.is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else {
                return true;
            }
        }
        false
    }

    #[tokio::test]
    async fn what_a_program_has_left_in_the_background_ends_too() {
        let (running, mut said) = run(LEAVES_A_CHILD).await;
        let child = child(&mut said).await;
        assert_eq!(said.recv().await, Some(ended(0)));
        running.stop().await;
        assert!(ends(child).await);
    }

    #[tokio::test]
    async fn all_groups_are_killed_at_once() {
        let groups = Groups::default();
        let (running, mut said) = run_in(&format!("trap '' TERM; {LEAVES_A_CHILD}; wait"), &groups).await;
        let child = child(&mut said).await;
        groups.kill();
        assert!(ends(child).await);
        assert!(matches!(said.recv().await, Some(Said::Ended { signal: Some(9), .. })));
        running.stop().await;
        assert!(groups.0.lock().unwrap().is_empty());
    }
}
