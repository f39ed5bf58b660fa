//! Services and the coordinator are killed and come back at any time; every order comes to its end, and no money is lost or made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::Dev;
use headwater_testkit::process::PATIENCE;
use reqwest::StatusCode;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shop::{Folder, Http, Log, STREAM, Shop, order};

/// Rounds of kills, while orders are placed.
const ROUNDS: usize = 12;

/// How long all programs run between two kills: some tens of orders.
const PAUSE: Duration = Duration::from_millis(150);

/// What becomes of an order while nothing is killed.
#[derive(Clone, Copy, Debug)]
struct Kind {
    restaurant: &'static str,
    price: &'static str,
    events: &'static [&'static str],
    row: (&'static str, &'static str),
    reason: &'static str,
}

const APPROVED: Kind = Kind {
    restaurant: "luigi",
    price: "12.50",
    events: &["order-created", "order-payment-debited", "order-approved"],
    row: ("Approved", "Debited"),
    reason: "",
};

const VOIDED: [&str; 4] =
    ["order-created", "order-payment-debited", "order-payment-voided", "order-rejected"];

const KINDS: [Kind; 5] = [
    APPROVED,
    Kind {
        restaurant: "luigi",
        price: "1000.01",
        events: &["order-created", "order-rejected"],
        row: ("Rejected", "None"),
        reason: "payment declined: 1000.01 is over the limit of 1000",
    },
    Kind {
        restaurant: "chen",
        price: "8",
        events: &VOIDED,
        row: ("Rejected", "Voided"),
        reason: "restaurant chen is closed",
    },
    Kind {
        restaurant: "nowhere",
        price: "9",
        events: &VOIDED,
        row: ("Rejected", "Voided"),
        reason: "restaurant nowhere is unknown",
    },
    Kind { restaurant: "sleepy", price: "4.20", events: &VOIDED, row: ("Rejected", "Voided"), reason: "" },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_approved_or_its_payment_is_given_back() -> Result<()> {
    let folder = Folder::new()?;
    let dev = Dev::start(&folder.options()).await?;
    let shop = Shop::of(&folder, &dev)?;
    let (_service, http) = shop.start_http().await?;
    let (_payment, _restaurant) = (shop.start("payment").await?, shop.start("restaurant").await?);
    let mut log = Log::of(&dev)?;

    let mut orders: BTreeMap<Uuid, Kind> = BTreeMap::new();
    for kind in KINDS {
        let order_id = Uuid::new_v4();
        place(&http, order_id, kind).await?;
        orders.insert(order_id, kind);
    }
    listen(&mut log, &orders).await?;
    for (order_id, kind) in &orders {
        assert_eq!(log.types(&order_id.to_string()), kind.events, "{order_id}: {kind:?}");
    }
    for row in rows(&dev, &log).await? {
        let kind = orders.get(&row.order_id).with_context(|| format!("{row:?}"))?;
        assert_eq!((row.status.as_str(), row.payment.as_str()), kind.row, "{row:?}");
        assert!(row.reason.contains(kind.reason), "{row:?}");
        assert_eq!(row.amount, kind.price, "{row:?}");
    }
    // What the sleepy restaurant says after its order was withdrawn is refused.
    let late = async {
        while !folder.ledger("restaurant")?.iter().any(|line| line.contains("too late")) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, late).await.context("the late approval never comes")??;
    money_is_conserved(&folder, &dev, &log).await?;
    causes_are_recorded(&log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_are_killed_lose_no_order_and_no_money() -> Result<()> {
    let folder = Folder::new()?;
    let mut dev = Dev::start(&folder.options()).await?;
    let shop = Shop::of(&folder, &dev)?;
    let (_service, http) = shop.start_http().await?;
    let mut payment = shop.start("payment").await?;
    let mut restaurant = shop.start("restaurant").await?;
    let mut log = Log::of(&dev)?;

    let stop = CancellationToken::new();
    let customers = tokio::spawn(place_until(stop.clone(), http.clone()));
    for round in 0..ROUNDS {
        tokio::time::sleep(PAUSE).await;
        match round % 4 {
            0 => {
                payment.kill().await?;
                payment = shop.start("payment").await?;
            }
            1 => {
                restaurant.kill().await?;
                restaurant = shop.start("restaurant").await?;
            }
            2 => {
                let successor = folder.options().succeeding(&dev)?;
                dev.kill().await?;
                dev = Dev::start(&successor).await?;
            }
            // All of them are away together.
            _ => {
                let successor = folder.options().succeeding(&dev)?;
                payment.kill().await?;
                dev.kill().await?;
                restaurant.kill().await?;
                dev = Dev::start(&successor).await?;
                payment = shop.start("payment").await?;
                restaurant = shop.start("restaurant").await?;
            }
        }
    }
    stop.cancel();
    let mut orders = customers.await??;
    // One more, when all is well again: it goes the way that it should.
    let last = Uuid::new_v4();
    place(&http, last, APPROVED).await?;
    orders.insert(last, APPROVED);
    listen(&mut log, &orders).await?;
    assert_eq!(log.types(&last.to_string()), APPROVED.events);

    let rows = rows(&dev, &log).await?;
    assert_eq!(rows.len(), orders.len());
    for row in rows {
        let kind = orders.get(&row.order_id).with_context(|| format!("{row:?}"))?;
        match row.status.as_str() {
            // Only an order that may be.
            "Approved" => assert_eq!((kind.row, row.payment.as_str()), (APPROVED.row, "Debited"), "{row:?}"),
            // A service that was away for too long is a reason to reject any order; its money is never kept.
            "Rejected" => assert_ne!(row.payment, "Debited", "{row:?}"),
            _ => panic!("no end: {row:?}"),
        }
        assert_eq!(row.amount, kind.price, "{row:?}");
        // Nothing of it is told twice.
        let types = log.types(&row.order_id.to_string());
        assert_eq!(types.iter().collect::<BTreeSet<_>>().len(), types.len(), "{types:?}");
    }
    money_is_conserved(&folder, &dev, &log).await?;
    causes_are_recorded(&log)
}

/// A line of a ledger, as its file has it.
#[derive(Debug, Deserialize)]
struct Line {
    key: String,
    order_id: String,
    way: String,
    what: Option<What>,
    refused: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct What {
    /// As it is written.
    amount: Option<Box<RawValue>>,
}

fn ledger(folder: &Folder, service: &str) -> Result<Vec<Line>> {
    let lines = folder.ledger(service)?;
    lines.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone())).collect()
}

/// By the ledgers: what was debited and not voided is what the approved orders cost, an approved order is paid and approved and no other
/// is, and no step of an order was seen under two keys.
async fn money_is_conserved(folder: &Folder, dev: &Dev, log: &Log) -> Result<()> {
    let mut kept = Decimal::ZERO;
    let mut paid = BTreeSet::new();
    let mut approvals = BTreeSet::new();
    for service in ["payment", "restaurant"] {
        let mut keys: BTreeMap<(String, String), String> = BTreeMap::new();
        for line in ledger(folder, service)? {
            let step = (line.order_id.clone(), line.way.clone());
            let other = keys.insert(step, line.key.clone());
            ensure!(other.is_none(), "{service}: {line:?} beside the key {other:?}");
            if line.refused.is_some() {
                continue;
            }
            let done = if service == "payment" { &mut paid } else { &mut approvals };
            let amount = line.what.and_then(|what| what.amount);
            let amount = amount.map_or(Ok(Decimal::ZERO), |amount| amount.get().parse())?;
            if line.way == "do" {
                kept += amount;
                done.insert(line.order_id);
            } else {
                kept -= amount;
                done.remove(&line.order_id);
            }
        }
    }
    let mut cost = Decimal::ZERO;
    let mut approved = BTreeSet::new();
    for row in rows(dev, log).await? {
        if row.status == "Approved" {
            cost += row.amount.parse::<Decimal>()?;
            approved.insert(row.order_id.to_string());
        }
    }
    assert_eq!(kept, cost, "debited − voided = approved");
    assert!(kept > Decimal::ZERO, "some order is approved");
    assert_eq!((&paid, &approvals), (&approved, &approved), "paid, approved by the restaurant, and Approved");
    Ok(())
}

/// A row of the read model.
#[derive(Debug, Deserialize)]
struct Row {
    order_id: Uuid,
    amount: String,
    status: String,
    payment: String,
    reason: String,
}

async fn rows(dev: &Dev, log: &Log) -> Result<Vec<Row>> {
    let token = log.token().context("a token")?.to_string();
    let rows = dev.http(STREAM)?.rows("orders", "orders", &token).await?;
    rows.into_iter().map(|row| Ok(serde_json::from_value(row)?)).collect()
}

/// Places an order as a careful client does: again, under the same id, until it has an answer.
async fn place(http: &Http, order_id: Uuid, kind: Kind) -> Result<()> {
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

/// Places orders of all kinds, one after the other.
async fn place_until(stop: CancellationToken, http: Http) -> Result<BTreeMap<Uuid, Kind>> {
    let mut orders = BTreeMap::new();
    for kind in KINDS.iter().cycle().take_while(|_| !stop.is_cancelled()) {
        let order_id = Uuid::new_v4();
        place(&http, order_id, *kind).await?;
        orders.insert(order_id, *kind);
    }
    Ok(orders)
}

/// Waits until every order has come to its end.
async fn listen(log: &mut Log, orders: &BTreeMap<Uuid, Kind>) -> Result<()> {
    let ended = |log: &Log| orders.keys().all(|order_id| log.ended(&order_id.to_string()));
    timeout(PATIENCE, log.until(ended)).await.context("not all orders come to their end")?
}

/// Every event names the order that it belongs to, and all but the first the one that began it.
fn causes_are_recorded(log: &Log) -> Result<()> {
    for event in &log.events {
        let metadata: Value = serde_json::from_slice(event.metadata.as_bytes())?;
        let order_id = event.stream_id.as_str().trim_start_matches("order-");
        ensure!(metadata["correlation_id"] == order_id, "{metadata} of {order_id}");
        if event.event_type.as_str() != "order-created" {
            let cause = metadata["causation_id"].as_str().context("causation_id")?;
            let first = log.events.iter().find(|other| other.stream_id == event.stream_id);
            let known = first.is_some_and(|first| first.id.to_string() == cause);
            ensure!(
                known,
                "{} is caused by {cause}, which is not the creation of its order",
                event.event_type
            );
        }
    }
    Ok(())
}
