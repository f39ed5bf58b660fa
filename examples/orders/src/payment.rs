//! The payment service: takes the customer's money for a new order, and gives it back for a rejected one.

use crate::amount::Amount;
use crate::event::{self, Event, Payment, Rejected};
use crate::order::{Order, Status};
use crate::reactor::Reactor;

/// Debits orders up to `limit`. A pure decision over an order; the money itself is beyond this example.
#[derive(Debug, Clone)]
pub(crate) struct PaymentService {
    /// The most that is debited for one order.
    pub(crate) limit: Amount,
}

impl Reactor for PaymentService {
    const NAME: &str = "payment";
    const CAUSES: &[&str] = &[event::ORDER_CREATED, event::ORDER_REJECTED];
    const ANSWERS: &[&str] = &[event::PAYMENT_DEBITED, event::PAYMENT_VOIDED, event::ORDER_REJECTED];

    fn decide(&self, cause: &str, order: &Order) -> Option<Event> {
        let payment = || Payment {
            order_id: order.created.order_id.clone(),
            customer_id: order.created.customer_id.clone(),
            amount: order.created.amount,
        };
        match (cause, order.status) {
            (event::ORDER_CREATED, Status::Pending) if order.created.amount <= self.limit => {
                Some(Event::PaymentDebited(payment()))
            }
            (event::ORDER_CREATED, Status::Pending) => Some(Event::Rejected(Rejected {
                order_id: order.created.order_id.clone(),
                reason: format!(
                    "payment declined: {} is over the limit of {}",
                    order.created.amount, self.limit
                ),
            })),
            (event::ORDER_REJECTED, _) if order.debited => Some(Event::PaymentVoided(payment())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::testing::order;

    #[test]
    fn money_is_taken_up_to_the_limit_and_given_back_once() {
        let service = PaymentService { limit: "100".parse().unwrap() };
        let answer = |cause, amount: &str, status, debited| {
            service.decide(cause, &order(amount, "r", status, debited)).map(|event| {
                let (kind, json) = event.to_json().unwrap();
                (kind, String::from_utf8(json).unwrap())
            })
        };
        let payment = |amount: &str| format!(r#"{{"order_id":"o-1","customer_id":"c-1","amount":{amount}}}"#);
        let (created, rejected) = (event::ORDER_CREATED, event::ORDER_REJECTED);
        assert_eq!(
            answer(created, "100.00", Status::Pending, false),
            Some((event::PAYMENT_DEBITED, payment("100.00")))
        );
        assert_eq!(
            answer(created, "100.01", Status::Pending, false),
            Some((
                event::ORDER_REJECTED,
                r#"{"order_id":"o-1","reason":"payment declined: 100.01 is over the limit of 100"}"#.into()
            ))
        );
        assert_eq!(
            answer(rejected, "7", Status::Rejected, true),
            Some((event::PAYMENT_VOIDED, payment("7")))
        );
        for (cause, status, debited) in [
            (rejected, Status::Rejected, false),
            (created, Status::Rejected, false),
            (created, Status::Rejected, true),
            (created, Status::PaymentDebited, true),
            (created, Status::Approved, true),
        ] {
            assert_eq!(answer(cause, "7", status, debited), None, "{cause} {status:?} {debited}");
        }
    }
}
