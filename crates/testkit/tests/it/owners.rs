//! Whose log is in a schema: that of one resource, which another takes over only when a person says so.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{Process, program};
use tempfile::TempDir;

const SAGA: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place}
spec:
  streamRef: {name: counters}
  startOn: {events: [Added]}
  steps:
  - name: note
    action: {type: Append, append: {streamRef: {name: counters}, streamId: a, type: Noted, data: {}}}
    compensation: {type: None}
";

/// Manifests whose EventStream, or Saga, has these in its metadata, beside its name.
fn manifests(stream: &str, saga: Option<&str>) -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let named = |file: &str, text: String, name: &str, more: &str| {
        let name = format!("metadata: {{name: {name}");
        ensure!(text.contains(&name), "{text}");
        write(directory.path(), file, &text.replacen(&name, &format!("{name}{more}"), 1))
    };
    let text = std::fs::read_to_string(directory.path().join("eventstream.yaml"))?;
    named("eventstream.yaml", text, "counters", stream)?;
    if let Some(saga) = saga {
        named("saga.yaml", SAGA.to_owned(), "place", saga)?;
    }
    Ok(directory)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Starts an event store, and has it end.
async fn starts(manifests: &Path, database: &str, more: &[&str]) -> Result<()> {
    let store = EventStore::told(manifests, database, &words(more)).await?;
    ensure!(store.into_process().terminate().await?.success(), "it does not end well");
    Ok(())
}

/// Why an event store does not start.
async fn refused(manifests: &Path, database: &str, more: &[&str]) -> Result<String> {
    let error = EventStore::told(manifests, database, &words(more)).await.err().context("it starts")?;
    let said = format!("{error:#}");
    let line = said.lines().find_map(|line| line.strip_prefix("error: "));
    let line = line.with_context(|| said.clone())?.to_owned();
    ensure!(line.starts_with("database.schema: "), "{line}");
    Ok(line)
}

fn log_id(server: &Postgres, schema: &str) -> Result<String> {
    Ok(server.query(&format!("SELECT log_id FROM {schema}.log"))?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_of_another_namespace_has_the_log_only_when_it_adopts_it() -> Result<()> {
    let server = Postgres::start()?;
    let database = server.url();
    let plain = manifests("", None)?;
    // With nothing said it is of the namespace "default", and so is whatever runs by hand.
    starts(plain.path(), &database, &[]).await?;
    starts(plain.path(), &database, &["--namespace", "default"]).await?;
    let id = log_id(&server, "hw_counters")?;
    let said = refused(plain.path(), &database, &["--namespace", "shop"]).await?;
    for part in [
        "EventStream \"counters\" of namespace \"default\"",
        "EventStream \"counters\" of namespace \"shop\"",
        "another schema",
        &format!("headwater.dev/adopt: {id}"),
        &format!("--adopt {id}"),
    ] {
        ensure!(said.contains(part), "no {part:?} in {said}");
    }
    // Of another log than this one is nothing that was meant.
    let other = uuid::Uuid::new_v4().to_string();
    let said = refused(plain.path(), &database, &["--namespace", "shop", "--adopt", &other]).await?;
    ensure!(said.contains(&other) && said.contains(&id), "{said}");
    starts(plain.path(), &database, &[]).await?;

    let adopting = manifests(&format!(", annotations: {{headwater.dev/adopt: {id}}}"), None)?;
    starts(adopting.path(), &database, &["--namespace", "shop"]).await?;
    starts(plain.path(), &database, &["--namespace", "shop"]).await?;
    let said = refused(plain.path(), &database, &[]).await?;
    ensure!(said.contains("EventStream \"counters\" of namespace \"shop\""), "{said}");
    starts(plain.path(), &database, &["--adopt", &id]).await?;
    refused(plain.path(), &database, &["--namespace", "shop"]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_was_made_again_under_its_name_is_another() -> Result<()> {
    let server = Postgres::start()?;
    let database = server.url();
    let of = |uid: &str| manifests(&format!(", uid: {uid}"), None);
    let (plain, first, second) = (manifests("", None)?, of("first")?, of("second")?);
    starts(plain.path(), &database, &[]).await?;
    // Who it is was not known until now.
    starts(first.path(), &database, &[]).await?;
    starts(plain.path(), &database, &[]).await?;
    let said = refused(second.path(), &database, &[]).await?;
    ensure!(said.contains("first") && said.contains("second"), "{said}");
    let id = log_id(&server, "hw_counters")?;
    starts(second.path(), &database, &["--adopt", &id]).await?;
    refused(first.path(), &database, &[]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_of_another_namespace_has_not_the_log_either() -> Result<()> {
    let server = Postgres::start()?;
    let database = server.url();
    let plain = manifests("", Some(""))?;
    let data = plain.path().join("store");
    let store = EventStore::alone(plain.path(), &data, "127.0.0.1:0").await?;
    let at = format!("counters={}", store.url());
    let start = |manifests: &Path, namespace: &str| -> Result<Process> {
        let mut all = vec![manifests.to_str().context("a path of UTF-8")?.to_owned()];
        all.extend(words(&["--database", &database, "--event-store", &at, "--namespace", namespace]));
        all.extend(words(&["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]));
        Process::spawn(program("headwater-saga")?, all)
    };
    let starts = async |manifests: &Path, namespace: &str| {
        let mut saga = start(manifests, namespace)?;
        saga.line("that it stands by", |line| line.contains("stands by").then_some(())).await?;
        ensure!(saga.terminate().await?.success(), "it does not end well");
        anyhow::Ok(())
    };
    let refused = async |manifests: &Path, namespace: &str| {
        let why = |line: &str| line.strip_prefix("error: ").map(str::to_owned);
        let said = start(manifests, namespace)?.line("why it ends", why).await?;
        ensure!(said.starts_with("database.schema: "), "{said}");
        anyhow::Ok(said)
    };
    starts(plain.path(), "shop").await?;
    let id = log_id(&server, "hw_saga_place")?;
    let said = refused(plain.path(), "other").await?;
    for part in ["Saga \"place\" of namespace \"shop\"", &format!("headwater.dev/adopt: {id}")] {
        ensure!(said.contains(part), "no {part:?} in {said}");
    }
    let adopting = manifests("", Some(&format!(", annotations: {{headwater.dev/adopt: {id}}}")))?;
    starts(adopting.path(), "other").await?;
    refused(plain.path(), "shop").await.map(drop)
}
