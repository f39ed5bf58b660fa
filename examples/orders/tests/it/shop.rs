//! A shop: `headwater dev` on this example's manifests, and its services as processes of their own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context, Result};
use futures_util::{Stream, StreamExt};
use headwater_api::{Batch, Client, Subscribe};
use headwater_core::{RecordedEvent, RetryPolicy, Token};
use headwater_testkit::dev::{Dev, DevOptions, write};
use headwater_testkit::process::Process;
use reqwest::Response;
use tempfile::TempDir;
use uuid::Uuid;

/// The event stream.
pub(crate) const STREAM: &str = "orders";

/// The manifests away from this folder, with services at addresses of their own, and the data of all of them.
pub(crate) struct Folder {
    directory: TempDir,
    payments: String,
    restaurants: String,
}

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        let folder =
            Self { directory: tempfile::tempdir()?, payments: free_address()?, restaurants: free_address()? };
        let from = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["eventstream.yaml", "projection.yaml", "saga.yaml", "demo.http", "Procfile", "run"] {
            std::fs::copy(from.join(name), folder.path().join(name)).with_context(|| name.to_owned())?;
        }
        let services = format!(
            "[services]\npayments = \"{}\"\nrestaurants = \"{}\"\n",
            folder.payments, folder.restaurants
        );
        write(folder.path(), "dev.toml", &services)?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `dev` on it, without its Procfile.
    pub(crate) fn options(&self) -> DevOptions {
        DevOptions::new(self.path(), self.path().join("data")).with("--no-procfile")
    }

    /// What its services must know.
    pub(crate) fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("ORDERS_PAYMENT_LISTEN", self.payments.clone()),
            ("ORDERS_RESTAURANT_LISTEN", self.restaurants.clone()),
            ("ORDERS_DATA", self.path().join("ledgers").display().to_string()),
        ])
    }

    /// The lines of a service's ledger.
    pub(crate) fn ledger(&self, service: &str) -> Result<Vec<String>> {
        let path = self.path().join("ledgers").join(format!("{service}.jsonl"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// An address that was free just now, for a service whose address must be known before it runs.
pub(crate) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The services beside a running `dev`.
pub(crate) struct Shop {
    server: String,
    queries: String,
    environment: BTreeMap<&'static str, String>,
}

impl Shop {
    pub(crate) fn of(folder: &Folder, dev: &Dev) -> Result<Self> {
        Ok(Self {
            server: dev.stream(STREAM)?.to_owned(),
            queries: dev.queries().to_owned(),
            environment: folder.environment(),
        })
    }

    /// Starts one service and waits until it serves.
    pub(crate) async fn start(&self, service: &str) -> Result<Process> {
        Ok(self.serve(service).await?.0)
    }

    /// Starts the HTTP service and waits until it serves.
    pub(crate) async fn start_http(&self) -> Result<(Process, Http)> {
        let (process, url) = self.serve("service").await?;
        Ok((process, Http { client: reqwest::Client::new(), url }))
    }

    async fn serve(&self, service: &str) -> Result<(Process, String)> {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_orders"));
        command.arg(service).envs(&self.environment).env("ORDERS_LISTEN", "127.0.0.1:0");
        command.env("HEADWATER_SERVER", &self.server).env("HEADWATER_QUERY_SERVER", &self.queries);
        let mut process = Process::start(command)?;
        let url = process.line("its address", |line| line.strip_prefix("listening on ").map(str::to_owned));
        let url = url.await?;
        Ok((process, url))
    }
}

/// A customer of the HTTP service.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
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

/// A subscriber that remembers everything.
pub(crate) struct Log {
    batches: Pin<Box<dyn Stream<Item = headwater_core::Result<Batch>> + Send>>,
    pub(crate) events: Vec<RecordedEvent>,
    token: Option<Token>,
}

impl Log {
    pub(crate) fn of(dev: &Dev) -> Result<Self> {
        let retry = RetryPolicy { attempts: 100, ..Client::RETRY };
        let client = Client::new(dev.stream(STREAM)?)?.with_retry(retry);
        Ok(Self {
            batches: Box::pin(client.subscribe(Subscribe::default())),
            events: Vec::new(),
            token: None,
        })
    }

    /// Listens until what has been heard satisfies `satisfied`.
    pub(crate) async fn until(&mut self, satisfied: impl Fn(&Self) -> bool) -> Result<()> {
        while !satisfied(self) {
            let batch = self.batches.next().await.context("the subscription ended")??;
            self.events.extend(batch.events);
            self.token = Some(batch.token);
        }
        Ok(())
    }

    /// The types of an order's events, in order.
    pub(crate) fn types(&self, order_id: &str) -> Vec<&str> {
        let stream_id = format!("order-{order_id}");
        let events = self.events.iter().filter(|event| event.stream_id.as_str() == stream_id);
        events.map(|event| event.event_type.as_str()).collect()
    }

    /// Whether an order has come to its end.
    pub(crate) fn ended(&self, order_id: &str) -> bool {
        self.types(order_id).iter().any(|it| matches!(*it, "order-approved" | "order-rejected"))
    }

    /// The place after what has been heard.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }
}
