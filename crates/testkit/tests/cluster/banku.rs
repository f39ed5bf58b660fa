//! The bank, on PostgreSQL, Kafka and Redis: as on a laptop, and while each of them is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use headwater_testkit::kafka::Kafka;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::program;
use headwater_testkit::redis::Redis;
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;
use uuid::Uuid;

use crate::kubectl::{Caller, LOOK, Namespace, PATIENCE, operator, run, url_for_pods};

/// Accounts that are paid into side by side.
const ACCOUNTS: usize = 4;

/// The example, as it stands there, on servers of its own.
struct Banku {
    namespace: Namespace,
    database: Postgres,
    broker: Kafka,
    rows: Redis,
    _operator: RwLockReadGuard<'static, ()>,
}

impl Banku {
    async fn ready() -> Result<Self> {
        let operator = operator().await?;
        let (broker, port) = Kafka::start_known_as("kafka:9092")?;
        let (database, rows) = (Postgres::start()?, Redis::start()?);
        let mut namespace = Namespace::new("banku")?;
        namespace.reach("kafka", 9092, port)?;
        namespace.reach("banku-db", 5432, database.port())?;
        namespace.reach("banku-redis", 6379, rows.port())?;
        let url = url_for_pods(&database, "banku-db");
        namespace.secret("banku-db", "uri", &url)?;
        namespace.secret("banku-redis", "url", "redis://banku-redis:6379")?;
        namespace.apply_file("examples/banku")?;
        for what in ["eventstream/banku", "projection/accounts"] {
            namespace.condition(what, "Ready", "True", "Available").await?;
        }
        Ok(Self { namespace, database, broker, rows, _operator: operator })
    }

    /// What the prompt of the example answers to these commands, with a token of the namespace's.
    fn prompt(&self, commands: &str) -> Result<String> {
        let token = tempfile::NamedTempFile::new()?;
        std::fs::write(token.path(), self.namespace.token()?)?;
        let mut prompt = Command::new(program("banku")?);
        prompt.args(["--server", &self.namespace.url("banku-eventstore")?]);
        prompt.args(["--query-server", &self.namespace.url("accounts-projection")?]);
        prompt.arg("--token-file").arg(token.path()).arg("--plain-text");
        run(&mut prompt, commands)
    }

    /// An account that is opened at the prompt.
    fn open(&self, name: &str) -> Result<String> {
        let said = self.prompt(&format!("create###{name}\n"))?;
        let event = said.lines().find_map(|line| line.strip_prefix("Message: ")).context(said.clone())?;
        let event: Value = serde_json::from_str(event)?;
        Ok(event["AccId"].as_str().context("an account")?.to_owned())
    }

    /// An account as it stands in Redis.
    fn row(&self, account: &str) -> Result<Vec<(String, String)>> {
        self.rows.hash(&format!("{{banku}}:g1:accounts:{account}"))
    }

    /// An account as the query API gives it.
    async fn queried(&self, caller: &Caller, account: &str) -> Result<Value> {
        let queries = self.namespace.url("accounts-projection")?;
        caller.get(&format!("{queries}/v1/projections/accounts/accounts/{account}")).await
    }

    /// What stands on the topic, each once: id, type, and whose it is. Each is a CloudEvent, and those that come for the first time come in order of
    /// position, without a gap.
    fn on_the_topic(&self) -> Result<BTreeMap<String, (String, String)>> {
        let mut events = BTreeMap::new();
        let mut reached = BTreeMap::<u16, u64>::new();
        for message in self.broker.messages("banku-transactions")? {
            ensure!(message.header("ce_specversion")? == "1.0", "{message:?}");
            let source = format!("/headwater/{}/banku", self.namespace.name);
            ensure!(message.header("ce_source")? == source, "{message:?}");
            ensure!(message.header("ce_subject")? == message.key, "{message:?}");
            let data: Value = serde_json::from_str(&message.value)?;
            ensure!(message.header("ce_type")? == data["Type"], "{message:?}");
            let position: u64 = message.header("ce_position")?.parse()?;
            let reached = reached.entry(message.partition).or_default();
            ensure!(position <= *reached + 1, "{message:?} comes after {reached}");
            *reached = position.max(*reached);
            let event = (message.header("ce_type")?.to_owned(), message.key.clone());
            let before = events.insert(message.header("ce_id")?.to_owned(), event.clone());
            ensure!(before.is_none_or(|before| before == event), "{message:?}");
        }
        Ok(events)
    }
}

fn fields(account: &str, name: &str, balance: &str) -> Vec<(String, String)> {
    let fields = [("Balance", balance), ("Id", account), ("Name", name)];
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prompt_of_the_bank_works_against_a_cluster_as_against_a_laptop() -> Result<()> {
    let banku = Banku::ready().await?;
    let (jane, john) = (banku.open("Jane Doe")?, banku.open("John Roe")?);
    let said = banku.prompt(&format!(
        "deposit###{jane}###100\nwithdraw###{jane}###30\ntransfer###{jane}###{john}###50\nbalance###{jane}\nbalance###{john}\n"
    ))?;
    ensure!(said.contains(&format!("{{Id:{jane} Name:Jane Doe Balance:20}}")), "{said}");
    ensure!(said.contains(&format!("{{Id:{john} Name:John Roe Balance:50}}")), "{said}");
    let refused = banku.prompt(&format!("withdraw###{john}###51\n")).expect_err("more than there is");
    let refused = format!("{refused:#}");
    ensure!(refused.contains("Insufficient balance") && refused.contains("50 available"), "{refused}");

    let caller = banku.namespace.caller()?;
    for (account, name, balance) in [(&jane, "Jane Doe", "20"), (&john, "John Roe", "50")] {
        ensure!(banku.row(account)? == fields(account, name, balance), "{:?}", banku.row(account)?);
        let queried = banku.queried(&caller, account).await?;
        ensure!(queried == json!({"id": account, "name": name, "balance": balance}), "{queried}");
    }
    let mut on_the_topic: Vec<_> = banku.on_the_topic()?.into_values().collect();
    on_the_topic.sort();
    let (of_jane, of_john) = (format!("account-{jane}"), format!("account-{john}"));
    let mut expected: Vec<_> = ["CreateEvent", "DepositEvent", "TransferEvent", "WithdrawEvent"]
        .map(|event| (event.to_owned(), of_jane.clone()))
        .into();
    expected.push(("CreateEvent".to_owned(), of_john));
    expected.sort();
    ensure!(on_the_topic == expected, "{on_the_topic:?}");
    Ok(())
}

/// What becomes of the payments into one account.
#[derive(Default)]
struct Payments {
    stored: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

/// Pays 1 into an account again and again, each until it is acknowledged: the ids of all.
async fn pay(caller: Caller, store: String, account: String, payments: Arc<Payments>) -> Result<Vec<String>> {
    let url = format!("{store}/v1/streams/account-{account}/events");
    let mut ids = Vec::new();
    while !payments.stop.load(Ordering::Relaxed) {
        let id = Uuid::new_v4().to_string();
        let data = json!({"AccId": account, "Type": "DepositEvent", "Amount": 1});
        let event = json!({"id": id, "type": "DepositEvent", "data": data});
        let append = json!({"expected": "any", "events": [event]});
        let begun = Instant::now();
        while let Err(error) = caller.post(&url, &append).await {
            ensure!(begun.elapsed() < PATIENCE, "{id} into {account}: {error:#}");
            payments.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(LOOK).await;
        }
        payments.stored.fetch_add(1, Ordering::Relaxed);
        ids.push(id);
    }
    Ok(ids)
}

impl Payments {
    /// Waits until so many more are stored, or refused.
    async fn until(namespace: &Namespace, what: &str, count: &AtomicU64, more: u64) -> Result<()> {
        let wanted = count.load(Ordering::Relaxed) + more;
        let is_there = || Ok((count.load(Ordering::Relaxed) >= wanted).then_some(()));
        namespace.until(what, is_there).await
    }
}

/// Payments go on while the broker and Redis are gone; without the database none is acknowledged, and all go on when it is there again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_servers_fail_is_in_the_read_model_and_on_the_topic_once() -> Result<()> {
    let banku = Banku::ready().await?;
    let namespace = &banku.namespace;
    let (caller, store) = (namespace.caller()?, namespace.url("banku-eventstore")?);
    let accounts: Vec<String> =
        (0..ACCOUNTS).map(|number| banku.open(&format!("Saver {number}"))).collect::<Result<_>>()?;
    let payments = Arc::new(Payments::default());
    let payers = accounts.iter().map(|account| {
        let (caller, store, account) = (caller.clone(), store.clone(), account.clone());
        tokio::spawn(pay(caller, store, account, payments.clone()))
    });
    let payers: Vec<_> = payers.collect();
    let more = async |what: &str| Payments::until(namespace, what, &payments.stored, 40).await;
    more("payments").await?;

    banku.broker.kill()?;
    more("payments without the broker").await?;
    banku.broker.resume()?;
    banku.rows.kill()?;
    more("payments without Redis").await?;
    banku.rows.resume()?;
    banku.database.kill()?;
    Payments::until(namespace, "refusals without the database", &payments.refused, 4).await?;
    banku.database.resume()?;
    more("payments with the database again").await?;
    payments.stop.store(true, Ordering::Relaxed);

    let mut paid = BTreeMap::new();
    for (account, payer) in accounts.iter().zip(payers) {
        paid.insert(account, payer.await??);
    }
    let wanted = |number: usize, account: &String| {
        fields(account, &format!("Saver {number}"), &paid[account].len().to_string())
    };
    let is_right = || {
        let mut rows = accounts
            .iter()
            .enumerate()
            .map(|(number, account)| anyhow::Ok(banku.row(account)? == wanted(number, account)));
        Ok(rows.try_fold(true, |all, row| anyhow::Ok(all && row?))?.then_some(()))
    };
    namespace.until("all payments in the read model", is_right).await?;
    // And nothing comes afterwards.
    namespace.condition("projection/accounts", "CaughtUp", "True", "Current").await?;
    for (number, account) in accounts.iter().enumerate() {
        ensure!(banku.row(account)? == wanted(number, account), "{:?}", banku.row(account)?);
        let queried = banku.queried(&caller, account).await?;
        ensure!(queried["balance"] == paid[account].len().to_string(), "{queried}");
    }
    let acknowledged: BTreeSet<_> = paid.values().flatten().cloned().collect();
    let mut missing = acknowledged.clone();
    let begun = Instant::now();
    while !missing.is_empty() && begun.elapsed() < PATIENCE {
        let there: BTreeSet<String> = banku.on_the_topic()?.into_keys().collect();
        missing = acknowledged.difference(&there).cloned().collect();
    }
    ensure!(missing.is_empty(), "{} of {} are not on the topic", missing.len(), acknowledged.len());
    Ok(())
}
