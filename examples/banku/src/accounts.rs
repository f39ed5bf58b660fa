//! The accounts of one event stream: how each is read, and how events are added to it.

use std::time::Duration;

use anyhow::{Context, ensure};
use headwater_api::{Client, Credentials, HeadAt, ReadStream};
use headwater_core::{
    Append, Appended, EventType, Expected, NewEvent, RecordedEvent, RetryPolicy, StreamId, Token, Version,
};
use uuid::Uuid;

use crate::account::Account;
use crate::event::Event;
use crate::order::{Order, SEND_EVENT};

/// Events that are read at a time.
const PAGE: u64 = 1_000;

/// Long enough for a `headwater dev` that is being restarted.
const RETRY: RetryPolicy = RetryPolicy {
    name: "event store call",
    attempts: 25,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(1),
};

/// The accounts of one event stream.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    store: Client,
}

impl Accounts {
    /// Those of the event store at `server`, which is shown `credentials`.
    ///
    /// # Errors
    /// When `server` is no address, or a token would go there in plain text.
    pub(crate) fn new(server: &str, credentials: &Credentials) -> anyhow::Result<Self> {
        Ok(Self { store: Client::with_credentials(server, credentials)?.with_retry(RETRY) })
    }

    /// The fold of the account's own stream. An account that was never opened has none.
    pub(crate) async fn read(&self, id: &str) -> anyhow::Result<Account> {
        let mut account = Account::new(id);
        // Text that is too long for a stream id names no account.
        if stream_id(id).is_ok() {
            self.read_on(&mut account).await?;
        }
        Ok(account)
    }

    /// Takes the events into `account` that are not in it yet.
    pub(crate) async fn read_on(&self, account: &mut Account) -> anyhow::Result<()> {
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

    /// Appends `event` to its account's stream; under `id`, if one is given.
    pub(crate) async fn append(
        &self,
        event: &Event,
        id: Option<Uuid>,
        expected: Expected,
    ) -> headwater_core::Result<Appended> {
        let mut new = NewEvent::json(EventType::new(event.event_type())?, event.to_string());
        new.id = id.unwrap_or(new.id);
        self.store
            .append(&Append { stream_id: stream_id(event.account())?, expected, events: vec![new] })
            .await
    }

    /// Appends what is to be sent, to a stream of its own.
    pub(crate) async fn append_order(&self, order: &Order) -> headwater_core::Result<Appended> {
        let event = NewEvent::json(EventType::new(SEND_EVENT)?, order.to_string());
        let stream_id = StreamId::new(format!("send-{}", order.send_id))?;
        self.store.append(&Append { stream_id, expected: Expected::NoStream, events: vec![event] }).await
    }

    /// Where the event stream ends now.
    pub(crate) async fn end(&self) -> headwater_core::Result<Token> {
        Ok(self.store.get_head(HeadAt::Now).await?.token)
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
