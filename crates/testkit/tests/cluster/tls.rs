//! What is served by TLS, from a Secret as cert-manager writes it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use headwater_testkit::proofs::Authority;
use serde_json::json;

use crate::kubectl::{Namespace, apply, run};
use crate::orders::Orders;

const SERVED: [&str; 3] = ["orders-eventstore", "orders-projection", "place-order-saga"];

/// Puts a certificate for all Services of the namespace into the Secret that they are served by.
fn issue(namespace: &Namespace, authority: &Authority, year: Option<i32>) -> Result<()> {
    let hosts: Vec<String> =
        SERVED.iter().map(|service| format!("{service}.{}.svc", namespace.name)).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let (certificate, key) = authority.issue_until("orders", &hosts, year)?;
    let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": authority.pem()});
    let metadata = json!({"name": "serving", "namespace": namespace.name});
    apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
}

/// Somebody outside of the cluster, who knows where its Services are.
struct Client<'n> {
    namespace: &'n Namespace,
    token: String,
    folder: tempfile::TempDir,
}

impl Client<'_> {
    /// What the Service answers to whoever trusts this authority alone.
    fn asks(&self, authority: &Authority, service: &str, path: &str, more: &[&str]) -> Result<String> {
        let file = self.folder.path().join("ca.crt");
        std::fs::write(&file, authority.pem())?;
        let at = self.namespace.url(service)?;
        let (address, port) = at.trim_start_matches("http://").split_once(':').context("an address")?;
        let host = format!("{service}.{}.svc", self.namespace.name);
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "20", "--cacert"])
            .arg(&file);
        command.args(["--resolve", &format!("{host}:{port}:{address}")]);
        command.args(["--header", &format!("Authorization: Bearer {}", self.token.trim())]);
        command.args(["--header", "Content-Type: application/json"]).args(more);
        run(command.arg(format!("https://{host}:{port}{path}")), "")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_parts_are_served_by_tls_and_a_certificate_that_expired_is_told_of() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let authority = Authority::new()?;
    issue(namespace, &authority, None)?;
    let all = ["eventstream/orders", "projection/orders", "saga/place-order"];
    for what in all {
        let patch = r#"{"spec": {"server": {"tls": {"secretRef": {"name": "serving"}}}}}"#;
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", patch])?;
    }
    for name in SERVED {
        namespace.until_rolled_out(name).await?;
    }
    for what in all {
        namespace.condition(what, "Ready", "True", "Available").await?;
    }
    let url = namespace.get("eventstream/orders")?["status"]["address"]["url"].clone();
    ensure!(url == format!("https://orders-eventstore.{}.svc:50051", namespace.name), "{url}");
    // The operator asks by TLS, and so do those that follow.
    let client = Client { namespace, token: namespace.token()?, folder: tempfile::tempdir()? };
    let append = crate::orders::append("1")?.to_string();
    client.asks(&authority, "orders-eventstore", "/v1/streams/order-1/events", &["--data", &append])?;
    let head = || Ok((namespace.get("eventstream/orders")?["status"]["head"] == "1").then_some(()));
    namespace.until("the head in the status", head).await?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    let has_begun = || {
        let status = namespace.get("saga/place-order")?["status"].take();
        let counts =
            ["running", "compensating", "needsAttention"].map(|it| status[it].as_i64().unwrap_or_default());
        Ok((counts.iter().sum::<i64>() == 1).then_some(()))
    };
    namespace.until("a saga that has begun", has_begun).await?;
    let rows = client.asks(&authority, "orders-projection", "/v1/projections/orders/orders", &[])?;
    ensure!(rows.contains(r#""order_id":"1""#), "{rows}");

    // Renewed, it is served to whoever comes, and no pod is started anew.
    let generation =
        || anyhow::Ok(namespace.get("deployment/orders-eventstore")?["metadata"]["generation"].clone());
    let before = generation()?;
    let renewed = Authority::new()?;
    issue(namespace, &renewed, None)?;
    let is_served = || Ok(client.asks(&renewed, "orders-eventstore", "/v1/head", &[]).ok().map(drop));
    namespace.until("the new certificate", is_served).await?;
    ensure!(generation()? == before, "it was made anew");

    issue(namespace, &renewed, Some(2020))?;
    let message =
        namespace.condition("eventstream/orders", "ResolvedRefs", "False", "CertificateExpired").await?;
    ensure!(message.contains("\"serving\"") && message.contains("2020-12-31"), "{message}");
    issue(namespace, &renewed, None)?;
    namespace.condition("eventstream/orders", "ResolvedRefs", "True", "Resolved").await?;
    Ok(())
}
