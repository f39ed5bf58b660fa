//! Amounts are sent from one bank to another by the saga `send`: what the tellers do when they are asked twice, late and in the wrong
//! order, and that no money is made or lost while everything is killed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::{Dev, DevOptions, write};
use headwater_testkit::http::{Http, Outcome};
use headwater_testkit::process::{PATIENCE, Process, program};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;
use uuid::Uuid;

use crate::prompt::{Answer, Prompt};

const HERE: &str = "banku";
const THERE: &str = "partner";

/// Both folders away from the workspace, with tellers at an address of their own, and the data of all of it.
struct Folder {
    directory: TempDir,
    tellers: String,
}

impl Folder {
    fn new() -> Result<Self> {
        let tellers = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let folder = Self { directory: tempfile::tempdir()?, tellers };
        let from = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::create_dir(folder.path("abroad"))?;
        for name in ["eventstream.yaml", "projection.yaml"] {
            std::fs::copy(from.join(name), folder.path(name)).context(name)?;
        }
        for name in ["partner.yaml", "saga.yaml", "demo.http", "Procfile", "run"] {
            let name = format!("abroad/{name}");
            std::fs::copy(from.join(&name), folder.path(&name)).with_context(|| name.clone())?;
        }
        let services = format!("services = {{banku = \"{0}\", partner = \"{0}\"}}\n", folder.tellers);
        write(&folder.path("abroad"), "dev.toml", &services)?;
        Ok(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn banks(&self) -> Result<Banks> {
        let options = DevOptions::new(self.path("abroad"), self.path("data"))
            .with(self.directory.path())
            .with("--no-procfile");
        let dev = Dev::start(&options).await?;
        let words = [
            "serve",
            "--listen",
            &self.tellers,
            "--server",
            dev.stream(HERE)?,
            "--partner",
            dev.stream(THERE)?,
            "--query-server",
            dev.queries(),
        ];
        let mut tellers = Process::spawn(env!("CARGO_BIN_EXE_banku"), words)?;
        tellers.line("where it listens", |line| line.starts_with("listening on").then_some(())).await?;
        let (here, there) = (dev.http(HERE)?, dev.http(THERE)?);
        Ok(Banks { dev, tellers, here, there, url: format!("http://{}", self.tellers) })
    }
}

/// Both banks, as they run.
struct Banks {
    dev: Dev,
    tellers: Process,
    here: Http,
    there: Http,
    url: String,
}

impl Banks {
    async fn open(&self, bank: &Http, account: &str, deposit: u64) -> Result<()> {
        let created = json!({"AccId": account, "Type": "CreateEvent", "AccName": account});
        store(bank, &format!("account-{account}"), &format!("{account}/create"), "CreateEvent", &created)
            .await?;
        if deposit > 0 {
            let deposited = json!({"AccId": account, "Type": "DepositEvent", "Amount": deposit});
            let id = format!("{account}/deposit/{deposit}");
            store(bank, &format!("account-{account}"), &id, "DepositEvent", &deposited).await?;
        }
        Ok(())
    }

    async fn send(&self, send: &str, from: &str, to: &str, amount: u64) -> Result<()> {
        let order =
            json!({"SendId": send, "Type": "SendEvent", "AccId": from, "TargetId": to, "Amount": amount});
        store(&self.here, &format!("send-{send}"), &format!("send/{send}"), "SendEvent", &order).await
    }

    /// Asks the tellers, as the saga does.
    async fn ask(&self, what: &str, body: &Value) -> Result<(u16, String)> {
        let url = format!("{}/v1/{what}", self.url);
        let answer = reqwest::Client::new().post(url).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The balances of one bank, now.
    async fn balances(&self, bank: &Http, projection: &str) -> Result<BTreeMap<String, i64>> {
        let (_, token) = bank.all_events().await?;
        let rows = bank.rows(projection, "accounts", &token).await?;
        let row = |row: &Value| {
            let text = |name: &str| row[name].as_str().with_context(|| format!("{name} in {row}"));
            Ok((text("id")?.to_owned(), text("balance")?.parse()?))
        };
        rows.iter().map(row).collect()
    }

    async fn balance_here(&self, account: &str) -> Result<Option<i64>> {
        Ok(self.balances(&self.here, "accounts").await?.get(account).copied())
    }

    async fn balance_there(&self, account: &str) -> Result<Option<i64>> {
        Ok(self.balances(&self.there, "partner-accounts").await?.get(account).copied())
    }

    /// Waits until every sending has ended, and gives how, by its id.
    async fn ended(&self, sends: usize) -> Result<BTreeMap<String, String>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, token) = self.here.all_events().await?;
            let rows = self.here.rows("sends", "sends", &token).await?;
            let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
            let states: BTreeMap<String, String> =
                rows.iter().map(|row| (text(row, "id"), text(row, "state"))).collect();
            if states.len() == sends && states.values().all(|state| state != "under way") {
                return Ok(states);
            }
            ensure!(Instant::now() < deadline, "not all of {sends} have ended: {states:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    async fn kill(self) -> Result<()> {
        self.dev.kill().await?;
        self.tellers.kill().await
    }
}

/// Stores one event under an id that its name gives, so that it may be stored again.
async fn store(bank: &Http, stream_id: &str, name: &str, event_type: &str, data: &Value) -> Result<()> {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
    let outcome = bank.append(stream_id, &json!("any"), &id, event_type, data).await?;
    ensure!(matches!(outcome, Outcome::Stored(_)), "{name}: {outcome:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tellers_do_everything_once_and_nothing_after_it_was_given_back() -> Result<()> {
    let folder = Folder::new()?;
    let banks = folder.banks().await?;
    banks.open(&banks.here, "dewi", 500).await?;
    banks.open(&banks.there, "budi", 0).await?;
    let asked =
        |send: &str, account: &str, amount: u64| json!({"SendId": send, "AccId": account, "Amount": amount});
    let undo = |send: &str| json!({"SendId": send, "AccId": "dewi"});

    // Asked twice, done once.
    for _ in 0..2 {
        assert_eq!(banks.ask("withdrawals", &asked("one", "dewi", 200)).await?.0, 200);
        assert_eq!(banks.ask("deposits", &asked("one", "budi", 200)).await?.0, 200);
    }
    assert_eq!(
        (banks.balance_here("dewi").await?, banks.balance_there("budi").await?),
        (Some(300), Some(200))
    );

    // The compensation comes first: the action that comes late does nothing.
    for _ in 0..2 {
        assert_eq!(banks.ask("returns", &undo("two")).await?.0, 200);
    }
    let (status, detail) = banks.ask("withdrawals", &asked("two", "dewi", 100)).await?;
    assert!(status == 422 && detail.contains("given back before"), "{status} {detail}");
    // After the action, and again.
    assert_eq!(banks.ask("withdrawals", &asked("three", "dewi", 100)).await?.0, 200);
    for _ in 0..2 {
        assert_eq!(banks.ask("returns", &undo("three")).await?.0, 200);
    }
    assert_eq!(banks.ask("withdrawals", &asked("three", "dewi", 100)).await?.0, 422);
    assert_eq!(banks.balance_here("dewi").await?, Some(300));

    // What was refused stays refused, also when it could be done by now.
    let (status, detail) = banks.ask("withdrawals", &asked("four", "dewi", 301)).await?;
    assert!(status == 422 && detail.contains("300 available, 301 wanted"), "{status} {detail}");
    banks.open(&banks.here, "dewi", 1).await?;
    assert_eq!(banks.ask("withdrawals", &asked("four", "dewi", 301)).await?.0, 422);
    let (status, detail) = banks.ask("deposits", &asked("five", "nobody", 10)).await?;
    assert!(status == 422 && detail.contains("Unknown account nobody"), "{status} {detail}");
    banks.open(&banks.there, "nobody", 0).await?;
    assert_eq!(banks.ask("deposits", &asked("five", "nobody", 10)).await?.0, 422);
    assert_eq!(banks.ask("withdrawals", &asked("six", "nobody", 10)).await?.0, 422);
    assert_eq!(
        (banks.balance_here("dewi").await?, banks.balance_there("nobody").await?),
        (Some(301), Some(0))
    );

    for (body, part) in [
        (json!({"SendId": "a", "AccId": "dewi", "Amount": 0}), "Amount: 0 is no whole number"),
        (json!({"SendId": "a", "AccId": "dewi"}), "Amount"),
        (json!({"SendId": "", "AccId": "dewi", "Amount": 1}), "SendId: it has 0 bytes"),
        (json!({"SendId": "a", "AccId": "x".repeat(201), "Amount": 1}), "AccId: it has 201 bytes"),
        (json!({"SendId": "a", "AccId": "de\u{7}wi", "Amount": 1}), "control character"),
        (json!({"SendId": "a", "AccId": "dewi", "Amount": 1, "Why": ""}), "Why"),
    ] {
        let (status, detail) = banks.ask("withdrawals", &body).await?;
        assert!(status == 400 && detail.contains(part), "{body}: {status} {detail}");
    }
    ensure!(banks.dev.terminate().await?.success(), "dev does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prompt_sends_abroad_what_an_account_has() -> Result<()> {
    let folder = Folder::new()?;
    let banks = folder.banks().await?;
    banks.open(&banks.there, "budi", 0).await?;
    let mut prompt = Prompt::start(&banks.dev)?;
    let dewi = prompt.say("create###Dewi").await?.account()?;
    prompt.say(&format!("deposit###{dewi}###500")).await?;
    let no = prompt.say(&format!("send###{dewi}###budi###501")).await?;
    assert!(matches!(&no, Answer::No(why) if why.contains("500 available, 501 wanted")), "{no:?}");
    let no = prompt.say("send###nobody###budi###1").await?;
    assert_eq!(no, Answer::No("Unknown account nobody".to_owned()));
    for (to, amount) in [("budi", 300), ("nobody", 200)] {
        let sent = prompt.say(&format!("send###{dewi}###{to}###{amount}")).await?;
        let Answer::Stored { event, .. } = sent else { panic!("{sent:?}") };
        assert_eq!((&event["TargetId"], &event["Amount"]), (&json!(to), &json!(amount)));
    }
    assert_eq!(prompt.end().await?, 1, "two were refused");
    let states: Vec<String> = banks.ended(2).await?.into_values().collect();
    assert!(states.contains(&"sent".to_owned()) && states.contains(&"given back".to_owned()), "{states:?}");
    assert_eq!(
        (banks.balance_here(&dewi).await?, banks.balance_there("budi").await?),
        (Some(200), Some(300))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_money_is_made_or_lost_while_everything_is_killed() -> Result<()> {
    const ROUNDS: u64 = 4;
    const SENDS: u64 = 40;
    const DEPOSIT: u64 = 1_000;
    let folder = Folder::new()?;
    let mut banks = folder.banks().await?;
    for account in ["ann", "bob"] {
        banks.open(&banks.here, account, DEPOSIT).await?;
        banks.open(&banks.there, &format!("{account}-abroad"), 0).await?;
    }
    let mut sends = 0;
    for round in 0..ROUNDS {
        for number in 0..SENDS {
            // In the end more is wanted than there is, and one in four is for nobody.
            let from = if number % 2 == 0 { "ann" } else { "bob" };
            let to = if number % 4 == 3 { "nobody".to_owned() } else { format!("{from}-abroad") };
            banks.send(&format!("{round}-{number}"), from, &to, 10 + number % 7).await?;
            sends += 1;
        }
        // In the middle of what they have begun.
        banks.kill().await?;
        banks = folder.banks().await?;
    }
    let states = banks.ended(sends).await?;
    let here = banks.balances(&banks.here, "accounts").await?;
    let there = banks.balances(&banks.there, "partner-accounts").await?;
    assert!(here.values().all(|balance| *balance >= 0), "{here:?}");
    let sum: i64 = here.values().chain(there.values()).sum();
    assert_eq!(sum, 2 * i64::try_from(DEPOSIT)?, "{here:?} {there:?}");
    let mut arrived = 0;
    for round in 0..ROUNDS {
        for number in 0..SENDS {
            let state = states.get(&format!("{round}-{number}")).context("every sending is there")?;
            ensure!(number % 4 != 3 || state == "given back", "what was for nobody is {state}");
            arrived += if state == "sent" { 10 + number % 7 } else { 0 };
        }
    }
    assert_eq!(there.values().sum::<i64>(), i64::try_from(arrived)?);
    assert!(arrived > DEPOSIT, "{arrived} arrived");
    ensure!(banks.dev.terminate().await?.success(), "dev does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_one_that_arrives_and_one_that_is_given_back() -> Result<()> {
    let folder = Folder::new()?;
    let mut dev = Command::new(program("headwater")?);
    dev.args(["--output", "json", "dev"])
        .args([folder.path("abroad"), folder.directory.path().to_owned()])
        .args(["--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0", "--demo", "--exit"])
        .args(["--var", &format!("tellers=http://{}", folder.tellers)])
        .env("BANKU_LISTEN", &folder.tellers);
    let mut dev = Process::start(dev)?;
    let demo = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["kind"] == "demo");
    let demo = dev.line("the end of the demo", demo).await?;
    assert_eq!(demo["failed"], 0, "{}", dev.output());
    let output = dev.output();
    assert_eq!(dev.wait().await?.code(), Some(0), "{output}");
    Ok(())
}
