//! An account as its own events make it. Pure: what is read, and from where, is `bank`'s matter.

use std::collections::HashMap;

use crate::event::Event;
use crate::refusal::Refusal;

/// The fold of one account's own stream, up to `version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    id: String,
    name: Option<String>,
    version: u64,
    /// Deposits less withdrawals and outgoing transfers. Below zero where the account lives on what others sent it.
    own: i128,
    /// What was sent to other banks, and came from them.
    sendings: HashMap<String, Sending>,
}

/// What the account has to do with something that is sent from bank to bank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    /// So much has left the account.
    Withdrawn(u64),
    /// Nothing leaves the account or comes to it any more.
    Returned,
    /// It has come.
    Received,
}

impl Account {
    /// The account `id` before its first event.
    pub(crate) fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), name: None, version: 0, own: 0, sendings: HashMap::new() }
    }

    /// Its number.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The version of the last event that is in the fold; 0 before the first.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Whether the account has been opened.
    pub(crate) fn exists(&self) -> bool {
        self.name.is_some()
    }

    /// Takes the account's next event.
    ///
    /// # Errors
    /// When it is not the next one or not this account's: folding on would make up a balance.
    pub(crate) fn apply(&mut self, version: u64, event: &Event) -> Result<(), WrongEvent> {
        if version != self.version + 1 || event.account() != self.id {
            return Err(WrongEvent {
                account: self.id.clone(),
                expected: self.version + 1,
                version,
                event: event.to_string(),
            });
        }
        match event {
            Event::Create { acc_name, .. } => self.name = Some(acc_name.clone()),
            Event::Deposit { amount, .. } => self.own += i128::from(*amount),
            Event::Withdraw { amount, .. } | Event::Transfer { amount, .. } => {
                self.own -= i128::from(*amount);
            }
            Event::SendWithdraw { send_id, amount, .. } => {
                self.own -= i128::from(*amount);
                self.sendings.insert(send_id.clone(), Sending::Withdrawn(*amount));
            }
            Event::SendReturn { send_id, amount, .. } => {
                self.own += i128::from(*amount);
                self.sendings.insert(send_id.clone(), Sending::Returned);
            }
            Event::Receive { send_id, amount, .. } => {
                self.own += i128::from(*amount);
                self.sendings.insert(send_id.clone(), Sending::Received);
            }
        }
        self.version = version;
        Ok(())
    }

    /// What it has to do with the sending, if anything.
    pub(crate) fn sending(&self, send_id: &str) -> Option<Sending> {
        self.sendings.get(send_id).copied()
    }

    /// What the account can spend at this version, of which `incoming` came by transfers from others.
    pub(crate) fn available(&self, incoming: u128) -> i128 {
        self.own.saturating_add_unsigned(incoming)
    }

    /// Decides whether `amount` may leave the account at this version.
    ///
    /// `incoming` may be older than the version: incoming transfers only grow, so an old sum refuses too much and never too little.
    ///
    /// # Errors
    /// [`Refusal::UnknownAccount`], [`Refusal::InsufficientBalance`].
    pub(crate) fn check_debit(&self, amount: u64, incoming: u128) -> Result<(), Refusal> {
        self.check_open()?;
        let available = self.available(incoming);
        if available < i128::from(amount) {
            return Err(Refusal::InsufficientBalance { account: self.id.clone(), available, amount });
        }
        Ok(())
    }

    /// Decides whether the account can take part in anything.
    ///
    /// # Errors
    /// [`Refusal::UnknownAccount`].
    pub(crate) fn check_open(&self) -> Result<(), Refusal> {
        if self.exists() { Ok(()) } else { Err(Refusal::UnknownAccount(self.id.clone())) }
    }
}

/// An event that cannot follow in an account's stream.
#[derive(Debug, thiserror::Error)]
#[error(
    "the stream of account {account} should go on with its version {expected}, but has version {version}: {event}; look at it with `headwater read account-{account}`"
)]
pub(crate) struct WrongEvent {
    account: String,
    expected: u64,
    version: u64,
    event: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(events: &[Event]) -> Account {
        let mut account = Account::new("a");
        for (version, event) in (1..).zip(events) {
            account.apply(version, event).unwrap();
        }
        account
    }

    fn create() -> Event {
        Event::Create { acc_id: "a".into(), acc_name: "Adam Pahlevi".into() }
    }

    fn deposit(amount: u64) -> Event {
        Event::Deposit { acc_id: "a".into(), amount }
    }

    fn withdraw(amount: u64) -> Event {
        Event::Withdraw { acc_id: "a".into(), amount }
    }

    fn transfer(amount: u64) -> Event {
        Event::Transfer { acc_id: "a".into(), target_id: "b".into(), amount }
    }

    #[test]
    fn what_is_available_is_the_fold_plus_what_came_in() {
        fn check(events: &[Event], incoming: u128, available: i128) {
            assert_eq!(account(events).available(incoming), available, "{events:?} + {incoming}");
        }
        check(&[create()], 0, 0);
        check(&[create(), deposit(2000)], 0, 2000);
        check(&[create(), deposit(2000), withdraw(2000)], 0, 0);
        check(&[create(), deposit(5000), transfer(1000)], 0, 4000);
        check(&[create()], 1000, 1000);
        check(&[create(), withdraw(700)], 1000, 300);
        check(&[create(), withdraw(700)], 0, -700);
        let (acc_id, send_id) = ("a".to_owned(), "s".to_owned());
        let sent = Event::SendWithdraw { acc_id: acc_id.clone(), send_id: send_id.clone(), amount: 300 };
        let returned = Event::SendReturn { acc_id: acc_id.clone(), send_id: send_id.clone(), amount: 300 };
        let received = Event::Receive { acc_id, send_id, amount: 300 };
        check(&[create(), deposit(500), sent.clone()], 0, 200);
        check(&[create(), deposit(500), sent.clone(), returned.clone()], 0, 500);
        check(&[create(), received.clone()], 0, 300);
        for (events, sending) in [
            (vec![create()], None),
            (vec![create(), sent.clone()], Some(Sending::Withdrawn(300))),
            (vec![create(), sent, returned], Some(Sending::Returned)),
            (vec![create(), received], Some(Sending::Received)),
        ] {
            assert_eq!(account(&events).sending("s"), sending, "{events:?}");
        }
    }

    #[test]
    fn a_debit_takes_what_is_there_and_not_a_unit_more() {
        let account = account(&[create(), deposit(500)]);
        assert!(account.check_debit(500, 0).is_ok());
        assert!(account.check_debit(600, 100).is_ok());
        match account.check_debit(601, 100) {
            Err(Refusal::InsufficientBalance { available: 600, amount: 601, .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_account_without_events_is_unknown() {
        assert!(
            matches!(Account::new("a").check_debit(1, 1000), Err(Refusal::UnknownAccount(id)) if id == "a")
        );
        assert!(matches!(Account::new("a").check_open(), Err(Refusal::UnknownAccount(_))));
        assert!(account(&[create()]).check_open().is_ok());
    }

    #[test]
    fn an_event_out_of_order_or_of_another_account_is_no_event_of_it() {
        let mut account = account(&[create(), deposit(500)]);
        let before = account.clone();
        assert!(account.apply(2, &deposit(1)).is_err());
        assert!(account.apply(4, &deposit(1)).is_err());
        assert!(account.apply(3, &Event::Deposit { acc_id: "b".into(), amount: 1 }).is_err());
        assert_eq!(account, before);
        assert!(account.apply(3, &deposit(1)).is_ok());
    }
}
