//! A shop: `headwater dev` on this example's folder, and its services as processes of their own.

use std::path::Path;

use anyhow::{Context, Result};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::process::Process;
use reqwest::{Client, Response};
use uuid::Uuid;

/// The event stream.
pub(crate) const STREAM: &str = "orders";

/// `dev` on this example's own folder, without its Procfile.
pub(crate) fn options(data: &Path) -> DevOptions {
    DevOptions::new(env!("CARGO_MANIFEST_DIR"), data).with("--no-procfile")
}

/// The services of a running `dev`.
pub(crate) struct Shop {
    server: String,
    queries: String,
}

impl Shop {
    pub(crate) fn of(dev: &Dev) -> Result<Self> {
        Ok(Self { server: dev.stream(STREAM)?.to_owned(), queries: dev.queries().to_owned() })
    }

    /// Starts one service.
    pub(crate) fn start(&self, service: &str) -> Result<Process> {
        let orders = env!("CARGO_BIN_EXE_orders");
        match service {
            "service" => Process::spawn(
                orders,
                [
                    "service",
                    "--listen",
                    "127.0.0.1:0",
                    "--server",
                    &self.server,
                    "--query-server",
                    &self.queries,
                ],
            ),
            other => Process::spawn(orders, [other, "--server", &self.server]),
        }
    }

    /// Starts the HTTP service and waits until it serves.
    pub(crate) async fn start_http(&self) -> Result<(Process, Http)> {
        let mut process = self.start("service")?;
        let url = process.line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned));
        let url = url.await?;
        Ok((process, Http { client: Client::new(), url }))
    }
}

/// A customer of the HTTP service.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client,
    url: String,
}

impl Http {
    /// Posts `body` as it is.
    pub(crate) async fn post(&self, body: impl Into<String>) -> Result<Response> {
        let url = format!("{}/api/orders", self.url);
        self.client.post(url).body(body.into()).send().await.context("POST /api/orders")
    }

    /// Gets `path`.
    pub(crate) async fn get(&self, path: &str) -> Result<Response> {
        self.client.get(format!("{}{path}", self.url)).send().await.with_context(|| format!("GET {path}"))
    }
}

/// An order of one pizza.
pub(crate) fn order(order_id: Uuid, restaurant: &str, price: &str) -> String {
    format!(
        r#"{{
            "order_id": "{order_id}", "customer_id": "customer-adam", "restaurant_id": "{restaurant}",
            "order_items": [{{"code": "PIZZA-01", "name": "Pizza Margherita", "unit_price": {price}, "quantity": 1}}]
        }}"#
    )
}
