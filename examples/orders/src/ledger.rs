//! What a participant of a saga remembers: each request that it has answered, by its idempotency key, in a file.
//!
//! ```text
//! action ───────▶ key known? ──▶ the same answer        order undone or done? ──▶ refused       else: the service decides
//! compensation ─▶ key known? ──▶ the same answer        order not done?       ──▶ remembered, so that the action is refused
//!                      every new answer ──▶ .orders/NAME.jsonl, one line each, on the disk before it is given
//! ```
//! That is all that a saga asks of a participant: the same key counts once; a compensation may come before its action, or without one;
//! and an action that comes after its compensation does nothing.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Why something is not done, and never will be under its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// For people.
    pub(crate) detail: String,
}

impl Refusal {
    /// The order is in a state that does not allow it.
    pub(crate) fn conflict(detail: impl Into<String>) -> Self {
        Self { status: 409, detail: detail.into() }
    }

    /// It is understood, and the answer is no.
    pub(crate) fn declined(detail: impl Into<String>) -> Self {
        Self { status: 422, detail: detail.into() }
    }
}

/// Which way a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    Do,
    Undo,
}

/// A line of the ledger: a request, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry<T> {
    pub(crate) key: String,
    pub(crate) order_id: String,
    pub(crate) way: Way,
    /// What was asked for; of a compensation: what it undoes, `None` when that was never done.
    pub(crate) what: Option<T>,
    /// Of a compensation: the key under which that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) undoes: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refusal>,
}

/// How far a participant is with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Done, under this key.
    Done(String),
    Undone,
}

/// The ledger of one service. Its file belongs to one process at a time.
#[derive(Debug)]
pub(crate) struct Ledger<T> {
    file: File,
    /// Bytes of the file that are whole lines.
    length: u64,
    entries: HashMap<String, Entry<T>>,
    orders: HashMap<String, Standing>,
}

impl<T: Clone + Serialize + DeserializeOwned> Ledger<T> {
    /// Opens the ledger `name` in `folder`, or begins it.
    ///
    /// # Errors
    /// When another process has it, or it cannot be read.
    pub(crate) fn open(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let path = folder.join(format!("{name}.jsonl"));
        let mut ledger = fs::create_dir_all(folder)
            .and_then(|()| OpenOptions::new().read(true).append(true).create(true).open(&path))
            .map(|file| Self { file, length: 0, entries: HashMap::new(), orders: HashMap::new() })
            .with_context(|| format!("opening the ledger {}", path.display()))?;
        if ledger.file.try_lock().is_err() {
            bail!("the ledger {} is in use by another process: give --data another folder", path.display());
        }
        ledger.load().with_context(|| format!("reading the ledger {}", path.display()))?;
        Ok(ledger)
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let mut text = String::new();
        self.file.read_to_string(&mut text)?;
        for (number, line) in text.split_inclusive('\n').enumerate() {
            // Nobody was given the answer of a line that was not finished.
            let Some(line) = line.strip_suffix('\n') else { break };
            let entry = serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
            self.length += line.len() as u64 + 1;
            self.remember(entry);
        }
        self.file.set_len(self.length).context("cutting what was not finished")
    }

    /// Does `what` for an order, unless that was done, refused or undone before, or `decide` refuses it.
    ///
    /// # Errors
    /// When it cannot be written down: then nothing is done.
    pub(crate) fn act(
        &mut self,
        key: &str,
        order_id: &str,
        what: T,
        decide: impl FnOnce(&T) -> Result<(), Refusal>,
    ) -> io::Result<Entry<T>> {
        if let Some(known) = self.entries.get(key) {
            return Ok(same_request(known, order_id, Way::Do));
        }
        let refused = match self.orders.get(order_id) {
            Some(Standing::Undone) => {
                Some(Refusal::conflict(format!("too late: it was undone for order {order_id} before")))
            }
            Some(Standing::Done(other)) => {
                Some(Refusal::conflict(format!("it was done for order {order_id} under the key {other}")))
            }
            None => decide(&what).err(),
        };
        let (key, order_id) = (key.to_owned(), order_id.to_owned());
        self.record(Entry { key, order_id, way: Way::Do, what: Some(what), undoes: None, refused })
    }

    /// Undoes what was done for an order; when nothing was, sees to it that nothing will be.
    ///
    /// # Errors
    /// When it cannot be written down: then nothing is undone.
    pub(crate) fn undo(&mut self, key: &str, order_id: &str) -> io::Result<Entry<T>> {
        if let Some(known) = self.entries.get(key) {
            return Ok(same_request(known, order_id, Way::Undo));
        }
        let done = self.done(order_id);
        let (what, undoes) = (done.and_then(|done| done.what.clone()), done.map(|done| done.key.clone()));
        let (key, order_id) = (key.to_owned(), order_id.to_owned());
        self.record(Entry { key, order_id, way: Way::Undo, what, undoes, refused: None })
    }

    /// What is done for an order and not undone.
    fn done(&self, order_id: &str) -> Option<&Entry<T>> {
        match self.orders.get(order_id)? {
            Standing::Done(key) => self.entries.get(key),
            Standing::Undone => None,
        }
    }

    fn record(&mut self, entry: Entry<T>) -> io::Result<Entry<T>> {
        let mut line = serde_json::to_vec(&entry)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // The next line must not go on in the middle of this one.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.remember(entry.clone());
        Ok(entry)
    }

    fn remember(&mut self, entry: Entry<T>) {
        let standing = match entry.way {
            Way::Do => entry.refused.is_none().then(|| Standing::Done(entry.key.clone())),
            Way::Undo => Some(Standing::Undone),
        };
        if let Some(standing) = standing {
            self.orders.insert(entry.order_id.clone(), standing);
        }
        self.entries.insert(entry.key.clone(), entry);
    }
}

/// The answer to a key that is known: the one that was given, if this is the request that it was given to.
fn same_request<T: Clone>(known: &Entry<T>, order_id: &str, way: Way) -> Entry<T> {
    if known.order_id == order_id && known.way == way {
        return known.clone();
    }
    let detail = format!("the key {} is that of another request, for order {}", known.key, known.order_id);
    Entry { refused: Some(Refusal::declined(detail)), ..known.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Ledger<u32> {
        Ledger::open(folder, "test").unwrap()
    }

    fn act(ledger: &mut Ledger<u32>, key: &str, order: &str) -> Result<u32, String> {
        let decide = |what: &u32| if *what > 9 { Err(Refusal::declined("too much")) } else { Ok(()) };
        let what = order.len() as u32;
        let entry = ledger.act(key, order, what, decide).unwrap();
        entry.refused.map_or(Ok(what), |refusal| Err(refusal.detail))
    }

    fn undo(ledger: &mut Ledger<u32>, key: &str, order: &str) -> Option<u32> {
        ledger.undo(key, order).unwrap().what
    }

    #[test]
    fn a_key_has_one_answer_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut ledger = open(folder.path());
            for _ in 0..2 {
                assert_eq!(act(&mut ledger, "do-1", "one"), Ok(3));
                assert_eq!(act(&mut ledger, "do-2", "an-order-too-long"), Err("too much".into()));
                assert_eq!(undo(&mut ledger, "undo-1", "one"), Some(3));
                assert_eq!(ledger.done("one"), None);
            }
        }
        let text = fs::read_to_string(folder.path().join("test.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn an_action_that_comes_after_its_compensation_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        assert_eq!(undo(&mut ledger, "undo-1", "one"), None);
        for _ in 0..2 {
            let late = act(&mut ledger, "do-1", "one").unwrap_err();
            assert!(late.starts_with("too late"), "{late}");
        }
    }

    #[test]
    fn a_key_of_another_request_and_another_key_for_the_same_order_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        assert_eq!(act(&mut ledger, "do-1", "one"), Ok(3));
        assert!(act(&mut ledger, "do-1", "two").unwrap_err().contains("another request"));
        assert!(act(&mut ledger, "do-2", "one").unwrap_err().contains("under the key do-1"));
        assert_eq!(ledger.done("one").map(|entry| entry.key.as_str()), Some("do-1"));
    }

    #[test]
    fn a_line_that_was_not_finished_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(act(&mut open(folder.path()), "do-1", "one"), Ok(3));
        let path = folder.path().join("test.jsonl");
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{}", &whole[..20])).unwrap();
        let mut ledger = open(folder.path());
        assert_eq!(act(&mut ledger, "do-2", "second"), Ok(6));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        assert!(Ledger::<u32>::open(folder.path(), "test").is_err(), "one process at a time");
    }
}
