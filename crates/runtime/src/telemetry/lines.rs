//! Log lines on their way out. Whoever logs never waits for whoever reads: a pipe that nobody empties holds up one thread, and no work.
//!
//! ```text
//! any thread ──line──▶ LIMIT bytes ──▶ a thread of its own ──▶ standard error
//!                └─full──▶ counted, and told when there is room again
//! ```

use std::io::Write;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

/// How much may wait to be written: some ten thousand lines.
const LIMIT: usize = 2 << 20;

/// Lines that nobody took in time. There is one log in a process, so there is one count.
static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The lines that this process has lost.
pub(super) fn lost() -> Counter {
    LOST.clone()
}

/// Takes lines, and has them written by a thread of its own. Clones are of one and the same.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lost since this was last told.
    lost: u64,
    /// Something is being written.
    is_writing: bool,
}

impl Lines {
    /// Lines that go to `out`; `tell_lost` says how many did not, for example by logging it.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn to(
        out: impl Write + Send + 'static,
        tell_lost: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        std::thread::Builder::new().name("log".to_owned()).spawn({
            let queue = Arc::clone(&queue);
            move || queue.write(out, tell_lost)
        })?;
        Ok(Self(queue))
    }

    /// Waits until what was taken is written, for `patience` at most.
    pub(super) fn flush(&self, patience: Duration) {
        let unwritten = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        // Who is not read loses what is left: the process ends all the same.
        drop(self.0.changed.wait_timeout_while(self.0.lock(), patience, unwritten));
    }
}

/// A whole line at a time, as the log's formatter writes it.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.lines.len() + line.len() > LIMIT {
            waiting.lost += 1;
            LOST.inc();
        } else {
            waiting.lines.extend_from_slice(line);
        }
        drop(waiting);
        self.0.changed.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For as long as the process lives.
    fn write(&self, mut out: impl Write, tell_lost: impl Fn(u64)) {
        loop {
            let nothing = |waiting: &mut Waiting| waiting.lines.is_empty() && waiting.lost == 0;
            let waiting = self.changed.wait_while(self.lock(), nothing);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut waiting.lines);
            let lost = std::mem::take(&mut waiting.lost);
            waiting.is_writing = true;
            drop(waiting);
            // There is nobody to tell that whoever read the log has gone.
            let _ = out.write_all(&lines);
            if lost > 0 {
                tell_lost(lost);
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Hands on what is written, and waits until it is taken.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whoever_logs_never_waits_and_what_is_lost_is_told() {
        const PATIENCE: Duration = Duration::from_mins(1);
        let (pipe, read) = mpsc::sync_channel(0);
        let (tell, told) = mpsc::channel();
        let tell_lost = move |lost| tell.send(lost).unwrap();
        let mut lines = Lines::to(Pipe(pipe), tell_lost).unwrap();
        let line = vec![b'x'; LIMIT / 4];
        let before = lost().get();
        lines.write_all(&line).unwrap();
        let began = std::time::Instant::now();
        while !lines.0.lock().lines.is_empty() {
            assert!(began.elapsed() < PATIENCE, "nobody takes the first");
            std::thread::yield_now();
        }
        // Four fit in behind the one that is on its way, and those after them do not.
        for _ in 0..6 {
            lines.write_all(&line).unwrap();
        }
        let missing = lost().get() - before;
        assert_eq!(missing, 2);
        lines.flush(Duration::from_millis(1));
        let mut found = 0;
        while found < (7 - missing) as usize * line.len() {
            found += read.recv_timeout(PATIENCE).unwrap().len();
        }
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), missing);
        lines.write_all(b"last\n").unwrap();
        assert_eq!(read.recv_timeout(PATIENCE).unwrap(), b"last\n");
        lines.flush(PATIENCE);
        drop(read);
        lines.write_all(b"nobody reads any more\n").unwrap();
        lines.flush(PATIENCE);
    }
}
