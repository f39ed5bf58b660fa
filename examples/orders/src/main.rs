//! The services of the Orders example: an order is placed over HTTP, and a saga has it paid and approved by services that it calls.
//!
//! ```text
//!   POST /api/orders ─▶ service ─order-created──────────▶ ┌─────────────┐ ─▶ projection `orders` ─▶ GET /api/orders/{id}
//!                       payment ─order-payment-debited──▶ │ event store │
//!   POST /v1/debits ──────▲      order-payment-voided     └─────────────┘
//!   POST /v1/approvals ─▶ restaurant                          ▲  │ order-created
//!                  ▲                order-approved, -rejected │  ▼
//!                  └──────────────────────────────────── Saga `place-order`
//! ```

mod amount;
mod event;
mod ledger;
mod order;
mod participant;
mod payment;
mod restaurant;
mod service;
mod views;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use headwater_api::{Client, CredentialFiles, Credentials};
use tokio::net::TcpListener;

use crate::amount::Amount;
use crate::restaurant::Restaurants;
use crate::views::Views;

/// The services of the Orders example.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    services: Services,

    /// The event store of EventStream `orders`.
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:50051",
        env = "HEADWATER_SERVER"
    )]
    server: String,

    /// A token that says who calls the event store and the query API, such as that of a service account of Kubernetes.
    #[arg(long, global = true, value_name = "FILE", env = "HEADWATER_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Send the token to another machine without TLS: something else encrypts it.
    #[arg(long, global = true, env = "HEADWATER_PLAIN_TEXT")]
    plain_text: bool,

    /// Where the payment and the restaurant service keep their ledgers.
    #[arg(long, global = true, value_name = "FOLDER", default_value = ".orders", env = "ORDERS_DATA")]
    data: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Services {
    /// The HTTP API: POST /api/orders, GET /api/orders/{id}.
    Service(ServiceArguments),
    /// Takes and gives back money: POST /v1/debits, POST /v1/voids.
    Payment(PaymentArguments),
    /// Approves orders: POST /v1/approvals, POST /v1/withdrawals.
    Restaurant(RestaurantArguments),
    /// All three in one process.
    All {
        #[command(flatten)]
        service: ServiceArguments,
        #[command(flatten)]
        payment: PaymentArguments,
        #[command(flatten)]
        restaurant: RestaurantArguments,
    },
}

#[derive(Debug, Args)]
struct ServiceArguments {
    /// Where to serve.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000", env = "ORDERS_LISTEN")]
    listen: SocketAddr,

    /// The query API that serves Projection `orders`.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", env = "HEADWATER_QUERY_SERVER")]
    query_server: String,
}

#[derive(Debug, Args)]
struct PaymentArguments {
    /// Where to serve.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3001", env = "ORDERS_PAYMENT_LISTEN")]
    payment_listen: SocketAddr,

    /// The most that is debited for one order.
    #[arg(long, default_value = "1000")]
    limit: Amount,
}

#[derive(Debug, Args)]
struct RestaurantArguments {
    /// Where to serve.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:3002",
        env = "ORDERS_RESTAURANT_LISTEN"
    )]
    restaurant_listen: SocketAddr,

    /// Restaurants that take orders.
    #[arg(long, value_delimiter = ',', default_value = "luigi,maria")]
    open: Vec<String>,

    /// Restaurants that take none today.
    #[arg(long, value_delimiter = ',', default_value = "chen")]
    closed: Vec<String>,

    /// Restaurants that answer when nobody waits any more.
    #[arg(long, value_delimiter = ',', default_value = "sleepy")]
    asleep: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { services, server, token_file, plain_text, data } = Arguments::parse();
    let files = CredentialFiles { token: token_file, plain_text, ..CredentialFiles::default() };
    let credentials = Credentials::new(files)?;
    let store = || Client::with_credentials(&server, &credentials);
    let views = |server: &str| Views::new(server, credentials.clone());
    match services {
        Services::Service(arguments) => {
            let views = views(&arguments.query_server)?;
            service::run(bind(arguments.listen).await?, store()?, views).await
        }
        Services::Payment(arguments) => pay(arguments, store()?, &data).await,
        Services::Restaurant(arguments) => cook(arguments, &data).await,
        Services::All { service, payment, restaurant } => tokio::select! {
            ended = service::run(bind(service.listen).await?, store()?, views(&service.query_server)?) => ended,
            ended = pay(payment, store()?, &data) => ended,
            ended = cook(restaurant, &data) => ended,
        },
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

async fn pay(
    PaymentArguments { payment_listen, limit }: PaymentArguments,
    store: Client,
    data: &Path,
) -> anyhow::Result<()> {
    payment::run(bind(payment_listen).await?, store, data, limit).await
}

async fn cook(
    RestaurantArguments { restaurant_listen, open, closed, asleep }: RestaurantArguments,
    data: &Path,
) -> anyhow::Result<()> {
    restaurant::run(bind(restaurant_listen).await?, data, Restaurants { open, closed, asleep }).await
}
