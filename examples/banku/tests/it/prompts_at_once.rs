//! Two prompts at once take out of the same accounts, while `dev` is killed and comes back: no account is ever overdrawn, and every
//! command that was answered is there once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::dev::Dev;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::prompt::{Answer, Prompt, STREAM, options};

const PROMPTS: u64 = 2;
const COMMANDS: usize = 250;
const KILLS: usize = 3;

/// What one prompt came to.
#[derive(Default)]
struct Tally {
    places: Vec<(u64, u64)>,
    refused: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_prompts_at_once_never_overdraw_an_account() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut dev = Dev::start(&options(data.path())).await?;

    let mut opening = Prompt::start(&dev)?;
    let mut places = Vec::new();
    let mut accounts = Vec::new();
    for name in ["Ann", "Bob", "Cid"] {
        let created = opening.say(&format!("create###{name}")).await?;
        accounts.push(created.account()?);
        places.push(place(&created)?);
        let paid_in = opening.say(&format!("deposit###{}###300", accounts[accounts.len() - 1])).await?;
        places.push(place(&paid_in)?);
    }
    assert_eq!(opening.end().await?, 0);

    let accounts: Arc<[String]> = accounts.into();
    let done = watch::Sender::new(0);
    let mut prompts = JoinSet::new();
    for seed in 1..=PROMPTS {
        prompts.spawn(play(Prompt::start(&dev)?, Dice(seed), accounts.clone(), done.clone()));
    }
    let all = COMMANDS * PROMPTS as usize;
    for kill in 1..=KILLS {
        done.subscribe().wait_for(|done| *done >= all * kill / (KILLS + 1)).await?;
        dev = kill_and_restart(dev, data.path()).await?;
    }
    let mut refused = 0;
    while let Some(tally) = prompts.join_next().await {
        let tally = tally??;
        ensure!(tally.places.len() > COMMANDS / 10, "a prompt stored only {} events", tally.places.len());
        refused += tally.refused;
        places.extend(tally.places);
    }
    ensure!(
        refused > 0,
        "no command was refused: the accounts were never short, and the test proves nothing"
    );

    let ledger = Ledger::read(&dev).await?;
    let answered: BTreeSet<_> = places.iter().copied().collect();
    assert_eq!(answered.len(), places.len(), "two commands were told the same place");
    assert_eq!(ledger.places(), answered, "what is stored is what was answered");
    let balances = ledger.balances()?;
    let rows = dev.http(STREAM)?.rows("accounts", "accounts", &ledger.token).await?;
    let rows: BTreeMap<String, i64> = rows.iter().map(row).collect::<Result<_>>()?;
    assert_eq!(rows, balances);
    Ok(())
}

async fn kill_and_restart(dev: Dev, data: &Path) -> Result<Dev> {
    let successor = options(data).succeeding(&dev)?;
    dev.kill().await?;
    Dev::start(&successor).await
}

/// Types random commands, of which most take out.
async fn play(
    mut prompt: Prompt,
    mut dice: Dice,
    accounts: Arc<[String]>,
    done: watch::Sender<usize>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..COMMANDS {
        let account = &accounts[dice.roll(accounts.len())];
        let amount = 1 + dice.roll(60);
        let line = match dice.roll(10) {
            0..2 => format!("deposit###{account}###{amount}"),
            2..6 => format!("withdraw###{account}###{amount}"),
            _ => format!("transfer###{account}###{}###{amount}", accounts[dice.roll(accounts.len())]),
        };
        match prompt.say(&line).await? {
            Answer::No(refusal) if refusal.starts_with("Insufficient balance") => tally.refused += 1,
            answer => tally.places.push(place(&answer).with_context(|| line.clone())?),
        }
        done.send_modify(|done| *done += 1);
    }
    prompt.end().await?;
    Ok(tally)
}

fn place(answer: &Answer) -> Result<(u64, u64)> {
    match answer {
        Answer::Stored { partition, position, .. } => Ok((*partition, *position)),
        other => bail!("nothing was stored: {other:?}"),
    }
}

fn row(row: &Value) -> Result<(String, i64)> {
    let id = row["id"].as_str().context("id")?;
    Ok((id.to_owned(), row["balance"].as_str().context("balance")?.parse()?))
}

/// A small generator of numbers that are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Entry>,
    next: String,
}

#[derive(Deserialize)]
struct Entry {
    partition: u64,
    position: String,
    recorded_at: String,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    acc_id: String,
    r#type: String,
    target_id: Option<String>,
    amount: Option<i64>,
}

/// Everything that is stored, as a stranger reads it, in the order of time. A credit that a debit lives on was recorded before that debit
/// was decided, so in this order no balance may ever be below zero.
struct Ledger {
    entries: Vec<Entry>,
    token: String,
}

impl Ledger {
    async fn read(dev: &Dev) -> Result<Self> {
        let http = dev.http(STREAM)?;
        let mut ledger = Self { entries: Vec::new(), token: String::new() };
        loop {
            let from =
                if ledger.token.is_empty() { String::new() } else { format!("&from={}", ledger.token) };
            let url = format!("{}/v1/events?limit=1000{from}", dev.stream(STREAM)?.trim_end_matches('/'));
            let page: Page = http.json(&url).await?;
            ledger.token = page.next;
            if page.events.is_empty() {
                break;
            }
            ledger.entries.extend(page.events);
        }
        // All times are UTC; the fraction may be shorter where it ends in zeros.
        ledger.entries.sort_by_key(|entry| {
            let (seconds, fraction) =
                entry.recorded_at.trim_end_matches('Z').split_once('.').unwrap_or((&entry.recorded_at, ""));
            (seconds.trim_end_matches('Z').to_owned(), format!("{fraction:0<9}"))
        });
        Ok(ledger)
    }

    fn places(&self) -> BTreeSet<(u64, u64)> {
        self.entries
            .iter()
            .map(|entry| (entry.partition, entry.position.parse().expect("a position is a number")))
            .collect()
    }

    fn balances(&self) -> Result<BTreeMap<String, i64>> {
        let mut balances: BTreeMap<String, i64> = BTreeMap::new();
        for Entry { data, recorded_at, .. } in &self.entries {
            let (debit, credit) = match (data.r#type.as_str(), data.amount) {
                ("CreateEvent", None) => (0, 0),
                ("DepositEvent", Some(amount)) => (0, amount),
                ("WithdrawEvent" | "TransferEvent", Some(amount)) => (amount, 0),
                other => bail!("{other:?} at {recorded_at}"),
            };
            let balance = balances.entry(data.acc_id.clone()).or_default();
            *balance += credit - debit;
            ensure!(*balance >= 0, "account {} is overdrawn by {} at {recorded_at}", data.acc_id, -*balance);
            if let Some(target) = &data.target_id {
                *balances.entry(target.clone()).or_default() += debit;
            }
        }
        Ok(balances)
    }
}
