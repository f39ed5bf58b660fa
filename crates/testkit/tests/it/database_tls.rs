//! The programs and their database, over TLS as the manifests say.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::http::Outcome;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{Process, program};
use headwater_testkit::proofs::Authority;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

struct World {
    server: Postgres,
    directory: TempDir,
    /// What the server trusts, and who signed its certificate.
    authority: Authority,
}

impl World {
    /// A server whose certificate is for these hosts.
    fn new(hosts: &[&str]) -> Result<Self> {
        let authority = Authority::new()?;
        let (certificate, key) = authority.issue("database", hosts)?;
        let server = Postgres::start_with_tls(&certificate, &key, &authority.pem())?;
        let world = Self { server, directory: tempfile::tempdir()?, authority };
        counters::write_manifests(world.path())?;
        Ok(world)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The event stream, with these lines as its `spec.database.tls`, and Secrets with our authority, a certificate that it signed, one that
    /// another did, and the URL `url`.
    fn manifests(&self, tls: &str, url: &str) -> Result<()> {
        let text = format!(
            "\
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {{name: counters}}
spec:
  partitions: 3
  database:
    type: PostgreSQL
    urlSecretRef: {{name: counters-db, key: uri}}
    tls: {tls}
"
        );
        write(self.path(), "eventstream.yaml", &text)?;
        let other = Authority::new()?;
        let (ours, other_ones) = (self.authority.issue("store", &[])?, other.issue("store", &[])?);
        let secrets = [
            ("counters-db", json!({"uri": url})),
            ("authority", json!({"ca.crt": self.authority.pem()})),
            ("another", json!({"ca.crt": other.pem()})),
            ("store", json!({"tls.crt": ours.0, "tls.key": ours.1})),
            ("stranger", json!({"tls.crt": other_ones.0, "tls.key": other_ones.1})),
        ];
        let secret = |(name, data)| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
        let secrets: Vec<String> = secrets.map(|entry| secret(entry).to_string()).into();
        write(self.path(), "secrets.yaml", &secrets.join("\n---\n"))?;
        Ok(())
    }

    /// Checks that an event store with these manifests serves nothing, and says why with `part` in it. What may mend itself, such as a
    /// certificate that is being renewed, is waited for.
    async fn refused(&self, part: &str) -> Result<()> {
        let words = [self.path().as_os_str(), "--listen".as_ref(), "127.0.0.1:0".as_ref()];
        let mut process = Process::spawn(program("headwater-eventstore")?, words)?;
        process.line(part, |line| line.contains(part).then_some(())).await?;
        let listening = "listening on ";
        let said = process.output();
        if let Some((_, url)) = said.lines().find_map(|line| line.split_once(listening)) {
            // Where it has ended, there is no answer at all.
            if let Ok(answer) = reqwest::get(format!("{url}/readyz")).await {
                ensure!(answer.status() == 503, "it is ready: {said}");
            }
        }
        process.kill().await
    }

    async fn starts(&self) -> Result<EventStore> {
        EventStore::by_manifest(self.path()).await
    }
}

const FULL: &str = "{mode: VerifyFull, caRef: {kind: Secret, name: authority, key: ca.crt}, clientCertSecretRef: {name: store}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_the_manifests_tls_is_what_is_spoken() -> Result<()> {
    let world = World::new(&["127.0.0.1"])?;
    let url = world.server.url();
    world.manifests(FULL, &url)?;
    let store = world.starts().await?;
    for number in 0..5 {
        let id = Uuid::new_v4().to_string();
        let stored =
            store.http().append("counter-1", &json!("any"), &id, "Added", &counters::added(number)).await?;
        // The server lets nobody in who comes without TLS, or without a certificate.
        ensure!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
    }
    ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_who_does_not_prove_to_be_meant_is_refused_by_name() -> Result<()> {
    let world = World::new(&["127.0.0.1"])?;
    let url = world.server.url();
    for (what, tls, part) in [
        (
            "another authority",
            "{mode: VerifyFull, caRef: {kind: Secret, name: another, key: ca.crt}, clientCertSecretRef: {name: store}}",
            "certificate",
        ),
        (
            "no certificate of ours",
            "{mode: VerifyFull, caRef: {kind: Secret, name: authority, key: ca.crt}}",
            "certificate",
        ),
        ("no TLS", "{mode: Disable}", "encryption"),
        (
            "no such Secret",
            "{mode: VerifyFull, caRef: {kind: Secret, name: nobody, key: ca.crt}}",
            "database.tls.caRef",
        ),
        (
            "a name to expect",
            "{mode: VerifyFull, serverName: elsewhere, caRef: {kind: Secret, name: authority, key: ca.crt}}",
            "database.tls.serverName",
        ),
    ] {
        world.manifests(tls, &url)?;
        world.refused(part).await.with_context(|| what.to_owned())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_certificate_for_another_host_is_accepted_only_where_hosts_do_not_count() -> Result<()>
{
    let world = World::new(&["database.shop.svc"])?;
    let url = world.server.url();
    world.manifests(FULL, &url)?;
    world.refused("certificate").await?;
    world.manifests(&FULL.replace("VerifyFull", "VerifyCA"), &url)?;
    let store = world.starts().await?;
    ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    Ok(())
}
