//! The restaurant service: approves a paid order, or rejects it.

use crate::event::{self, Approved, Event, Rejected};
use crate::order::{Order, Status};
use crate::reactor::Reactor;

/// Answers for the restaurants that it knows.
#[derive(Debug, Clone)]
pub(crate) struct RestaurantService {
    /// Those that take orders.
    pub(crate) open: Vec<String>,
    /// Those that take none today.
    pub(crate) closed: Vec<String>,
}

impl Reactor for RestaurantService {
    const NAME: &str = "restaurant";
    const CAUSES: &[&str] = &[event::PAYMENT_DEBITED];
    const ANSWERS: &[&str] = &[event::ORDER_APPROVED, event::ORDER_REJECTED];

    fn decide(&self, _cause: &str, order: &Order) -> Option<Event> {
        if order.status != Status::PaymentDebited {
            return None;
        }
        let order_id = order.created.order_id.clone();
        let restaurant = &order.created.restaurant_id;
        Some(if self.open.contains(restaurant) {
            Event::Approved(Approved { order_id })
        } else if self.closed.contains(restaurant) {
            Event::Rejected(Rejected { order_id, reason: format!("restaurant {restaurant} is closed") })
        } else {
            Event::Rejected(Rejected { order_id, reason: format!("restaurant {restaurant} is unknown") })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::testing::order;

    #[test]
    fn only_a_paid_order_of_an_open_restaurant_is_approved() {
        let service = RestaurantService { open: vec!["luigi".into()], closed: vec!["chen".into()] };
        let answer = |restaurant: &str, status| {
            service.decide(event::PAYMENT_DEBITED, &order("7", restaurant, status, true))
        };
        let rejected =
            |reason: &str| Some(Event::Rejected(Rejected { order_id: "o-1".into(), reason: reason.into() }));
        assert_eq!(
            answer("luigi", Status::PaymentDebited),
            Some(Event::Approved(Approved { order_id: "o-1".into() }))
        );
        assert_eq!(answer("chen", Status::PaymentDebited), rejected("restaurant chen is closed"));
        assert_eq!(answer("nobody", Status::PaymentDebited), rejected("restaurant nobody is unknown"));
        for status in [Status::Pending, Status::Approved, Status::Rejected] {
            assert_eq!(answer("luigi", status), None, "{status:?}");
        }
    }
}
