//! What is kept in a database, and its end: by the programs that keep it, and by a person.

use std::process::Stdio;

use anyhow::{Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::program;
use tokio::process::Command;

/// What a program says, on both its outputs, and how it ends.
async fn ends(name: &str, words: &[&str]) -> Result<(i32, String)> {
    let output = Command::new(program(name)?).args(words).stdin(Stdio::null()).output().await?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok((output.status.code().unwrap_or(-1), said.concat()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_person_sees_what_is_kept_and_drops_what_nobody_uses() -> Result<()> {
    let server = Postgres::start()?;
    let database = server.url();
    let manifests = tempfile::tempdir()?;
    counters::write_manifests(manifests.path())?;
    let schemas = async |words: &[&str]| {
        ends("headwater", &[&["schemas"], words, &["--database", &database]].concat()).await
    };
    let (code, said) = schemas(&["list"]).await?;
    ensure!(code == 0 && !said.contains("hw_"), "{code}: {said}");
    let store = EventStore::told(manifests.path(), &database, &[]).await?;
    let (code, said) = schemas(&["list"]).await?;
    ensure!(
        code == 0 && said.contains("hw_counters") && said.contains("EventStream default/counters"),
        "{code}: {said}"
    );
    ensure!(said.contains(store.url()), "who uses it: {said}");
    let (code, said) = schemas(&["list", "--output", "json"]).await?;
    let kept: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(code == 0 && kept["holds"] == "Log" && kept["owner"]["name"] == "counters", "{kept}");
    ensure!(kept["used_by"][0] == store.url() && kept["events"] == "0", "{kept}");

    let (code, said) = schemas(&["drop", "hw_counters", "--yes"]).await?;
    ensure!(
        code == 3 && said.contains("is in use by") && said.contains("nothing was changed"),
        "{code}: {said}"
    );
    ensure!(store.into_process().terminate().await?.success(), "it does not end well");
    let (code, said) = schemas(&["drop", "hw_counters"]).await?;
    ensure!(code == 2 && said.contains("--yes"), "{code}: {said}");
    let (code, said) = schemas(&["drop", "hw_counters", "--yes"]).await?;
    ensure!(code == 0 && said.contains("the log of EventStream \"counters\""), "{code}: {said}");
    let (code, said) = schemas(&["drop", "hw_counters", "--yes"]).await?;
    ensure!(code == 4 && said.contains("headwater schemas list"), "{code}: {said}");
    let (code, said) = schemas(&["drop", "Robert'); --", "--yes"]).await?;
    ensure!(code == 2 && said.contains("is no schema"), "{code}: {said}");
    let (code, said) = ends("headwater", &["schemas", "list", "--database", "mysql://x"]).await?;
    ensure!(code == 2 && said.contains("database:") && said.contains("postgres://"), "{code}: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_program_deletes_what_it_keeps_when_it_is_told() -> Result<()> {
    let server = Postgres::start()?;
    let database = server.url();
    let manifests = tempfile::tempdir()?;
    counters::write_manifests(manifests.path())?;
    let folder = manifests.path().to_string_lossy().into_owned();
    let delete = async |more: &[&str]| {
        let words =
            [&[folder.as_str(), "--database", &database, "--bus", "none", "--delete-data"], more].concat();
        ends("headwater-eventstore", &words).await
    };
    let (code, said) = delete(&[]).await?;
    ensure!(code == 0 && said.contains("there is nothing to delete"), "{code}: {said}");
    let store = EventStore::told(manifests.path(), &database, &[]).await?;
    let (code, said) = delete(&[]).await?;
    ensure!(code == 1 && said.contains("is in use by"), "{code}: {said}");
    ensure!(store.into_process().terminate().await?.success(), "it does not end well");
    let (code, said) = delete(&["--namespace", "shop"]).await?;
    ensure!(code == 1 && said.contains("of namespace \"default\", which is another's"), "{code}: {said}");
    let there = "SELECT count(*) FROM pg_namespace WHERE nspname = 'hw_counters'";
    ensure!(server.query(there)?.trim() == "1", "it is there");
    let (code, said) = delete(&[]).await?;
    ensure!(code == 0 && said.contains("of 0 events is deleted"), "{code}: {said}");
    ensure!(server.query(there)?.trim() == "0", "it is gone");
    let words = [&folder, "--data-dir", "x", "--delete-data"];
    let (code, said) = ends("headwater-eventstore", &words).await?;
    ensure!(code == 2 && said.contains("--delete-data") && said.contains("--data-dir"), "{code}: {said}");
    Ok(())
}
