use anyhow::Result;
use headwater_testkit::process::{Process, program};
use rustix::process::Signal;
use tokio::process::Command;

use crate::support::{Folder, finish};

#[tokio::test]
async fn events_are_stored_and_read() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let created = ["append", "order-1", "--type", "OrderCreated", "--data", r#"{"amount": "12.50"}"#];
    let stored = running.run(&[&created[..], &["--expected", "no-stream"]].concat()).await?.succeeded()?;
    assert!(stored.out.starts_with("STREAM ID   VERSION   POSITION"), "{}", stored.out);

    running.run(&[&created[..], &["--expected", "no-stream"]].concat()).await?.failed(3, "is at version 1");
    running
        .run(&[&created[..], &["--expected", "7"]].concat())
        .await?
        .failed(3, "the append expected version 7");
    let wrong = ["append", "order-1", "--type", "OrderCreated", "--data", "{}"];
    running.run(&wrong).await?.failed(2, "events[0].data");

    let id = "6c26ee4b-9a4c-4a58-a1f5-3a8b6f1ac7e2";
    let approved = ["append", "order-1", "--type", "OrderApproved", "--id", id, "--data"];
    let first = running.run_with(&[&approved[..], &["-"]].concat(), "{}").await?.succeeded()?;
    let again = running.run(&[&approved[..], &["{}"]].concat()).await?.succeeded()?;
    assert_eq!(first.out, again.out, "the same event is stored once");
    running.run(&[&approved[..], &["{\"other\": 1}"]].concat()).await?.failed(3, id);

    let read = running.run(&["--output", "json", "read", "order-1"]).await?.succeeded()?.json_lines()?;
    let seen: Vec<_> = read.iter().map(|event| (event["version"].as_u64(), event["type"].as_str())).collect();
    assert_eq!(seen, [(Some(1), Some("OrderCreated")), (Some(2), Some("OrderApproved"))]);
    assert_eq!(read[0]["data"]["amount"], "12.50");

    let last = running.run(&["--output", "json", "read", "order-1", "--backwards", "--limit", "1"]).await?;
    assert_eq!(last.json()?["version"], 2);
    running.run(&["read", "order-2"]).await?.failed(4, "\"order-2\" has no events");
    let filtered = running.run(&["--output", "json", "read", "--all", "--type", "OrderApproved"]).await?;
    assert_eq!(filtered.json_lines()?.len(), 1);
    let nothing =
        running.run(&["--output", "json", "read", "--all", "--prefix", "invoice-"]).await?.succeeded()?;
    assert_eq!(nothing.out, "");
    Ok(())
}

#[tokio::test]
async fn an_event_is_one_line_of_json_however_its_data_was_written() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("a", "Noted", "{\n  \"text\": \"two\\nlines\",\r\n  \"n\": [1,\n2]\n}").await?;
    let read = running.run(&["--output", "json", "read", "a"]).await?.succeeded()?;
    assert_eq!(read.out.lines().count(), 1, "{}", read.out);
    assert_eq!(read.json()?["data"], serde_json::json!({"text": "two\nlines", "n": [1, 2]}));
    Ok(())
}

#[tokio::test]
async fn reading_goes_on_from_a_token() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("a", "Noted", "1").await?;
    let page = running.run(&["read", "--all"]).await?.succeeded()?;
    let token = page.err.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    running.append("b", "Noted", "2").await?;
    let rest = running.run(&["--output", "json", "read", "--all", "--from", &token]).await?.succeeded()?;
    let rest = rest.json_lines()?;
    assert_eq!(rest.iter().map(|event| event["stream_id"].as_str()).collect::<Vec<_>>(), [Some("b")]);
    Ok(())
}

#[tokio::test]
async fn a_subscription_prints_what_comes_and_ends_with_ctrl_c() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("a", "Noted", "1").await?;
    let arguments = ["--output", "json", "subscribe", "--from", "beginning", "--server", running.server()];
    let mut subscription = Process::spawn(program("headwater")?, arguments)?;
    let event = |text: &'static str| move |line: &str| line.contains(text).then_some(());
    subscription.line("what was there", event("\"stream_id\":\"a\"")).await?;
    running.append("b", "Noted", "2").await?;
    subscription.line("what came", event("\"stream_id\":\"b\"")).await?;
    subscription.signal(Signal::INT)?;
    assert!(subscription.wait().await?.success());

    let arguments = ["subscribe", "--from", "beginning", "--type", "Noted", "--until-caught-up"];
    let caught_up = running.run(&arguments).await?.succeeded()?;
    assert_eq!(caught_up.out.lines().count(), 3, "a heading and two events:\n{}", caught_up.out);
    Ok(())
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let lines: String = (0..5_000)
        .map(|number| format!("{{\"stream_id\":\"a\",\"type\":\"Noted\",\"data\":{number}}}\n"))
        .collect::<Vec<_>>()
        .concat();
    running.run_with(&["append"], &lines).await?.succeeded()?;
    let script = format!(
        "set -o pipefail; {} read --all --server {} | head -1",
        program("headwater")?.display(),
        running.server()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]);
    let done = finish(command, "").await?;
    assert_eq!((done.code, done.out.lines().count(), done.err.as_str()), (Some(0), 1, ""));
    Ok(())
}
