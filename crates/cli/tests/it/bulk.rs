use anyhow::Result;
use headwater_testkit::process::{Process, program};
use serde_json::Value;

use crate::support::{Folder, Running, finish, headwater, line, run};

async fn stored(running: &Running) -> Result<Vec<(String, u64, u64)>> {
    let read = running.run(&["--output", "json", "read", "--all"]).await?.succeeded()?;
    Ok(numbers(&read.json_lines()?))
}

/// Stream id, version and number of each event.
fn numbers(events: &[Value]) -> Vec<(String, u64, u64)> {
    events
        .iter()
        .map(|event| {
            let stream_id = event["stream_id"].as_str().unwrap_or_default().to_owned();
            (
                stream_id,
                event["version"].as_u64().unwrap_or_default(),
                event["data"]["n"].as_u64().unwrap_or_default(),
            )
        })
        .collect()
}

fn lines(numbers: std::ops::Range<u64>) -> String {
    let line = |n| {
        let counter = n % 7;
        format!("{{\"stream_id\": \"counter-{counter}\", \"type\": \"Added\", \"data\": {{\"n\": {n}}}}}\n")
    };
    numbers.map(line).collect::<Vec<_>>().concat()
}

/// Within each stream id the numbers come in the order of the lines, each once.
fn check(events: &[(String, u64, u64)], count: u64) {
    assert_eq!(events.len() as u64, count);
    for counter in 0..7 {
        let name = format!("counter-{counter}");
        let of = events.iter().filter(|(stream_id, ..)| *stream_id == name);
        for (index, (_, version, n)) in of.enumerate() {
            assert_eq!((*version, *n), (index as u64 + 1, counter + 7 * index as u64), "{name}");
        }
    }
}

#[tokio::test]
async fn lines_are_stored_in_order_and_a_repeated_load_changes_nothing() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let load = ["--output", "json", "append", "--load", "first"];
    let summary = running.run_with(&load, &lines(0..3_000)).await?.succeeded()?.json()?;
    assert_eq!((summary["stored"].as_u64(), summary["load"].as_str()), (Some(3_000), Some("first")));
    running.run_with(&load, &lines(0..3_000)).await?.succeeded()?;
    check(&stored(&running).await?, 3_000);

    let human = running.run_with(&["append"], "\n\n").await?.succeeded()?;
    assert!(human.out.starts_with("stored 0 events in"), "{}", human.out);
    Ok(())
}

#[tokio::test]
async fn a_bad_line_is_named_and_the_load_resumed() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let bad = format!("{}{{\"stream_id\": \"x\"}}\n{}", lines(0..2_000), lines(2_000..3_000));
    let failed = running.run_with(&["append"], &bad).await?;
    failed.failed(2, "line 2001 of standard input: column 18: missing field `type`");
    failed.failed(2, "2,000 events of this load are stored");
    check(&stored(&running).await?, 2_000);

    let name =
        failed.err.rsplit("--load ").next().and_then(|rest| rest.split(':').next()).unwrap_or_default();
    let mended = bad.replace("{\"stream_id\": \"x\"}", "");
    running.run_with(&["append", "--load", name], &mended).await?.succeeded()?;
    check(&stored(&running).await?, 3_000);
    Ok(())
}

#[tokio::test]
async fn a_line_that_the_server_refuses_is_named() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let order = |data: &str| {
        format!("{{\"stream_id\": \"order-1\", \"type\": \"OrderCreated\", \"data\": {data}}}\n")
    };
    let input = [
        order("{\"amount\": \"1\"}"),
        order("{\"amount\": \"2\"}"),
        order("{\"amount\": 3}"),
        order("{\"amount\": \"4\"}"),
    ];
    let failed = running.run_with(&["append"], &input.concat()).await?;
    failed.failed(2, "line 3 of standard input: data: ");
    failed.failed(2, "2 events of this load are stored");

    let expecting = "{\"stream_id\": \"order-1\", \"type\": \"Noted\", \"data\": 1, \"expected\": 1}\n";
    let failed = running.run_with(&["append"], expecting).await?;
    failed.failed(3, "line 1 of standard input: stream \"order-1\" is at version 2");
    let expecting = "{\"stream_id\": \"order-1\", \"type\": \"Noted\", \"data\": 1, \"expected\": 2}\n";
    running.run_with(&["append"], expecting).await?.succeeded()?;
    Ok(())
}

#[tokio::test]
async fn a_load_survives_the_restart_of_its_server() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let server = running.server().to_owned();
    running.append("warm", "Noted", "1").await?;
    running.dev.kill().await?;

    // Begun while nobody answers, it goes on when somebody does.
    let command = headwater(&["append", "--server", &server])?;
    let load = tokio::spawn(async move { finish(command, &lines(0..700)).await });
    let (path, data) = (folder.path().display().to_string(), folder.join("data").display().to_string());
    let address = server.trim_start_matches("http://");
    let arguments = [
        "--output",
        "json",
        "dev",
        &path,
        "--data-dir",
        &data,
        "--listen",
        address,
        "--query-listen",
        "127.0.0.1:0",
    ];
    let mut again = Process::spawn(program("headwater")?, arguments)?;
    line(&mut again, "ready").await?;
    load.await??.succeeded()?;
    let read =
        run(&["--output", "json", "read", "--all", "--prefix", "counter-", "--server", &server]).await?;
    check(&numbers(&read.succeeded()?.json_lines()?), 700);
    assert!(again.terminate().await?.success());
    Ok(())
}
