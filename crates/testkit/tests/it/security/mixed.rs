//! Programs that are served securely, over event stores that are not.

use anyhow::{Result, ensure};
use headwater_testkit::event_store::QueryWorker;
use headwater_testkit::process::{Process, program};

use super::world::{ACCESS, ADA, World};

/// An event store on another machine, in plain text. Nobody is there: whoever may call it waits for it.
const PLAIN: &str = "http://store.shop.svc:50051";

/// A free port of the machine itself.
const HERE: &str = "127.0.0.1:0";

const SAGA: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place}
spec:
  streamRef: {name: counters}
  startOn: {events: [Added]}
  steps:
  - name: note
    action: {type: Append, append: {streamRef: {name: audit}, streamId: a, type: Noted, data: {}}}
    compensation: {type: None}
---
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: audit}
spec: {}
";

/// `headwater-saga` by the manifests of `world`, over these event stores of its two event streams.
fn saga(world: &World, listen: &str, counters: &str, audit: &str, more: &[String]) -> Result<Process> {
    world.file("manifests/saga.yaml", SAGA)?;
    let mut words: Vec<String> = vec![world.text("manifests"), "--data-dir".to_owned(), world.text("saga")];
    for (name, url) in [("counters", counters), ("audit", audit)] {
        words.extend(["--event-store".to_owned(), format!("{name}={url}")]);
    }
    words.extend(["--listen", listen].map(str::to_owned));
    words.extend_from_slice(more);
    Process::spawn(program("headwater-saga")?, words)
}

async fn listens(process: &mut Process) -> Result<()> {
    process.line("where it listens", |line| line.contains(": listening on https://").then_some(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serves_tls_itself_sends_its_token_in_plain_text_where_it_is_told_to() -> Result<()> {
    let world = World::new(ACCESS)?;
    world.file("token", ADA)?;
    let token = ["--token-file".to_owned(), world.text("token")];
    let manifests = world.path("manifests");
    let start = async |flag: Option<&str>| {
        let mut words = [&world.served()[..], &token].concat();
        words.extend(flag.map(str::to_owned));
        QueryWorker::secured(&manifests, PLAIN, &world.path("rows"), &words).await
    };
    let said = start(None).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("token-file: ") && said.contains("--plain-text-calls"), "{said}");
    for flag in ["--plain-text-calls", "--plain-text"] {
        let worker = start(Some(flag)).await?;
        ensure!(worker.url().starts_with("https://"), "{}", worker.url());
        ensure!(worker.into_process().terminate().await?.success(), "the worker does not end well");
        let words = [&world.served()[..], &token, &[flag.to_owned()]].concat();
        let mut saga = saga(&world, HERE, PLAIN, PLAIN, &words)?;
        listens(&mut saga).await?;
        ensure!(saga.terminate().await?.success(), "the saga does not end well");
    }
    // What is sent is one thing, and who is served is another.
    let mut words: Vec<String> = ["--bearer-tokens".to_owned(), world.text("tokens.yaml")].into();
    words.extend([&token[..], &["--plain-text-calls".to_owned()]].concat());
    let mut saga = saga(&world, "0.0.0.0:0", PLAIN, PLAIN, &words)?;
    let why = |line: &str| line.starts_with("error: ").then(|| line.to_owned());
    let said = saga.line("why it ends", why).await?;
    ensure!(said.contains("would not be encrypted") && said.contains("--tls-cert"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorities_are_of_use_as_soon_as_one_event_store_has_a_certificate() -> Result<()> {
    let world = World::new(ACCESS)?;
    let (secure, plain) = ("https://127.0.0.1:9", "http://127.0.0.1:9");
    let words = [world.served(), ["--ca".to_owned(), world.text("tls/ca.crt")].into()].concat();
    for (counters, audit) in [(secure, plain), (plain, secure)] {
        let mut saga = saga(&world, HERE, counters, audit, &words)?;
        listens(&mut saga).await?;
        ensure!(saga.terminate().await?.success(), "the saga does not end well");
    }
    let mut saga = saga(&world, HERE, plain, plain, &words)?;
    let why = |line: &str| line.starts_with("error: ca: ").then(|| line.to_owned());
    let said = saga.line("why it ends", why).await?;
    ensure!(said.contains(plain) && said.contains("of no use"), "{said}");
    Ok(())
}
