//! The article's session, typed as it stands there, and what a bank refuses.

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::Dev;
use serde_json::{Value, json};

use crate::prompt::{Answer, Prompt, STREAM, options};

const ADAM: &str = "cd371b90-e51b-4801-96fe-14bbe5ddc708";
const TIMMY: &str = "3101ff16-0181-43e1-9153-f81533d5a0df";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_articles_session_gives_the_articles_balances() -> Result<()> {
    let data = tempfile::tempdir()?;
    let dev = Dev::start(&options(data.path())).await?;
    let mut prompt = Prompt::start(&dev)?;

    let created = prompt.say("create###Adam Pahlevi").await?;
    let adam = created.account()?;
    let Answer::Stored { event, .. } = created else { unreachable!("it has an account") };
    assert_eq!(event, json!({"AccId": adam, "Type": "CreateEvent", "AccName": "Adam Pahlevi"}));
    balance(&mut prompt, &adam, "Adam Pahlevi", 0).await?;
    stored(&mut prompt, &format!("deposit###{adam}###2000")).await?;
    balance(&mut prompt, &adam, "Adam Pahlevi", 2000).await?;
    stored(&mut prompt, &format!("withdraw###{adam}###2000")).await?;
    balance(&mut prompt, &adam, "Adam Pahlevi", 0).await?;
    let timmy = prompt.say("create###Timmy Richardo").await?.account()?;
    balance(&mut prompt, &timmy, "Timmy Richardo", 0).await?;
    stored(&mut prompt, &format!("deposit###{adam}###5000")).await?;
    balance(&mut prompt, &adam, "Adam Pahlevi", 5000).await?;
    stored(&mut prompt, &format!("transfer###{adam}###{timmy}###1000")).await?;
    balance(&mut prompt, &timmy, "Timmy Richardo", 1000).await?;
    balance(&mut prompt, &adam, "Adam Pahlevi", 4000).await?;
    the_end_of_the_article(&mut prompt, &adam).await?;
    // What came in by a transfer can be spent by the one it came to.
    stored(&mut prompt, &format!("withdraw###{timmy}###1000")).await?;
    balance(&mut prompt, &timmy, "Timmy Richardo", 0).await?;
    assert_eq!(prompt.end().await?, 1, "one command was refused");

    let (events, token) = dev.http(STREAM)?.all_events().await?;
    assert_eq!(events.len(), 11, "{events:?}");
    let rows = dev.http(STREAM)?.rows("accounts", "accounts", &token).await?;
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).cloned().unwrap_or_default();
    assert_eq!(row(&adam), json!({"id": adam, "name": "Adam Pahlevi", "balance": "400"}));
    assert_eq!(row(&timmy), json!({"id": timmy, "name": "Timmy Richardo", "balance": "0"}));
    Ok(())
}

/// The prompt takes the article's commands verbatim where the demo has played what comes before them, and everything is still there
/// after `dev` was killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prompt_goes_on_where_the_demo_ends() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut dev = Dev::start(&options(data.path()).with("--demo")).await?;
    let demo = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|line| line["kind"] == "demo");
    let demo = dev.process().line("the end of the demo", demo).await?;
    assert_eq!(demo["failed"], 0, "{}", dev.process().output());

    let mut prompt = Prompt::start(&dev)?;
    balance(&mut prompt, ADAM, "Adam Pahlevi", 4000).await?;
    balance(&mut prompt, TIMMY, "Timmy Richardo", 1000).await?;
    the_end_of_the_article(&mut prompt, ADAM).await?;
    assert_eq!(prompt.end().await?, 1, "one command was refused");

    dev.kill().await?;
    let dev = Dev::start(&options(data.path())).await?;
    let mut prompt = Prompt::start(&dev)?;
    balance(&mut prompt, ADAM, "Adam Pahlevi", 400).await?;
    balance(&mut prompt, TIMMY, "Timmy Richardo", 1000).await?;
    assert_eq!(prompt.end().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_bank_would_refuse_is_refused_and_stores_nothing() -> Result<()> {
    let data = tempfile::tempdir()?;
    let dev = Dev::start(&options(data.path())).await?;
    let mut prompt = Prompt::start(&dev)?;
    let adam = prompt.say("create###Adam Pahlevi").await?.account()?;
    let timmy = prompt.say("create###Timmy Richardo").await?.account()?;
    stored(&mut prompt, &format!("deposit###{adam}###100")).await?;
    assert_eq!(prompt.end().await?, 0, "all was carried out");

    let insufficient = |account: &str, available: u64, wanted: u64| {
        format!("Insufficient balance of account {account}: {available} available, {wanted} wanted")
    };
    let mut prompt = Prompt::start(&dev)?;
    for (line, refusal) in [
        ("deposit###nobody###5".to_owned(), "Unknown account nobody".to_owned()),
        ("withdraw###nobody###5".to_owned(), "Unknown account nobody".to_owned()),
        (format!("transfer###nobody###{adam}###5"), "Unknown account nobody".to_owned()),
        (format!("transfer###{adam}###nobody###5"), "Unknown account nobody".to_owned()),
        ("balance###nobody".to_owned(), "Unknown account nobody".to_owned()),
        (format!("deposit###{}###5", "x".repeat(300)), format!("Unknown account {}", "x".repeat(300))),
        (format!("withdraw###{adam}###101"), insufficient(&adam, 100, 101)),
        (format!("transfer###{adam}###{timmy}###101"), insufficient(&adam, 100, 101)),
        (format!("withdraw###{timmy}###1"), insufficient(&timmy, 0, 1)),
        (
            format!("deposit###{adam}###0"),
            "Amount 0 is not a positive whole number up to 1000000000000000".to_owned(),
        ),
        (
            format!("withdraw###{adam}###-5"),
            "Amount -5 is not a positive whole number up to 1000000000000000".to_owned(),
        ),
        (
            format!("transfer###{adam}###{timmy}###1.5"),
            "Amount 1.5 is not a positive whole number up to 1000000000000000".to_owned(),
        ),
        (format!("deposit###{adam}"), "Only specify deposit###ID###AMOUNT".to_owned()),
        ("create###".to_owned(), "Only specify create###Account Name".to_owned()),
        (
            "rob###bank".to_owned(),
            "Unknown command rob, only: create###Account Name, deposit###ID###AMOUNT, withdraw###ID###AMOUNT, transfer###FROM###TO###AMOUNT, send###FROM###TO###AMOUNT, balance###ID".to_owned(),
        ),
    ] {
        assert_eq!(prompt.say(&line).await?, Answer::No(refusal), "{line}");
    }
    assert_eq!(prompt.end().await?, 1);
    let (events, _) = dev.http(STREAM)?.all_events().await?;
    assert_eq!(events.len(), 3, "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_can_be_spent_at_once_at_the_same_prompt() -> Result<()> {
    let data = tempfile::tempdir()?;
    let dev = Dev::start(&options(data.path())).await?;
    let mut prompt = Prompt::start(&dev)?;
    let mut accounts = Vec::new();
    for name in ["Ann", "Bob", "Cid", "Dan", "Eve"] {
        accounts.push(prompt.say(&format!("create###{name}")).await?.account()?);
    }
    stored(&mut prompt, &format!("deposit###{}###7", accounts[0])).await?;
    // Once around and more: every payer lives on what has just come in, wherever the partitions are.
    for hop in 0..40 {
        let (from, to) = (&accounts[hop % 5], &accounts[(hop + 1) % 5]);
        stored(&mut prompt, &format!("transfer###{from}###{to}###7")).await?;
    }
    assert_eq!(prompt.end().await?, 0, "nothing was refused");
    Ok(())
}

/// From 4000 on, the article goes to 2500 by one withdrawal, and by four more, of which one finds too little, to 400.
async fn the_end_of_the_article(prompt: &mut Prompt, adam: &str) -> Result<()> {
    stored(prompt, &format!("withdraw###{adam}###1500")).await?;
    balance(prompt, adam, "Adam Pahlevi", 2500).await?;
    stored(prompt, &format!("withdraw###{adam}###500")).await?;
    stored(prompt, &format!("withdraw###{adam}###1500")).await?;
    let refusal = format!("Insufficient balance of account {adam}: 500 available, 1500 wanted");
    assert_eq!(prompt.say(&format!("withdraw###{adam}###1500")).await?, Answer::No(refusal));
    stored(prompt, &format!("withdraw###{adam}###100")).await?;
    balance(prompt, adam, "Adam Pahlevi", 400).await
}

async fn stored(prompt: &mut Prompt, line: &str) -> Result<()> {
    let answer = prompt.say(line).await?;
    ensure!(matches!(answer, Answer::Stored { .. }), "{line} gave {answer:?}");
    Ok(())
}

async fn balance(prompt: &mut Prompt, id: &str, name: &str, balance: u64) -> Result<()> {
    let answer = prompt.say(&format!("balance###{id}")).await?;
    let expected = Answer::Balance(format!("{{Id:{id} Name:{name} Balance:{balance}}}"));
    ensure!(answer == expected, "{answer:?} is not {expected:?}");
    Ok(())
}

#[tokio::test]
async fn a_line_that_is_no_text_is_refused_and_the_next_is_read() -> Result<()> {
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_banku"))
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("piped")?;
    tokio::io::AsyncWriteExt::write_all(&mut input, b"deposit \xff\nnothing\n").await?;
    drop(input);
    let done = child.wait_with_output().await?;
    let said = String::from_utf8(done.stderr)?;
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.starts_with("the line is no UTF-8") && said.contains("Unknown command nothing"), "{said}");
    Ok(())
}
