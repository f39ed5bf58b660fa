//! Carries commands out so that no account is ever overdrawn, however many prompts there are.
//!
//! What an account can spend at version v of its own stream is the fold of that stream up to v plus the incoming transfers that the
//! projection has seen. The append of a debit expects version v, so of two prompts that decided on the same version one stores and the
//! other decides again. Incoming transfers only grow: a projection that is behind makes the bank refuse too much at worst, so before it
//! refuses it waits until the projection has seen this prompt's own appends, and looks once more.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use headwater_api::{Client, ReadStream};
use headwater_core::{
    Append, Appended, Error, EventType, Expected, NewEvent, RecordedEvent, RetryPolicy, StreamId, Token,
    Version,
};
use uuid::Uuid;

use crate::account::Account;
use crate::command::Command;
use crate::event::Event;
use crate::refusal::Refusal;
use crate::views::{AccountRow, Views};

/// How often a debit is decided anew because somebody else was faster. Each time somebody else's command went through.
const DECISIONS: usize = 64;

/// Events that are read at a time.
const PAGE: u64 = 1_000;

/// Long enough for a `headwater dev` that is being restarted.
const RETRY: RetryPolicy = RetryPolicy {
    name: "event store call",
    attempts: 25,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(1),
};

/// One prompt's bank.
pub(crate) struct Bank {
    store: Client,
    views: Views,
    /// Where this prompt's last append is.
    last: Option<Token>,
}

/// What came of a command.
pub(crate) enum Outcome {
    Stored { event: Event, appended: Appended },
    Balance(AccountRow),
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
    /// A bank over the event store at `server`.
    ///
    /// # Errors
    /// When `server` is no address.
    pub(crate) fn new(server: &str, views: Views) -> anyhow::Result<Self> {
        let store = Client::new(server)?.with_retry(RETRY);
        Ok(Self { store, views, last: None })
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
                Ok(Outcome::Stored { event, appended })
            }
            Command::Deposit { account, amount } => {
                self.open_account(&account).await?;
                let event = Event::Deposit { acc_id: account, amount };
                let appended = self.append(&event, Expected::Exists).await.context("paying in")?;
                Ok(Outcome::Stored { event, appended })
            }
            Command::Withdraw { account, amount } => {
                self.debit(Event::Withdraw { acc_id: account, amount }, amount).await
            }
            Command::Transfer { from, to, amount } => {
                self.open_account(&to).await?;
                self.debit(Event::Transfer { acc_id: from, target_id: to, amount }, amount).await
            }
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
                    self.read_on(&mut account).await?;
                    continue;
                }
                (Err(refusal), _) => return Err(refusal.into()),
            }
            match self.append(&event, Expected::Version(Version::new(account.version()))).await {
                Ok(appended) => return Ok(Outcome::Stored { event, appended }),
                Err(Error::WrongVersion { .. }) => self.read_on(&mut account).await?,
                Err(error) => return Err(anyhow!(error).context("taking out").into()),
            }
        }
        Err(anyhow!(
            "account {} changed {DECISIONS} times while the command was being decided; nothing was stored, try again",
            event.account()
        )
        .into())
    }

    /// The fold of the account's own stream.
    async fn open_account(&self, id: &str) -> Result<Account, Failure> {
        let mut account = Account::new(id);
        // Text that is too long for a stream id names no account.
        if stream_id(id).is_ok() {
            self.read_on(&mut account).await?;
        }
        account.check_open()?;
        Ok(account)
    }

    /// Takes the events into `account` that are not in it yet.
    async fn read_on(&self, account: &mut Account) -> anyhow::Result<()> {
        let stream_id = stream_id(account.id())?;
        loop {
            let next = Version::new(account.version() + 1);
            let request =
                ReadStream { from: Some(next), limit: Some(PAGE), ..ReadStream::all(stream_id.clone()) };
            let page =
                self.store.read_stream(&request).await.with_context(|| format!("reading {stream_id}"))?;
            for event in &page.events {
                account.apply(event.version.get(), &parse(event)?)?;
            }
            if page.events.is_empty() || account.version() >= page.version.get() {
                return Ok(());
            }
        }
    }

    /// Appends `event` to its account's stream and remembers where.
    async fn append(&mut self, event: &Event, expected: Expected) -> headwater_core::Result<Appended> {
        let stream_id = stream_id(event.account())?;
        let event = NewEvent::json(EventType::new(event.event_type())?, event.to_string());
        let appended = self.store.append(&Append { stream_id, expected, events: vec![event] }).await?;
        self.last = Some(appended.token());
        Ok(appended)
    }
}

/// What a stored event says. An event that is not understood may move money, so nothing is decided beside it.
fn parse(event: &RecordedEvent) -> anyhow::Result<Event> {
    let RecordedEvent { stream_id, version, event_type, .. } = event;
    let parsed: Event = serde_json::from_slice(&event.data)
        .with_context(|| format!("version {version} of {stream_id} is no event of an account"))?;
    ensure!(
        parsed.event_type() == event_type.as_str(),
        "version {version} of {stream_id} has type {event_type}, but its data says {}",
        parsed.event_type()
    );
    Ok(parsed)
}

/// The stream id that holds an account's own events.
fn stream_id(account: &str) -> headwater_core::Result<StreamId> {
    StreamId::new(format!("account-{account}"))
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
