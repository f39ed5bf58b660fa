//! What a customer wants sent to an account at the other bank: the event that begins the saga `send`.

use std::fmt;

use serde_json::json;

/// The event's type.
pub(crate) const SEND_EVENT: &str = "SendEvent";

/// An order to send `amount` from `acc_id` to `target_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) send_id: String,
    pub(crate) acc_id: String,
    pub(crate) target_id: String,
    pub(crate) amount: u64,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { send_id, acc_id, target_id, amount } = self;
        json!({"SendId": send_id, "Type": SEND_EVENT, "AccId": acc_id, "TargetId": target_id, "Amount": amount})
            .fmt(f)
    }
}
