//! Whether a process is ready, and what it waits for if not.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// Ready when all of its gates are open. Clones are of one and the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(watch::Sender<BTreeSet<String>>);

/// One thing that a process waits for before it is ready. Dropped unopened, it stays closed: whoever should have opened it is gone.
#[derive(Debug)]
pub struct Gate {
    readiness: Readiness,
    what: String,
}

impl Readiness {
    /// A closed gate; `what` goes after "waiting for", for example `the log's leases`.
    #[must_use = "without its gate, the process is never ready"]
    pub fn wait_for(&self, what: impl Into<String>) -> Gate {
        let gate = Gate { readiness: self.clone(), what: what.into() };
        gate.close();
        gate
    }

    /// What is waited for, in alphabetical order; empty: ready.
    pub fn waiting_for(&self) -> Vec<String> {
        self.0.borrow().iter().cloned().collect()
    }

    /// What is waited for, now and at each change.
    pub fn watch(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.subscribe()
    }
}

impl Gate {
    /// It has come.
    pub fn open(&self) {
        self.readiness.0.send_if_modified(|waiting| waiting.remove(&self.what));
    }

    /// Whether it waits for the same as `other`, so that both are open or closed.
    pub fn is_of(&self, other: &Self) -> bool {
        self.what == other.what
    }

    /// It is waited for, again.
    pub fn close(&self) {
        self.readiness.0.send_if_modified(|waiting| waiting.insert(self.what.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_gates_are_open() {
        let readiness = Readiness::default();
        assert!(readiness.waiting_for().is_empty());
        let (leases, views) = (readiness.wait_for("the leases"), readiness.wait_for("the views"));
        assert_eq!(readiness.waiting_for(), ["the leases", "the views"]);
        leases.open();
        assert_eq!(readiness.waiting_for(), ["the views"]);
        drop(views);
        assert_eq!(readiness.waiting_for(), ["the views"]);
        leases.close();
        assert_eq!(readiness.waiting_for(), ["the leases", "the views"]);
    }
}
