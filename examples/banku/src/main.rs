//! The prompt of the Banku example: each line is a command, each command that a bank would carry out becomes an event.
//!
//! ```text
//! line ─command─▶ Command ─bank─▶ Event ──▶ event stream `banku` ──▶ projection `accounts`
//!                            │ ▲                                          │
//!                            │ └──── account: fold of the own stream ─────┘ incoming transfers
//!                            └─▶ Refusal
//! ```

mod account;
mod bank;
mod command;
mod event;
mod prompt;
mod refusal;
mod views;

use std::process::ExitCode;

use clap::Parser;

use crate::bank::Bank;
use crate::views::Views;

/// A bank at a prompt.
///
/// Reads commands from the terminal, or from standard input when that is no terminal. Then nothing but answers is printed, refusals
/// go to standard error, and the exit code is 1 if any command was not carried out; the others are carried out all the same.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The event store of EventStream `banku`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:50051", env = "HEADWATER_SERVER")]
    server: String,

    /// The query API that serves Projection `accounts`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", env = "HEADWATER_QUERY_SERVER")]
    query_server: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut bank = Bank::new(&arguments.server, Views::new(&arguments.query_server)?)?;
    prompt::run(&mut bank).await
}
