//! The facts of an order, in the words of the article, their JSON and their ids.
//!
//! ```text
//! service     order-created
//! payment     order-payment-debited, order-payment-voided
//! the saga    order-approved, order-rejected: saga.yaml says their JSON
//! ```

use headwater_core::Error;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use crate::amount::Amount;

pub(crate) const ORDER_CREATED: &str = "order-created";
pub(crate) const PAYMENT_DEBITED: &str = "order-payment-debited";
pub(crate) const PAYMENT_VOIDED: &str = "order-payment-voided";

/// The namespace of the ids of events that come of a call. Another one would make repeats of old calls new events.
const TOLD_IDS: Uuid = uuid!("3f0f8a52-4f6e-5c0b-8d47-0b8c6d0f7a11");

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Created(Created),
    PaymentDebited(Payment),
    PaymentVoided(Payment),
}

/// An order as it was placed. When: the event's own time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Created {
    pub(crate) order_id: String,
    pub(crate) customer_id: String,
    /// Always `Pending`; the article's events have it.
    #[serde(default)]
    pub(crate) status: String,
    pub(crate) restaurant_id: String,
    pub(crate) amount: Amount,
    pub(crate) order_items: Vec<Item>,
}

/// A line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) code: String,
    pub(crate) name: String,
    pub(crate) unit_price: Amount,
    pub(crate) quantity: u32,
}

/// Money of a customer, taken or given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) order_id: String,
    pub(crate) customer_id: String,
    pub(crate) amount: Amount,
}

impl Event {
    /// The type and the JSON.
    ///
    /// # Errors
    /// [`Error::Internal`]: none in practice, every event has a JSON.
    pub(crate) fn to_json(&self) -> headwater_core::Result<(&'static str, Vec<u8>)> {
        let (event_type, json) = match self {
            Self::Created(data) => (ORDER_CREATED, serde_json::to_vec(data)),
            Self::PaymentDebited(data) => (PAYMENT_DEBITED, serde_json::to_vec(data)),
            Self::PaymentVoided(data) => (PAYMENT_VOIDED, serde_json::to_vec(data)),
        };
        let json = json.map_err(|error| Error::internal(format!("writing {event_type}: {error}")))?;
        Ok((event_type, json))
    }

    /// The order that it is about.
    pub(crate) fn order_id(&self) -> &str {
        match self {
            Self::Created(created) => &created.order_id,
            Self::PaymentDebited(payment) | Self::PaymentVoided(payment) => &payment.order_id,
        }
    }
}

/// The stream id that holds all events of an order.
pub(crate) fn stream_id(order_id: &str) -> String {
    format!("order-{order_id}")
}

/// The id of the event that opens an order: the same for the same order, so that placing it again changes nothing.
pub(crate) fn created_id(order_id: Uuid) -> Uuid {
    Uuid::new_v5(&order_id, ORDER_CREATED.as_bytes())
}

/// The id of the event that comes of a call with this idempotency key: one event, however often the call is sent.
pub(crate) fn told_id(key: &str) -> Uuid {
    Uuid::new_v5(&TOLD_IDS, key.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = r#"{"order_id":"010c16c3","customer_id":"c-1","status":"Pending","restaurant_id":"r-1","amount":59.70,"order_items":[{"code":"P1","name":"Pizza","unit_price":19.90,"quantity":3}]}"#;

    #[test]
    fn what_is_read_is_written_as_it_was() {
        let created: Created = serde_json::from_str(CREATED).unwrap();
        let payment = r#"{"order_id":"010c16c3","customer_id":"c-1","amount":59.70}"#;
        let debited: Payment = serde_json::from_str(payment).unwrap();
        let json = |event: Event| {
            let (event_type, json) = event.to_json().unwrap();
            (event_type, String::from_utf8(json).unwrap())
        };
        assert_eq!(json(Event::Created(created)), (ORDER_CREATED, CREATED.to_owned()));
        assert_eq!(json(Event::PaymentDebited(debited.clone())), (PAYMENT_DEBITED, payment.to_owned()));
        assert_eq!(json(Event::PaymentVoided(debited)), (PAYMENT_VOIDED, payment.to_owned()));
    }

    /// Golden: a service of a later version must find the ids that an earlier one gave.
    #[test]
    fn ids_never_change() {
        let order = Uuid::from_u128(0x010c_16c3_cdfa_4d4f_a73e_f15f_0d34_1a62);
        let created = created_id(order);
        assert_eq!(created.to_string(), "f3b58106-3144-5f7b-9c1f-9b1c46c4fce9");
        assert_eq!(
            told_id("default/place-order/1/2/debit-payment/do").to_string(),
            "3b7e7dab-b4b0-5397-99ec-92b2dffb01f3"
        );
    }
}
