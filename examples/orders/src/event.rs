//! The facts of an order, in the words of the article, their JSON and their ids.
//!
//! ```text
//! order-created ─▶ order-payment-debited ─▶ order-approved
//!        │                    └───────────▶ order-rejected ─▶ order-payment-voided
//!        └────────────────────────────────▶ order-rejected
//! ```

use headwater_core::Error;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::amount::Amount;

pub(crate) const ORDER_CREATED: &str = "order-created";
pub(crate) const PAYMENT_DEBITED: &str = "order-payment-debited";
pub(crate) const PAYMENT_VOIDED: &str = "order-payment-voided";
pub(crate) const ORDER_APPROVED: &str = "order-approved";
pub(crate) const ORDER_REJECTED: &str = "order-rejected";

/// What happened to an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Created(Created),
    PaymentDebited(Payment),
    PaymentVoided(Payment),
    Approved(Approved),
    Rejected(Rejected),
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

/// The restaurant cooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Approved {
    pub(crate) order_id: String,
}

/// Nobody cooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejected {
    pub(crate) order_id: String,
    pub(crate) reason: String,
}

impl Event {
    /// Reads the JSON of an event of this type.
    ///
    /// # Errors
    /// [`WrongEvent`], for a type or a shape that is not known here.
    pub(crate) fn from_json(event_type: &str, data: &[u8]) -> Result<Self, WrongEvent> {
        let event = match event_type {
            ORDER_CREATED => serde_json::from_slice(data).map(Self::Created),
            PAYMENT_DEBITED => serde_json::from_slice(data).map(Self::PaymentDebited),
            PAYMENT_VOIDED => serde_json::from_slice(data).map(Self::PaymentVoided),
            ORDER_APPROVED => serde_json::from_slice(data).map(Self::Approved),
            ORDER_REJECTED => serde_json::from_slice(data).map(Self::Rejected),
            other => return Err(WrongEvent::Type(other.to_owned())),
        };
        event.map_err(|source| WrongEvent::Data { event_type: event_type.to_owned(), source })
    }

    /// The type and the JSON.
    ///
    /// # Errors
    /// [`Error::Internal`]: none in practice, every event has a JSON.
    pub(crate) fn to_json(&self) -> headwater_core::Result<(&'static str, Vec<u8>)> {
        let (event_type, json) = match self {
            Self::Created(data) => (ORDER_CREATED, serde_json::to_vec(data)),
            Self::PaymentDebited(data) => (PAYMENT_DEBITED, serde_json::to_vec(data)),
            Self::PaymentVoided(data) => (PAYMENT_VOIDED, serde_json::to_vec(data)),
            Self::Approved(data) => (ORDER_APPROVED, serde_json::to_vec(data)),
            Self::Rejected(data) => (ORDER_REJECTED, serde_json::to_vec(data)),
        };
        let json = json.map_err(|error| Error::internal(format!("writing {event_type}: {error}")))?;
        Ok((event_type, json))
    }
}

/// An event that this program cannot read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WrongEvent {
    #[error("an event of type {0} is none that an order knows")]
    Type(String),
    #[error("an event of type {event_type} has data that does not fit: {source}")]
    Data { event_type: String, source: serde_json::Error },
}

/// The stream id that holds all events of an order.
pub(crate) fn stream_id(order_id: &str) -> String {
    format!("order-{order_id}")
}

/// The id of the event that opens an order: the same for the same order, so that placing it again changes nothing.
pub(crate) fn created_id(order_id: Uuid) -> Uuid {
    Uuid::new_v5(&order_id, ORDER_CREATED.as_bytes())
}

/// The id of what `service` answers to the event `cause`: one answer to one cause, however often it is given.
pub(crate) fn reaction_id(cause: Uuid, service: &str) -> Uuid {
    Uuid::new_v5(&cause, service.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREATED: &str = r#"{"order_id":"010c16c3","customer_id":"c-1","status":"Pending","restaurant_id":"r-1","amount":59.70,"order_items":[{"code":"P1","name":"Pizza","unit_price":19.90,"quantity":3}]}"#;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        fn check(event_type: &str, json: &str) {
            let event = Event::from_json(event_type, json.as_bytes()).unwrap();
            let (written_type, written) = event.to_json().unwrap();
            assert_eq!((written_type, String::from_utf8(written).unwrap().as_str()), (event_type, json));
        }
        check(ORDER_CREATED, CREATED);
        check(PAYMENT_DEBITED, r#"{"order_id":"010c16c3","customer_id":"c-1","amount":59.70}"#);
        check(PAYMENT_VOIDED, r#"{"order_id":"010c16c3","customer_id":"c-1","amount":59.70}"#);
        check(ORDER_APPROVED, r#"{"order_id":"010c16c3"}"#);
        check(ORDER_REJECTED, r#"{"order_id":"010c16c3","reason":"closed"}"#);
    }

    #[test]
    fn an_event_of_the_articles_own_service_is_read_too() {
        let theirs = CREATED.replace("\"amount\"", "\"created_on\":1534204800,\"amount\"");
        assert_eq!(
            Event::from_json(ORDER_CREATED, theirs.as_bytes()).unwrap(),
            Event::from_json(ORDER_CREATED, CREATED.as_bytes()).unwrap()
        );
    }

    #[test]
    fn what_is_no_event_of_an_order_is_said() {
        let error = Event::from_json("order-shipped", b"{}").unwrap_err().to_string();
        assert!(error.contains("order-shipped"), "{error}");
        let error = Event::from_json(ORDER_REJECTED, br#"{"order_id":"1"}"#).unwrap_err().to_string();
        assert!(error.contains("order-rejected") && error.contains("reason"), "{error}");
    }

    /// Golden: a service of a later version must find the ids that an earlier one gave.
    #[test]
    fn ids_never_change() {
        let order = Uuid::from_u128(0x010c_16c3_cdfa_4d4f_a73e_f15f_0d34_1a62);
        let created = created_id(order);
        assert_eq!(created.to_string(), "f3b58106-3144-5f7b-9c1f-9b1c46c4fce9");
        assert_eq!(reaction_id(created, "payment").to_string(), "2bf05d5b-ae1b-5d6a-a743-553a800b0cd4");
        assert_ne!(reaction_id(created, "payment"), reaction_id(created, "restaurant"));
    }
}
