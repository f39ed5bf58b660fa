use anyhow::{Context, Result};
use headwater_testkit::dev::Dev;
use rustix::process::Signal;

use crate::support::{Folder, Running, line, run};

#[tokio::test]
async fn everything_is_there_after_a_kill_and_after_a_clean_end() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "1"}"#).await?;
    running.dev.kill().await?;

    let running = folder.dev().await?;
    let token = running.append("order-2", "OrderCreated", r#"{"amount": "2"}"#).await?;
    let rows = running.run(&["--output", "json", "query", "orders/orders", "--min-token", &token]).await?;
    assert_eq!(rows.succeeded()?.json()?["rows"].as_array().context("rows")?.len(), 2);
    assert_eq!(running.dev.terminate().await?.code(), Some(0));

    let running = folder.dev().await?;
    let events = running.run(&["--output", "json", "read", "--all"]).await?.succeeded()?;
    assert_eq!(events.json_lines()?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn it_ends_cleanly_with_either_signal() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM] {
        let folder = Folder::orders()?;
        let mut process = folder.start(&[])?;
        line(&mut process, "ready").await?;
        process.signal(signal)?;
        line(&mut process, "stopped").await?;
        assert_eq!(process.wait().await?.code(), Some(0), "{signal:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_ready_is_said_first_and_what_is_ignored_after() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("more.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\n---\napiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: audit}\nspec: {}\n")?;
    let mut process = folder.start(&[])?;
    let first = process.line("a line", |line| Some(line.to_owned())).await?;
    let ready: serde_json::Value = serde_json::from_str(&first)?;
    assert_eq!(ready["kind"], "ready");
    let names: Vec<_> = ready["streams"]
        .as_array()
        .context("streams")?
        .iter()
        .map(|stream| stream["name"].as_str())
        .collect();
    assert_eq!(names, [Some("audit"), Some("orders")]);
    assert_eq!(ready["projections"][0]["tables"][0], "orders");
    assert!(folder.join(".headwater/.gitignore").exists());
    let note = line(&mut process, "note").await?;
    assert!(note["message"].as_str().is_some_and(|text| text.contains("SQLite")), "{note}");
    let ignored = line(&mut process, "ignored").await?;
    assert_eq!(ignored["resource"], "Service shop");
    assert!(process.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_directory_is_used_by_one_process() -> Result<()> {
    let folder = Folder::orders()?;
    let mut running = folder.dev().await?;
    let pid = running.dev.process().id()?.to_string();
    let (path, data) = (folder.path().display().to_string(), folder.join("data").display().to_string());
    let second =
        ["dev", &path, "--data-dir", &data, "--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0"];
    let done = run(&second).await?;
    done.failed(3, &format!("{data} is in use by another process of Headwater"));
    done.failed(3, &pid);
    running.append("a", "Noted", "1").await?;
    Ok(())
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_is_made() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    let taken = running.server().trim_start_matches("http://").to_owned();
    let other = Folder::orders()?;
    let path = other.path().display().to_string();
    let done = run(&["dev", &path, "--listen", &taken, "--query-listen", "127.0.0.1:0"]).await?;
    done.failed(
        3,
        &format!("cannot listen on {taken} for the event store of \"orders\": another program listens there"),
    );
    done.failed(3, "--listen 127.0.0.1:PORT");
    let done = run(&["dev", &path, "--listen", "127.0.0.1:0", "--query-listen", &taken]).await?;
    done.failed(3, &format!("cannot listen on {taken} for the query API"));
    let done =
        run(&["dev", &path, "--listen", "127.0.0.1:61999", "--query-listen", "127.0.0.1:61999"]).await?;
    done.failed(2, "127.0.0.1:61999 is needed for the event store of \"orders\", by --listen");
    assert!(!other.join(".headwater").exists());
    other.write("file", "")?;
    let file = other.join("file").display().to_string();
    let words =
        ["dev", &path, "--data-dir", &file, "--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0"];
    let done = run(&words).await?;
    done.failed(3, "or give another with --data-dir");
    assert!(!done.err.contains("is it running?"), "{}", done.err);
    Ok(())
}

#[tokio::test]
async fn data_of_a_newer_version_or_of_something_else_is_left_alone() -> Result<()> {
    let folder = Folder::orders()?;
    folder.dev().await?.dev.terminate().await?;
    let (path, data) = (folder.path().display().to_string(), folder.join("data").display().to_string());
    let arguments =
        ["dev", &path, "--data-dir", &data, "--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0"];
    folder.write("data/format", "2\n")?;
    run(&arguments).await?.failed(1, "was written by a newer Headwater");
    assert_eq!(std::fs::read_to_string(folder.join("data/format"))?, "2\n");

    let other = Folder::empty()?;
    other.write("thesis.tex", "")?;
    let elsewhere = other.path().display().to_string();
    run(&["dev", &path, "--data-dir", &elsewhere]).await?.failed(3, "it has thesis.tex in it");
    Ok(())
}

#[tokio::test]
async fn other_partitions_than_those_of_the_data_are_refused() -> Result<()> {
    let folder = Folder::orders()?;
    folder.dev().await?.dev.terminate().await?;
    folder.edit("orders.yaml", "partitions: 2", "partitions: 3")?;
    let (path, data) = (folder.path().display().to_string(), folder.join("data").display().to_string());
    let arguments =
        ["dev", &path, "--data-dir", &data, "--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0"];
    run(&arguments).await?.failed(3, "partitions");
    folder.edit("orders.yaml", "partitions: 3", "partitions: 2")?;
    Running::new(Dev::start(&folder.options()).await?)?.append("a", "Noted", "1").await?;
    Ok(())
}
