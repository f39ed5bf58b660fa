//! Many events from standard input.
//!
//! ```text
//! standard input ──reader thread──▶ lines ──▶ a queue for each stream id ──▶ appends in flight
//!                                             (order is kept)                (at most one for each stream id)
//! ```
//! While an append of a stream id is under way, its further lines gather and go together in the next one. So order holds within
//! a stream id, many stream ids are under way at once, and after a refusal nothing of that stream id follows.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, IsTerminal, Read};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use headwater_api::Client;
use headwater_core::{
    Append, AppendLimits, Appended, Error, Expected, Positions, RetryPolicy, StreamId, Token,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::line::{self, Line, LoadId};
use crate::console::{self, Console};
use crate::failure::{Exit, Failure};

/// Lines that wait in the queues of their stream ids; beyond that reading waits.
const QUEUED_LINES: usize = 20_000;
/// Bytes that wait there.
const QUEUED_BYTES: usize = 32 << 20;
/// Lines that the reader may be ahead.
const LINES_AHEAD: usize = 1_000;
/// Appends under way at once: below the 200 calls that servers of HTTP/2 commonly allow on a connection.
const IN_FLIGHT: usize = 128;
/// The longest line: the largest event twice over, for what escapes add.
const LINE_BYTES: u64 = 4 << 20;

/// A server may be started again under a load; about a minute.
const RETRY: RetryPolicy = RetryPolicy {
    name: "load",
    attempts: 30,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(2),
};

/// What the reader gives: a line and the bytes that it took, or why there is none.
type Taken = Result<(Line, u64), Stopped>;

/// Why a load ended early.
#[derive(Debug)]
struct Stopped {
    /// The line at which; 0: none.
    line: u64,
    error: anyhow::Error,
}

/// The end of one append.
struct Outcome {
    stream_id: StreamId,
    stored: Vec<Line>,
    last: Option<Appended>,
    stopped: Option<Stopped>,
}

pub(super) async fn run(client: Client, name: Option<String>, console: &Console) -> Result<()> {
    let name = name.unwrap_or_else(|| Uuid::now_v7().to_string());
    eprintln!("load {name}: repeat with --load {name} if this is interrupted");
    let mut lines = read_lines(LoadId::new(&name));
    let mut load = Load::new(client.with_retry(RETRY));
    let begin = Instant::now();
    let mut signals = Signals::new().context("listen to signals")?;
    loop {
        load.dispatch();
        if load.is_done() {
            break;
        }
        tokio::select! {
            biased;
            read = lines.recv(), if load.wants_lines() => load.take(read),
            Some(outcome) = load.in_flight.next() => load.finish(outcome),
            exit = signals.next() => {
                load.stop(Stopped { line: 0, error: Failure::signalled(exit).into() });
                load.interrupted = true;
                load.in_flight.clear();
            }
        }
    }
    load.progress.finish_and_clear();
    report(load, &name, begin.elapsed(), console)
}

fn report(load: Load, name: &str, took: Duration, console: &Console) -> Result<()> {
    let rate = load.stored as f64 / took.as_secs_f64().max(0.001);
    if console.is_json() {
        console.json(&json!({
            "stored": load.stored,
            "seconds": took.as_secs_f64(),
            "token": load.token,
            "load": name,
            "failed_line": load.stopped.as_ref().map(|stopped| stopped.line).filter(|line| *line > 0),
        }))?;
    } else if load.stopped.is_none() {
        let stored = console::count(load.stored, "event");
        console.line(&format!("stored {stored} in {:.1} s ({rate:.0} events/s)", took.as_secs_f64()))?;
        if let Some(token) = &load.token {
            console.line(&format!("token  {token}"))?;
        }
    }
    // An append whose answer has not come may be stored all the same.
    let unsure =
        load.interrupted || load.stopped.as_ref().is_some_and(|stopped| is_transient(&stopped.error));
    let Some(Stopped { line, error }) = load.stopped else { return Ok(()) };
    let place = if line > 0 { format!("line {line} of standard input: ") } else { String::new() };
    let stored = console::count(load.stored, "event");
    let at_least = if unsure { "at least " } else { "" };
    let message = format!("{place}{error:#}; {at_least}{stored} of this load are stored");
    let hint = format!(
        "correct what is wrong, leave every line at its number, and run it again with --load {name}: what is stored is not stored again"
    );
    Err(Failure::failed(message).like(&error).hint(hint).into())
}

/// Those that end a load.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.hang_up.recv() => Exit::HungUp,
        }
    }
}

struct Load {
    client: Client,
    /// Lines that wait, by stream id, in order. A stream id that is under way has an entry too.
    queues: HashMap<StreamId, VecDeque<Line>>,
    /// Stream ids that have lines and are not under way.
    ready: VecDeque<StreamId>,
    in_flight: FuturesUnordered<futures_util::future::BoxFuture<'static, Outcome>>,
    queued_lines: usize,
    queued_bytes: usize,
    reading: bool,
    /// By a signal.
    interrupted: bool,
    stored: u64,
    token: Option<Token>,
    /// The first line that could not be stored.
    stopped: Option<Stopped>,
    progress: ProgressBar,
}

impl Load {
    fn new(client: Client) -> Self {
        Self {
            client,
            queues: HashMap::new(),
            ready: VecDeque::new(),
            in_flight: FuturesUnordered::new(),
            queued_lines: 0,
            queued_bytes: 0,
            reading: true,
            interrupted: false,
            stored: 0,
            token: None,
            stopped: None,
            progress: progress(),
        }
    }

    fn is_done(&self) -> bool {
        !self.reading && self.in_flight.is_empty()
    }

    fn wants_lines(&self) -> bool {
        self.reading && self.queued_lines < QUEUED_LINES && self.queued_bytes < QUEUED_BYTES
    }

    /// Takes a line; `None`: that was the last.
    fn take(&mut self, read: Option<Taken>) {
        match read {
            None => self.reading = false,
            Some(Err(stopped)) => self.stop(stopped),
            Some(Ok((line, bytes))) => {
                self.progress.inc(bytes);
                self.queued_lines += 1;
                self.queued_bytes += line.event.data.len();
                let stream_id = line.stream_id.clone();
                self.queues
                    .entry(stream_id.clone())
                    .or_insert_with(|| {
                        self.ready.push_back(stream_id);
                        VecDeque::new()
                    })
                    .push_back(line);
            }
        }
    }

    /// Sends what may be sent.
    fn dispatch(&mut self) {
        while self.in_flight.len() < IN_FLIGHT {
            let Some(stream_id) = self.ready.pop_front() else { return };
            let Some(queue) = self.queues.get_mut(&stream_id) else { continue };
            let lines = batch(queue);
            self.queued_lines -= lines.len();
            self.queued_bytes -= lines.iter().map(|line| line.event.data.len()).sum::<usize>();
            if !lines.is_empty() {
                self.in_flight.push(Box::pin(store(self.client.clone(), stream_id, lines)));
            }
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.stored += outcome.stored.len() as u64;
        self.progress.set_message(console::count(self.stored, "event"));
        if let Some(appended) = outcome.last {
            let token = self.token.get_or_insert_with(|| Token::new(appended.log_id, Positions::default()));
            token.positions.advance_to(&appended.token().positions);
        }
        match outcome.stopped {
            Some(stopped) => {
                self.forget(&outcome.stream_id);
                self.stop(stopped);
            }
            None if self.queues.get(&outcome.stream_id).is_some_and(|queue| !queue.is_empty()) => {
                self.ready.push_back(outcome.stream_id);
            }
            None => {
                self.queues.remove(&outcome.stream_id);
            }
        }
    }

    /// Reads no further. Lines before the one at fault are still stored, those after it are not begun.
    fn stop(&mut self, stopped: Stopped) {
        self.reading = false;
        let last = if is_transient(&stopped.error) { 0 } else { stopped.line };
        for queue in self.queues.values_mut() {
            queue.retain(|line| line.number < last);
        }
        self.count_queued();
        // Of several, the first line is what has to be corrected first.
        if self.stopped.as_ref().is_none_or(|earlier| stopped.line < earlier.line) {
            self.stopped = Some(stopped);
        }
    }

    fn forget(&mut self, stream_id: &StreamId) {
        self.queues.remove(stream_id);
        self.count_queued();
    }

    fn count_queued(&mut self) {
        self.queued_lines = self.queues.values().map(VecDeque::len).sum();
        self.queued_bytes = self.queues.values().flatten().map(|line| line.event.data.len()).sum();
    }
}

/// Whether sending more is of no use now.
fn is_transient(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_retryable)
}

/// Takes from `queue` what goes into one request. An expectation holds for the first event of a request, so it begins one.
fn batch(queue: &mut VecDeque<Line>) -> Vec<Line> {
    let limits = AppendLimits::default();
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while let Some(line) = queue.front() {
        let size = line.event.data.len() + line.event.metadata.as_bytes().len();
        let full = lines.len() == limits.events || bytes + size > limits.request_bytes;
        if !lines.is_empty() && (full || line.expected != Expected::Any) {
            break;
        }
        bytes += size;
        lines.extend(queue.pop_front());
    }
    lines
}

/// Stores `lines`, all of `stream_id`. A request that is refused is repeated line by line, to find the one at fault; or to find
/// which are stored already, when the load is a repetition.
async fn store(client: Client, stream_id: StreamId, lines: Vec<Line>) -> Outcome {
    let append = Append {
        stream_id: stream_id.clone(),
        expected: lines[0].expected,
        events: lines.iter().map(|line| line.event.clone()).collect(),
    };
    let refused = match client.append(&append).await {
        Ok(appended) => return Outcome { stream_id, stored: lines, last: Some(appended), stopped: None },
        Err(error) => error,
    };
    if lines.len() == 1 || refused.is_retryable() {
        let stopped = Stopped { line: lines[0].number, error: within_line(refused).into() };
        return Outcome { stream_id, stored: Vec::new(), last: None, stopped: Some(stopped) };
    }
    let (mut stored, mut last) = (Vec::new(), None);
    for line in lines {
        match client.append(&line::one(&line)).await {
            Ok(appended) => last = Some(appended),
            Err(error) => {
                let stopped = Stopped { line: line.number, error: within_line(error).into() };
                return Outcome { stream_id, stored, last, stopped: Some(stopped) };
            }
        }
        stored.push(line);
    }
    Outcome { stream_id, stored, last, stopped: None }
}

/// The field as the line has it, not as the request had.
fn within_line(error: Error) -> Error {
    match error {
        Error::Invalid { field, message } => {
            Error::Invalid { field: field.trim_start_matches("events[0].").to_owned(), message }
        }
        other => other,
    }
}

/// Reads standard input on a thread of its own, which ends with the input, with a fault, or when nobody listens any more.
fn read_lines(load: LoadId) -> mpsc::Receiver<Taken> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut number = 0;
        let mut text = Vec::new();
        loop {
            text.clear();
            number += 1;
            let read = match (&mut input).take(LINE_BYTES).read_until(b'\n', &mut text) {
                Ok(0) => return,
                Ok(bytes) if bytes as u64 == LINE_BYTES && text.last() != Some(&b'\n') => {
                    let message =
                        format!("longer than {LINE_BYTES} bytes; an event has at most 1 MiB of data");
                    Err(Stopped { line: number, error: Error::invalid("line", message).into() })
                }
                Ok(_) if text.trim_ascii().is_empty() => continue,
                Ok(bytes) => line::parse(text.trim_ascii(), number, load)
                    .map(|line| (line, bytes as u64))
                    .map_err(|error| Stopped { line: number, error: error.into() }),
                Err(error) => {
                    Err(Stopped { line: number, error: anyhow::Error::from(error).context("read") })
                }
            };
            let end = read.is_err();
            if sender.blocking_send(read).is_err() || end {
                return;
            }
        }
    });
    lines
}

/// A bar where the input is a file, else a count; on standard error, where that is a terminal.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let size = std::fs::metadata("/dev/stdin").ok().filter(std::fs::Metadata::is_file).map(|file| file.len());
    let (bar, template) = match size {
        Some(size) => (ProgressBar::new(size), "{bar:30} {percent:>3} %  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, expected: &str, size: usize) -> Line {
        let data = "x".repeat(size);
        let text = format!(r#"{{"stream_id":"a","type":"b","data":"{data}","expected":"{expected}"}}"#);
        line::parse(text.as_bytes(), number, LoadId::new("test")).unwrap()
    }

    fn batches(lines: Vec<Line>) -> Vec<Vec<u64>> {
        let mut queue = VecDeque::from(lines);
        let mut batches = Vec::new();
        while !queue.is_empty() {
            batches.push(batch(&mut queue).iter().map(|line| line.number).collect());
        }
        batches
    }

    #[test]
    fn lines_gather_up_to_the_limits_and_to_the_next_expectation() {
        assert_eq!(batches(vec![line(1, "any", 1), line(2, "any", 1), line(3, "any", 1)]), [[1, 2, 3]]);
        assert_eq!(
            batches(vec![line(1, "no_stream", 1), line(2, "any", 1), line(3, "exists", 1), line(4, "3", 1)]),
            [vec![1, 2], vec![3], vec![4]]
        );
        let many = (1..=2_500).map(|number| line(number, "any", 1)).collect();
        assert_eq!(batches(many).iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let large = (1..=6).map(|number| line(number, "any", 1_000_000)).collect();
        assert_eq!(batches(large), [vec![1, 2, 3, 4], vec![5, 6]]);
    }
}
