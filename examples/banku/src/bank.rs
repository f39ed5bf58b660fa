//! Carries commands out so that no account is ever overdrawn, however many prompts there are.
//!
//! What an account can spend at version v of its own stream is the fold of that stream up to v plus the incoming transfers that the
//! projection has seen. The append of a debit expects version v, so of two prompts that decided on the same version one stores and the
//! other decides again. Incoming transfers only grow: a projection that is behind makes the bank refuse too much at worst, so before it
//! refuses it waits until the projection has seen this prompt's own appends, and looks once more.

use std::fmt;

use anyhow::{Context, anyhow};
use headwater_core::{Appended, Error, Expected, Token, Version};
use uuid::Uuid;

use crate::account::Account;
use crate::accounts::Accounts;
use crate::command::Command;
use crate::event::Event;
use crate::order::Order;
use crate::refusal::Refusal;
use crate::views::{AccountRow, Views};

/// How often a debit is decided anew because somebody else was faster. Each time somebody else's command went through.
pub(crate) const DECISIONS: usize = 64;

/// One prompt's bank.
pub(crate) struct Bank {
    accounts: Accounts,
    views: Views,
    /// Where this prompt's last append is.
    last: Option<Token>,
}

/// What came of a command.
pub(crate) enum Outcome {
    /// The event's JSON, and where it is.
    Stored {
        event: String,
        appended: Appended,
    },
    Balance(AccountRow),
}

impl Outcome {
    fn stored(event: &Event, appended: Appended) -> Self {
        Self::Stored { event: event.to_string(), appended }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The bank says no. Nothing was stored.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The bank could not do its work.
    #[error("Error: {0:#}")]
    Broken(#[from] anyhow::Error),
}

impl Bank {
    /// A bank over the accounts of an event stream, and what the projection has seen of them.
    pub(crate) fn new(accounts: Accounts, views: Views) -> Self {
        Self { accounts, views, last: None }
    }

    /// Carries `command` out.
    ///
    /// # Errors
    /// [`Failure::Refused`]: nothing was stored. [`Failure::Broken`]: as its message says.
    pub(crate) async fn execute(&mut self, command: Command) -> Result<Outcome, Failure> {
        match command {
            Command::Create { name } => {
                let event = Event::Create { acc_id: Uuid::new_v4().to_string(), acc_name: name };
                let appended = self.append(&event, Expected::NoStream).await.context("opening an account")?;
                Ok(Outcome::stored(&event, appended))
            }
            Command::Deposit { account, amount } => {
                self.open_account(&account).await?;
                let event = Event::Deposit { acc_id: account, amount };
                let appended = self.append(&event, Expected::Exists).await.context("paying in")?;
                Ok(Outcome::stored(&event, appended))
            }
            Command::Withdraw { account, amount } => {
                self.debit(Event::Withdraw { acc_id: account, amount }, amount).await
            }
            Command::Transfer { from, to, amount } => {
                self.open_account(&to).await?;
                self.debit(Event::Transfer { acc_id: from, target_id: to, amount }, amount).await
            }
            Command::Send { from, to, amount } => self.send(from, to, amount).await,
            Command::Balance { account } => {
                let row = self.views.account(&account, self.last.as_ref()).await?;
                row.map(Outcome::Balance).ok_or_else(|| Refusal::UnknownAccount(account).into())
            }
        }
    }

    /// Stores `event`, which takes `amount` out of its account, if the account has it.
    async fn debit(&mut self, event: Event, amount: u64) -> Result<Outcome, Failure> {
        let mut account = self.open_account(event.account()).await?;
        let mut incoming = self.views.incoming(event.account(), None).await?;
        let mut catch_up = self.last.clone();
        for _ in 0..DECISIONS {
            match (account.check_debit(amount, incoming), catch_up.take()) {
                (Ok(()), unused) => catch_up = unused,
                (Err(Refusal::InsufficientBalance { .. }), Some(token)) => {
                    incoming = self.views.incoming(event.account(), Some(&token)).await?;
                    self.accounts.read_on(&mut account).await?;
                    continue;
                }
                (Err(refusal), _) => return Err(refusal.into()),
            }
            match self.append(&event, Expected::Version(Version::new(account.version()))).await {
                Ok(appended) => return Ok(Outcome::stored(&event, appended)),
                Err(Error::WrongVersion { .. }) => self.accounts.read_on(&mut account).await?,
                Err(error) => return Err(anyhow!(error).context("taking out").into()),
            }
        }
        Err(anyhow!(
            "account {} changed {DECISIONS} times while the command was being decided; nothing was stored, try again",
            event.account()
        )
        .into())
    }

    async fn open_account(&self, id: &str) -> Result<Account, Failure> {
        let account = self.accounts.read(id).await?;
        account.check_open()?;
        Ok(account)
    }

    /// Appends `event` to its account's stream and remembers where.
    async fn append(&mut self, event: &Event, expected: Expected) -> headwater_core::Result<Appended> {
        let appended = self.accounts.append(event, None, expected).await?;
        self.last = Some(appended.token());
        Ok(appended)
    }

    /// Stores that `amount` is to be sent to an account at the other bank, if the account has it now. The saga `send` does the rest.
    async fn send(&mut self, from: String, to: String, amount: u64) -> Result<Outcome, Failure> {
        let account = self.open_account(&from).await?;
        let incoming = self.views.incoming(&from, self.last.as_ref()).await?;
        account.check_debit(amount, incoming)?;
        let order = Order { send_id: Uuid::new_v4().to_string(), acc_id: from, target_id: to, amount };
        let appended = self.accounts.append_order(&order).await.context("storing what is to be sent")?;
        self.last = Some(appended.token());
        Ok(Outcome::Stored { event: order.to_string(), appended })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored { event, appended } => {
                writeln!(f, "Message: {event}")?;
                let Appended { partition, position, .. } = appended;
                writeln!(f, "Message is stored in partition {partition}, position {position}")
            }
            Self::Balance(AccountRow { id, name, balance }) => {
                writeln!(f, "{{Id:{id} Name:{name} Balance:{balance}}}")
            }
        }
    }
}
