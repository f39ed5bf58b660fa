//! An event store and its bus, over TLS as the manifest says.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::http::Outcome;
use headwater_testkit::nats::Nats;
use headwater_testkit::process::PATIENCE;
use headwater_testkit::proofs::Authority;
use serde_json::json;
use uuid::Uuid;

const EVENTS: usize = 5;

/// A server of NATS that speaks only TLS, and only with those that show a certificate of the same authority.
fn server(authority: &Authority, folder: &Path, hosts: &[&str]) -> Result<Nats> {
    authority.mount(folder, "nats", hosts)?;
    let file = |name: &str| folder.join(name).display().to_string();
    Nats::start(&format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
        file("tls.crt"),
        file("tls.key"),
        file("ca.crt")
    ))
}

/// An event store whose manifest says `tls` of its bus.
async fn store(directory: &Path, broker: &Nats, tls: &str, authority: &Authority) -> Result<EventStore> {
    let bus = format!("{{type: NATS, nats: {{servers: ['{}'], replicas: 1}}, tls: {tls}}}", broker.url());
    counters::write_manifests_with_bus(directory, &bus)?;
    let (certificate, key) = authority.issue("store", &[])?;
    let secret = |name: &str, data| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
            .to_string()
    };
    let secrets = [
        secret("authority", json!({"ca.crt": authority.pem()})),
        secret("another", json!({"ca.crt": Authority::new()?.pem()})),
        secret("store", json!({"tls.crt": certificate, "tls.key": key})),
    ];
    write(directory, "secrets.yaml", &secrets.join("\n---\n"))?;
    let store = EventStore::on_its_bus(directory, &directory.join("data")).await?;
    for number in 0..EVENTS as u64 {
        let id = Uuid::new_v4().to_string();
        let stored =
            store.http().append("counter-1", &json!("any"), &id, "Added", &counters::added(number)).await?;
        ensure!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
    }
    Ok(store)
}

async fn until(store: &EventStore, metric: &str, is: impl Fn(f64) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        // It is counted once the relay has begun.
        let value = store.metric(metric).await;
        if value.as_ref().is_ok_and(|value| is(*value)) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{metric} is {value:?}:\n{}", store.process().output());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

const OURS: &str = "caRef: {kind: Secret, name: authority, key: ca.crt}, clientCertSecretRef: {name: store}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_spoken_to_by_tls_as_the_manifest_says() -> Result<()> {
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let here = server(&authority, &folder.path().join("here"), &["127.0.0.1"])?;
    let elsewhere = server(&authority, &folder.path().join("elsewhere"), &["nats.shop.svc"])?;
    for (broker, mode) in [(&here, "VerifyFull"), (&elsewhere, "VerifyCA")] {
        let directory = tempfile::tempdir()?;
        let store = store(directory.path(), broker, &format!("{{mode: {mode}, {OURS}}}"), &authority).await?;
        until(&store, "headwater_relay_published_total", |count| count >= EVENTS as f64).await?;
        ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_does_not_prove_to_be_meant_gets_nothing_and_appends_go_on() -> Result<()> {
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let here = server(&authority, &folder.path().join("here"), &["127.0.0.1"])?;
    let elsewhere = server(&authority, &folder.path().join("elsewhere"), &["nats.shop.svc"])?;
    for (broker, tls) in [
        (
            &here,
            "{caRef: {kind: Secret, name: another, key: ca.crt}, clientCertSecretRef: {name: store}}"
                .to_owned(),
        ),
        (&here, "{caRef: {kind: Secret, name: authority, key: ca.crt}}".to_owned()),
        (&elsewhere, format!("{{{OURS}}}")),
    ] {
        let directory = tempfile::tempdir()?;
        let store = store(directory.path(), broker, &tls, &authority).await?;
        until(&store, "headwater_relay_failures_total", |count| count > 0.0).await?;
        ensure!(
            store.metric("headwater_relay_published_total").await? == 0.0,
            "{tls}: something was published"
        );
        let said = store.process().output();
        let why = ["certificate", "tls"].iter().any(|word| said.to_lowercase().contains(word));
        ensure!(said.contains("connecting to NATS") && why, "{tls}: {said}");
        ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    }
    Ok(())
}
