//! Services are killed and come back at any time; every order is paid and answered once all the same.

use std::collections::BTreeMap;
use std::pin::Pin;

use anyhow::{Context, Result, ensure};
use futures_util::{Stream, StreamExt};
use headwater_api::{Batch, Client, Subscribe};
use headwater_core::{RecordedEvent, RetryPolicy, Token};
use headwater_testkit::dev::Dev;
use headwater_testkit::process::PATIENCE;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use crate::shop::{STREAM, Shop, options, order};

/// Rounds of orders; in each, some program is killed.
const ROUNDS: usize = 8;

/// What must become of an order.
#[derive(Clone, Copy, Debug)]
struct Kind {
    restaurant: &'static str,
    price: &'static str,
    events: &'static [&'static str],
    row: (&'static str, &'static str),
}

const KINDS: [Kind; 4] = [
    Kind {
        restaurant: "luigi",
        price: "12.50",
        events: &["order-created", "order-payment-debited", "order-approved"],
        row: ("Approved", "Debited"),
    },
    Kind {
        restaurant: "luigi",
        price: "1000.01",
        events: &["order-created", "order-rejected"],
        row: ("Rejected", "None"),
    },
    Kind {
        restaurant: "chen",
        price: "8",
        events: &["order-created", "order-payment-debited", "order-rejected", "order-payment-voided"],
        row: ("Rejected", "Voided"),
    },
    Kind {
        restaurant: "nowhere",
        price: "9",
        events: &["order-created", "order-payment-debited", "order-rejected", "order-payment-voided"],
        row: ("Rejected", "Voided"),
    },
];

/// A subscriber that remembers everything.
pub(crate) struct Log {
    batches: Pin<Box<dyn Stream<Item = headwater_core::Result<Batch>> + Send>>,
    events: Vec<RecordedEvent>,
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
    pub(crate) fn types(&self, order_id: &str) -> Vec<String> {
        let stream_id = format!("order-{order_id}");
        let events = self.events.iter().filter(|event| event.stream_id.as_str() == stream_id);
        events.map(|event| event.event_type.to_string()).collect()
    }

    /// The place after what has been heard.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_that_are_killed_lose_and_double_nothing() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut dev = Dev::start(&options(data.path())).await?;
    let shop = Shop::of(&dev)?;
    let (_service, http) = shop.start_http().await?;
    let mut payment = shop.start("payment")?;
    let mut restaurant = shop.start("restaurant")?;
    let mut log = Log::of(&dev)?;

    let mut orders: BTreeMap<Uuid, Kind> = BTreeMap::new();
    for round in 0..ROUNDS {
        for kind in KINDS {
            let order_id = Uuid::new_v4();
            place(&http, order_id, kind).await?;
            orders.insert(order_id, kind);
        }
        // In the middle of the work that these orders make.
        match round % 4 {
            0 => {
                payment.kill().await?;
                payment = shop.start("payment")?;
            }
            1 => {
                restaurant.kill().await?;
                restaurant = shop.start("restaurant")?;
            }
            2 => {
                let successor = options(data.path()).succeeding(&dev)?;
                dev.kill().await?;
                dev = Dev::start(&successor).await?;
            }
            // Both are away together, and a second payment service does the same work at the same time.
            _ => {
                payment.kill().await?;
                restaurant.kill().await?;
                payment = shop.start("payment")?;
                restaurant = shop.start("restaurant")?;
                let twin = shop.start("payment")?;
                listen(&mut log, &orders).await?;
                twin.kill().await?;
            }
        }
    }
    listen(&mut log, &orders).await?;

    // Once more from the beginning: what is answered stays answered, and a new order shows that all of it was read again.
    payment.kill().await?;
    restaurant.kill().await?;
    let (_payment, _restaurant) = (shop.start("payment")?, shop.start("restaurant")?);
    let order_id = Uuid::new_v4();
    place(&http, order_id, KINDS[0]).await?;
    orders.insert(order_id, KINDS[0]);
    listen(&mut log, &orders).await?;

    for (order_id, kind) in &orders {
        assert_eq!(log.types(&order_id.to_string()), kind.events, "{order_id}: {kind:?}");
    }
    let token = log.token().context("a token")?.to_string();
    let rows = dev.http(STREAM)?.rows("orders", "orders", &token).await?;
    assert_eq!(rows.len(), orders.len());
    for row in rows {
        let text = |column: &str| row[column].as_str().map(str::to_owned).unwrap_or_default();
        let kind = orders.get(&text("order_id").parse()?).with_context(|| format!("{row}"))?;
        assert_eq!((text("status").as_str(), text("payment").as_str()), kind.row, "{row}");
        assert_eq!(text("amount"), kind.price, "{row}");
    }
    causes_are_recorded(&log)
}

/// Places an order as a careful client does: again, under the same id, until it has an answer.
async fn place(http: &crate::shop::Http, order_id: Uuid, kind: Kind) -> Result<()> {
    let body = order(order_id, kind.restaurant, kind.price);
    let placed = async {
        loop {
            let answer = http.post(body.clone()).await?;
            match answer.status() {
                StatusCode::CREATED => return Ok(()),
                StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {}
                status => anyhow::bail!("{status}: {}", answer.text().await?),
            }
        }
    };
    timeout(PATIENCE, placed).await.context("the order is not taken")?
}

/// Waits until every order has all its events.
async fn listen(log: &mut Log, orders: &BTreeMap<Uuid, Kind>) -> Result<()> {
    let settled = |log: &Log| {
        orders.iter().all(|(order_id, kind)| log.types(&order_id.to_string()).len() >= kind.events.len())
    };
    timeout(PATIENCE, log.until(settled)).await.context("not all orders are settled")?
}

/// Each answer names its cause, and all events of an order the order.
fn causes_are_recorded(log: &Log) -> Result<()> {
    for event in &log.events {
        let metadata: Value = serde_json::from_slice(event.metadata.as_bytes())?;
        let order_id = event.stream_id.as_str().trim_start_matches("order-");
        ensure!(metadata["correlation_id"] == order_id, "{metadata} of {order_id}");
        if event.event_type.as_str() != "order-created" {
            let cause = metadata["causation_id"].as_str().context("causation_id")?;
            let known = log
                .events
                .iter()
                .any(|other| other.id.to_string() == cause && other.stream_id == event.stream_id);
            ensure!(known, "{} is caused by {cause}, which is no event of its order", event.event_type);
        }
    }
    Ok(())
}
