//! What a bank says no to.

use crate::event::MAX_AMOUNT;

/// A command that is not carried out, and why. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Unknown command {0}, only: {commands}", commands = crate::command::USAGES.join(", "))]
    UnknownCommand(String),

    #[error("Only specify {0}")]
    WrongArguments(&'static str),

    #[error("Amount {0} is not a positive whole number up to {MAX_AMOUNT}")]
    WrongAmount(String),

    #[error("Unknown account {0}")]
    UnknownAccount(String),

    #[error("Insufficient balance of account {account}: {available} available, {amount} wanted")]
    InsufficientBalance { account: String, available: i128, amount: u64 },

    #[error("Sending {0} was refused or given back before: nothing moves for it any more")]
    Returned(String),
}
