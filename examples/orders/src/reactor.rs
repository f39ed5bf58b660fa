//! A service that lives on events: it subscribes to what concerns it, decides, and answers with events of its own.
//!
//! ```text
//! event store ──subscribe──▶ cause ──▶ fold of the order ──decide──▶ answer ──append──▶ event store
//! ```
//!
//! **Nothing is lost.** A service keeps nothing of its own: what it has answered is in the log. It subscribes from the beginning to its
//! causes *and* its answers, sets an answered cause aside, and goes to work on what is left when the subscription has caught up. So a
//! service that was killed at any point goes on where it was, and an empty disk is no reason to forget an order. (A log of many millions
//! of events would make that start slow; then keep the subscription's token beside the service, and everything below still holds.)
//!
//! **Nothing is done twice.** An answer's id is derived from its cause's id and the service's name, so the event store takes it once,
//! however often it is sent and by however many instances. And the append expects the version of the order that was decided on.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use headwater_api::{Client, Filter, ReadStream, Subscribe};
use headwater_core::{Append, Error, EventType, Expected, Metadata, NewEvent, RecordedEvent, RetryPolicy};
use serde_json::json;

use crate::event::{Event, WrongEvent, reaction_id};
use crate::order::Order;

/// A service outlives its event store: it waits for as long as that is away.
const RETRY: RetryPolicy = RetryPolicy {
    name: "event store call",
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(2),
};

/// Unanswered causes that are kept while catching up; more are answered at once.
const WAITING: usize = 10_000;

/// Events of one order at most: its way has four. A longer stream is somebody's mistake, and no memory is spent on it.
const ORDER_EVENTS: u64 = 1_000;

/// What a service decides. Pure.
pub(crate) trait Reactor {
    /// The service's name. Part of the ids of its answers: never to be changed.
    const NAME: &str;
    /// Types of the events that it answers.
    const CAUSES: &[&str];
    /// Types of its answers.
    const ANSWERS: &[&str];

    /// What it says to an event of type `cause`, seeing the order as it is now. `None`: nothing is left to do.
    fn decide(&self, cause: &str, order: &Order) -> Option<Event>;
}

/// Runs `reactor` on the event store at `server` for ever.
///
/// # Errors
/// When the event store refuses the service. Not while it is away.
pub(crate) async fn run<R: Reactor>(reactor: &R, server: &str) -> anyhow::Result<()> {
    let store = Client::new(server)?.with_retry(RETRY);
    let event_types = R::CAUSES.iter().chain(R::ANSWERS).map(EventType::new).collect::<Result<_, _>>()?;
    let filter = Filter { event_types, ..Filter::default() };
    let subscribe = Subscribe { filter, ..Subscribe::default() };
    println!("subscribed to {} at {}", R::CAUSES.join(", "), store.address());
    let mut batches = pin!(store.subscribe(subscribe));
    let mut waiting = VecDeque::new();
    let mut live = false;
    while let Some(batch) = batches.next().await {
        let batch = batch.context("subscribing")?;
        for event in batch.events {
            if let Some(cause) = answered_by(R::NAME, &event) {
                waiting.retain(|waiting: &RecordedEvent| waiting.id != cause);
            }
            if R::CAUSES.contains(&event.event_type.as_str()) {
                waiting.push_back(event);
            }
        }
        live |= batch.caught_up;
        while live || waiting.len() > WAITING {
            let Some(cause) = waiting.pop_front() else { break };
            answer(reactor, &store, &cause).await?;
        }
    }
    bail!("the subscription ended")
}

/// The cause of `event`, if that is an answer of `service`.
fn answered_by(service: &str, event: &RecordedEvent) -> Option<uuid::Uuid> {
    let cause = event.metadata.text("causation_id")?.parse().ok()?;
    (reaction_id(cause, service) == event.id).then_some(cause)
}

/// Answers `cause`, if there is anything to answer.
async fn answer<R: Reactor>(reactor: &R, store: &Client, cause: &RecordedEvent) -> anyhow::Result<()> {
    let order_stream = &cause.stream_id;
    loop {
        let history = ReadStream { limit: Some(ORDER_EVENTS), ..ReadStream::all(order_stream.clone()) };
        let history = store.read_stream(&history).await.with_context(|| format!("reading {order_stream}"))?;
        let order = match fold(&history.events) {
            Ok(Some(order)) => order,
            Ok(None) => {
                eprintln!("{order_stream} does not begin with an order; left alone");
                return Ok(());
            }
            Err(error) => {
                eprintln!("{order_stream} is left alone: {error}");
                return Ok(());
            }
        };
        let Some(event) = reactor.decide(cause.event_type.as_str(), &order) else { return Ok(()) };
        let append = Append {
            stream_id: order_stream.clone(),
            expected: Expected::Version(history.version),
            events: vec![caused(R::NAME, cause, &event)?],
        };
        match store.append(&append).await {
            Ok(_) => {
                println!("{} ─▶ {} of {order_stream}", cause.event_type, append.events[0].event_type);
                return Ok(());
            }
            // Something has happened to the order meanwhile: look again.
            Err(Error::WrongVersion { .. }) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("answering {} of {order_stream}", cause.id));
            }
        }
    }
}

fn fold(events: &[RecordedEvent]) -> Result<Option<Order>, WrongEvent> {
    let mut known = Vec::with_capacity(events.len());
    for event in events {
        match Event::from_json(event.event_type.as_str(), &event.data) {
            Ok(event) => known.push(event),
            Err(WrongEvent::Type(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Order::fold(known))
}

/// `event` as the answer of `service` to `cause`.
fn caused(service: &str, cause: &RecordedEvent, event: &Event) -> anyhow::Result<NewEvent> {
    let (event_type, data) = event.to_json()?;
    let correlation = cause.metadata.text("correlation_id").unwrap_or_else(|| cause.id.to_string());
    let metadata = json!({"correlation_id": correlation, "causation_id": cause.id});
    Ok(NewEvent {
        id: reaction_id(cause.id, service),
        metadata: Metadata::new(metadata.to_string().into())?,
        ..NewEvent::json(EventType::new(event_type)?, data)
    })
}
