//! The payment service: takes the customer's money for an order, and gives it back. A participant of Saga `place-order`.
//!
//! ```text
//! POST /v1/debits  {order_id, customer_id, amount}  ─▶ ledger ─▶ order-payment-debited      422: over the limit
//! POST /v1/voids   {order_id}                       ─▶ ledger ─▶ order-payment-voided       also before, or without, a debit
//! ```
//! The ledger is the truth; the events tell it. An event's id is derived from the key of its call, so it is told once however often the
//! call is sent, and a call succeeds when its event is told.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use headwater_api::Client;
use headwater_core::{Append, EventType, Expected, Metadata, NewEvent, StreamId};
use serde_json::json;
use tokio::net::TcpListener;

use crate::amount::Amount;
use crate::event::{Event, Payment, stream_id, told_id};
use crate::ledger::Refusal;
use crate::participant::{Book, Call, No, Undo};

struct PaymentService {
    /// The most that is debited for one order.
    limit: Amount,
    ledger: Book<Payment>,
    store: Client,
}

/// Serves on `listener` for ever, with the ledger in `data` and events to the event store `store`.
///
/// # Errors
/// When the ledger cannot be opened or the listener fails.
pub(crate) async fn run(
    listener: TcpListener,
    store: Client,
    data: &Path,
    limit: Amount,
) -> anyhow::Result<()> {
    let ledger = Book::open(data, "payment")?;
    let service = Arc::new(PaymentService { limit, ledger, store });
    let routes = Router::new()
        .route("/v1/debits", post(debit))
        .route("/v1/voids", post(void))
        .route("/healthz", get(async || "ok"))
        .with_state(service);
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

/// `POST /v1/debits`: takes the money.
async fn debit(State(service): State<Arc<PaymentService>>, call: Call<Payment>) -> Result<Response, No> {
    let (key, payment, limit) = (call.key.clone(), call.body.clone(), service.limit);
    let entry = service.ledger.write(move |ledger| {
        let order_id = payment.order_id.clone();
        ledger.act(&key, &order_id, payment, |payment| within(limit, payment))
    });
    let debited = entry.await.inspect_err(|no| println!("order {}: {no:?}", call.body.order_id))?;
    if let Some(payment) = &debited.what {
        service.tell(&call, &debited.key, &Event::PaymentDebited(payment.clone())).await?;
        println!("debited {} for order {}", payment.amount, payment.order_id);
    }
    Ok(Json(json!({"order_id": debited.order_id, "payment": "Debited"})).into_response())
}

/// `POST /v1/voids`: gives the money back, if it was taken; else sees to it that it never will be.
async fn void(State(service): State<Arc<PaymentService>>, call: Call<Undo>) -> Result<Response, No> {
    let (key, order_id) = (call.key.clone(), call.body.order_id.clone());
    let voided = service.ledger.write(move |ledger| ledger.undo(&key, &order_id)).await?;
    if let (Some(payment), Some(debit)) = (&voided.what, &voided.undoes) {
        // The debit may have been given up between the ledger and its event.
        service.tell(&call, debit, &Event::PaymentDebited(payment.clone())).await?;
        service.tell(&call, &voided.key, &Event::PaymentVoided(payment.clone())).await?;
        println!("voided {} for order {}", payment.amount, payment.order_id);
    }
    Ok(Json(json!({"order_id": voided.order_id, "payment": "Voided"})).into_response())
}

fn within(limit: Amount, payment: &Payment) -> Result<(), Refusal> {
    if payment.amount <= limit {
        return Ok(());
    }
    Err(Refusal::declined(format!("payment declined: {} is over the limit of {limit}", payment.amount)))
}

impl PaymentService {
    /// Appends `event` as what came of the call under `key`, once.
    async fn tell<B>(&self, call: &Call<B>, key: &str, event: &Event) -> Result<(), No> {
        let append = told(call, key, event).map_err(|error| No::Wrong(error.to_string()))?;
        match self.store.append(&append).await {
            Ok(_) => Ok(()),
            Err(error) => Err(No::Unknown(format!("telling it to the event store: {error}"))),
        }
    }
}

fn told<B>(call: &Call<B>, key: &str, event: &Event) -> headwater_core::Result<Append> {
    let (event_type, data) = event.to_json()?;
    let metadata = json!({
        "correlation_id": call.correlation_id,
        "causation_id": call.causation_id,
        "idempotency_key": key,
    });
    let new = NewEvent {
        id: told_id(key),
        metadata: Metadata::new(metadata.to_string().into())?,
        ..NewEvent::json(EventType::new(event_type)?, data)
    };
    let stream_id = StreamId::new(stream_id(event.order_id()))?;
    Ok(Append { stream_id, expected: Expected::Any, events: vec![new] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_taken_up_to_the_limit() {
        let check = |amount: &str| {
            let payment = Payment {
                order_id: "o-1".into(),
                customer_id: "c-1".into(),
                amount: amount.parse().unwrap(),
            };
            within("1000".parse().unwrap(), &payment).map_err(|refusal| refusal.detail)
        };
        assert_eq!(check("1000.00"), Ok(()));
        assert_eq!(check("1000.01"), Err("payment declined: 1000.01 is over the limit of 1000".into()));
    }
}
