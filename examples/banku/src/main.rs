//! The prompt of the Banku example: each line is a command, each command that a bank would carry out becomes an event. And the teller, who
//! does what the saga `send` asks of this bank and of another one.
//!
//! ```text
//! line ─command─▶ Command ─bank─▶ Event ──▶ event stream `banku` ──▶ projection `accounts`
//!                            │ ▲                                          │
//!                            │ └──── account: fold of the own stream ─────┘ incoming transfers
//!                            └─▶ Refusal
//!
//! saga `send` ──HTTP──▶ teller ──▶ event streams `banku`, `partner`
//! ```

mod account;
mod accounts;
mod bank;
mod command;
mod event;
mod order;
mod prompt;
mod refusal;
mod teller;
mod views;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use headwater_api::{CredentialFiles, Credentials};
use tokio::net::TcpListener;

use crate::accounts::Accounts;
use crate::bank::Bank;
use crate::teller::Teller;
use crate::views::Views;

/// A bank at a prompt.
///
/// Reads commands from the terminal, or from standard input when that is no terminal. Then nothing but answers is printed, refusals
/// go to standard error, and the exit code is 1 if any command was not carried out; the others are carried out all the same.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,

    /// The event store of EventStream `banku`.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051",
        env = "HEADWATER_SERVER"
    )]
    server: String,

    /// The query API that serves Projection `accounts`.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:8080",
        env = "HEADWATER_QUERY_SERVER"
    )]
    query_server: String,

    /// A token that says who calls the event stores and the query API, such as that of a service account of Kubernetes.
    #[arg(long, global = true, value_name = "FILE", env = "HEADWATER_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Send the token to another machine without TLS: something else encrypts it.
    #[arg(long, global = true, env = "HEADWATER_PLAIN_TEXT")]
    plain_text: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Does what the saga `send` asks of both banks: POST /v1/withdrawals, /v1/returns, /v1/deposits.
    Serve {
        /// Where to serve.
        #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3003", env = "BANKU_LISTEN")]
        listen: SocketAddr,

        /// The event store of EventStream `partner`: the other bank.
        #[arg(
            long,
            value_name = "HOST:PORT",
            default_value = "127.0.0.1:50052",
            env = "HEADWATER_SERVER_PARTNER"
        )]
        partner: String,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { role, server, query_server, token_file, plain_text } = Arguments::parse();
    let files = CredentialFiles { token: token_file, plain_text, ..CredentialFiles::default() };
    let credentials = Credentials::new(files)?;
    let here = Accounts::new(&server, &credentials)?;
    let views = Views::new(&query_server, credentials.clone())?;
    match role {
        None => prompt::run(&mut Bank::new(here, views)).await,
        Some(Role::Serve { listen, partner }) => {
            let teller = Teller { here, there: Accounts::new(&partner, &credentials)?, views };
            let listener =
                TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
            println!("listening on {}", listener.local_addr()?);
            teller::serve(teller, listener).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
