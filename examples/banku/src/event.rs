//! What can happen to an account, in the words of the article and for what is sent abroad, and its JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_json::json;

/// The largest amount of one event. JSON numbers up to here are exact for every reader, also for one that knows only doubles.
pub(crate) const MAX_AMOUNT: u64 = 1_000_000_000_000_000;

/// One event; the field `Type` of its JSON says which.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
pub(crate) enum Event {
    /// A new account is opened.
    #[serde(rename = "CreateEvent")]
    Create { acc_id: String, acc_name: String },
    /// Somebody pays into the account.
    #[serde(rename = "DepositEvent")]
    Deposit {
        acc_id: String,
        #[serde(deserialize_with = "amount")]
        amount: u64,
    },
    /// Somebody takes out of the account.
    #[serde(rename = "WithdrawEvent")]
    Withdraw {
        acc_id: String,
        #[serde(deserialize_with = "amount")]
        amount: u64,
    },
    /// The account `acc_id` pays to the account `target_id`. One event, in the payer's stream.
    #[serde(rename = "TransferEvent")]
    Transfer {
        acc_id: String,
        target_id: String,
        #[serde(deserialize_with = "amount")]
        amount: u64,
    },
    /// What is sent to an account at another bank has left the account.
    #[serde(rename = "SendWithdrawEvent")]
    SendWithdraw {
        acc_id: String,
        send_id: String,
        #[serde(deserialize_with = "amount")]
        amount: u64,
    },
    /// What was to be sent is in the account again, and never leaves it for this sending. With amount 0 it had not left.
    #[serde(rename = "SendReturnEvent")]
    SendReturn { acc_id: String, send_id: String, amount: u64 },
    /// What another bank sent has come.
    #[serde(rename = "ReceiveEvent")]
    Receive {
        acc_id: String,
        send_id: String,
        #[serde(deserialize_with = "amount")]
        amount: u64,
    },
}

impl Event {
    /// The event's type, which its JSON repeats.
    pub(crate) fn event_type(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateEvent",
            Self::Deposit { .. } => "DepositEvent",
            Self::Withdraw { .. } => "WithdrawEvent",
            Self::Transfer { .. } => "TransferEvent",
            Self::SendWithdraw { .. } => "SendWithdrawEvent",
            Self::SendReturn { .. } => "SendReturnEvent",
            Self::Receive { .. } => "ReceiveEvent",
        }
    }

    /// The account whose stream holds the event.
    pub(crate) fn account(&self) -> &str {
        match self {
            Self::Create { acc_id, .. }
            | Self::Deposit { acc_id, .. }
            | Self::Withdraw { acc_id, .. }
            | Self::Transfer { acc_id, .. }
            | Self::SendWithdraw { acc_id, .. }
            | Self::SendReturn { acc_id, .. }
            | Self::Receive { acc_id, .. } => acc_id,
        }
    }
}

/// The event's JSON, with its fields in the article's order.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.event_type();
        let json = match self {
            Self::Create { acc_id, acc_name } => {
                json!({"AccId": acc_id, "Type": kind, "AccName": acc_name})
            }
            Self::Deposit { acc_id, amount } | Self::Withdraw { acc_id, amount } => {
                json!({"AccId": acc_id, "Type": kind, "Amount": amount})
            }
            Self::Transfer { acc_id, target_id, amount } => {
                json!({"AccId": acc_id, "Type": kind, "TargetId": target_id, "Amount": amount})
            }
            Self::SendWithdraw { acc_id, send_id, amount }
            | Self::SendReturn { acc_id, send_id, amount }
            | Self::Receive { acc_id, send_id, amount } => {
                json!({"AccId": acc_id, "Type": kind, "SendId": send_id, "Amount": amount})
            }
        };
        json.fmt(f)
    }
}

/// Reads an amount as JSON Schema's `integer` means it: `2000`, and also `2000.0` from a writer that knows only doubles.
fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| {
        let double = number.as_f64()?;
        (double.fract() == 0.0 && double >= 0.0 && double <= MAX_AMOUNT as f64).then_some(double as u64)
    });
    match whole {
        Some(amount @ 1..=MAX_AMOUNT) => Ok(amount),
        _ => Err(de::Error::custom(format_args!("{number} is no whole number from 1 to {MAX_AMOUNT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_the_articles() {
        fn check(event: &Event, json: &str) {
            assert_eq!(event.to_string(), json);
            assert_eq!(&serde_json::from_str::<Event>(json).unwrap(), event);
        }
        let acc_id = "cd371b90-e51b-4801-96fe-14bbe5ddc708".to_owned();
        check(
            &Event::Create { acc_id: acc_id.clone(), acc_name: "Adam Pahlevi".into() },
            r#"{"AccId":"cd371b90-e51b-4801-96fe-14bbe5ddc708","Type":"CreateEvent","AccName":"Adam Pahlevi"}"#,
        );
        check(
            &Event::Deposit { acc_id: acc_id.clone(), amount: 2000 },
            r#"{"AccId":"cd371b90-e51b-4801-96fe-14bbe5ddc708","Type":"DepositEvent","Amount":2000}"#,
        );
        check(
            &Event::Withdraw { acc_id: acc_id.clone(), amount: 500 },
            r#"{"AccId":"cd371b90-e51b-4801-96fe-14bbe5ddc708","Type":"WithdrawEvent","Amount":500}"#,
        );
        check(
            &Event::Transfer { acc_id: acc_id.clone(), target_id: "3101ff16".into(), amount: 1000 },
            r#"{"AccId":"cd371b90-e51b-4801-96fe-14bbe5ddc708","Type":"TransferEvent","TargetId":"3101ff16","Amount":1000}"#,
        );
        check(
            &Event::SendReturn { acc_id, send_id: "s".into(), amount: 0 },
            r#"{"AccId":"cd371b90-e51b-4801-96fe-14bbe5ddc708","Type":"SendReturnEvent","SendId":"s","Amount":0}"#,
        );
    }

    #[test]
    fn an_amount_is_a_positive_whole_number() {
        fn check(number: &str, expected: Option<u64>) {
            let json = format!(r#"{{"AccId":"a","Type":"DepositEvent","Amount":{number}}}"#);
            let found = serde_json::from_str(&json).ok().map(|event| match event {
                Event::Deposit { amount, .. } => amount,
                other => panic!("{other}"),
            });
            assert_eq!(found, expected, "{number}");
        }
        check("1", Some(1));
        check("2000.0", Some(2000));
        check("1000000000000000", Some(MAX_AMOUNT));
        check("1e15", Some(MAX_AMOUNT));
        check("1000000000000001", None);
        check("1e16", None);
        check("0", None);
        check("-5", None);
        check("0.5", None);
        check("\"5\"", None);
    }
}
