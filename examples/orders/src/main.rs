//! The services of the Orders example: an order is placed over HTTP, and paid and approved by services that see nothing but events.
//!
//! ```text
//!   POST /api/orders ─▶ service ─order-created─▶ ┌─────────────┐ ─▶ projection `orders` ─▶ GET /api/orders/{id}
//!                                                │ event store │
//!   payment ◀─order-created────────────────────  │             │
//!           ─order-payment-debited────────────▶  │             │
//!   restaurant ◀─order-payment-debited─────────  │             │
//!              ─order-approved, order-rejected▶  └─────────────┘
//! ```

mod amount;
mod event;
mod order;
mod payment;
mod reactor;
mod restaurant;
mod service;
mod views;

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use tokio::net::TcpListener;

use crate::amount::Amount;
use crate::payment::PaymentService;
use crate::restaurant::RestaurantService;

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
}

#[derive(Debug, Subcommand)]
enum Services {
    /// The HTTP API: POST /api/orders, GET /api/orders/{id}.
    Service(ServiceArguments),
    /// Debits new orders.
    Payment(PaymentArguments),
    /// Approves paid orders.
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
    /// The most that is debited for one order.
    #[arg(long, default_value = "1000")]
    limit: Amount,
}

#[derive(Debug, Args)]
struct RestaurantArguments {
    /// Restaurants that take orders.
    #[arg(long, value_delimiter = ',', default_value = "luigi,maria")]
    open: Vec<String>,

    /// Restaurants that take none today.
    #[arg(long, value_delimiter = ',', default_value = "chen")]
    closed: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { services, server } = Arguments::parse();
    match services {
        Services::Service(arguments) => serve(arguments, &server).await,
        Services::Payment(arguments) => pay(arguments, &server).await,
        Services::Restaurant(arguments) => cook(arguments, &server).await,
        Services::All { service, payment, restaurant } => tokio::select! {
            ended = serve(service, &server) => ended,
            ended = pay(payment, &server) => ended,
            ended = cook(restaurant, &server) => ended,
        },
    }
}

async fn serve(
    ServiceArguments { listen, query_server }: ServiceArguments,
    server: &str,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    service::run(listener, server, &query_server).await
}

async fn pay(PaymentArguments { limit }: PaymentArguments, server: &str) -> anyhow::Result<()> {
    reactor::run(&PaymentService { limit }, server).await
}

async fn cook(RestaurantArguments { open, closed }: RestaurantArguments, server: &str) -> anyhow::Result<()> {
    reactor::run(&RestaurantService { open, closed }, server).await
}
