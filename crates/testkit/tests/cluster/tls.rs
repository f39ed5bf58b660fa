//! What is served by TLS, from a Secret as cert-manager writes it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use headwater_testkit::proofs::{Authority, Issuer};
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
    token: Option<String>,
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
        if let Some(token) = &self.token {
            command.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
        }
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
    let client = Client { namespace, token: Some(namespace.token()?), folder: tempfile::tempdir()? };
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

/// Callers who are nobody in the cluster prove who they are by what the spec names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_outside_calls_by_a_certificate_or_a_token_of_an_issuer_that_is_named() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let authority = Authority::new()?;
    issue(namespace, &authority, None)?;
    let issuer = Issuer::new("https://id.example", "key-1")?;
    let metadata = json!({"name": "trusted", "namespace": namespace.name});
    let data = json!({"ca.crt": authority.pem(), "keys.json": issuer.jwks()});
    apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))?;
    let patch = json!({"spec": {
        "server": {
            "tls": {"secretRef": {"name": "serving"}, "clientCARef": {"kind": "ConfigMap", "name": "trusted", "key": "ca.crt"}},
            "auth": {"jwt": [{
                "issuer": issuer.name, "audiences": ["shop"], "jwksRef": {"kind": "ConfigMap", "name": "trusted", "key": "keys.json"}}]},
        },
        "access": [
            {"subject": {"type": "JWT", "name": "ada"}, "verbs": ["Append"]},
            {"subject": {"type": "CertificateName", "name": "till"}, "verbs": ["Append"]},
        ],
    }});
    namespace.kubectl(&["patch", "eventstream/orders", "--type=merge", "--patch", &patch.to_string()])?;
    namespace.until_rolled_out("orders-eventstore").await?;
    namespace.condition("eventstream/orders", "Ready", "True", "Available").await?;

    let signed = |subject: &str| {
        let mut claims = issuer.claims(subject)?;
        claims["aud"] = json!(["shop"]);
        issuer.sign(&claims)
    };
    let folder = tempfile::tempdir()?;
    let (certificate, key) = authority.issue_until("till", &[], None)?;
    let paths = ["till.crt", "till.key"].map(|name| folder.path().join(name).to_string_lossy().into_owned());
    std::fs::write(&paths[0], certificate)?;
    std::fs::write(&paths[1], key)?;
    let certificate = ["--cert", paths[0].as_str(), "--key", paths[1].as_str()];
    let account = format!("system:serviceaccount:{}:default", namespace.name);
    let calls = |token: Option<String>, order: &str, more: &[&str]| {
        let client = Client { namespace, token, folder: tempfile::tempdir()? };
        let append = crate::orders::append(order)?.to_string();
        let path = format!("/v1/streams/order-{order}/events");
        client.asks(&authority, "orders-eventstore", &path, &[&["--data", &append], more].concat())
    };
    calls(Some(signed("ada")?), "1", &[])?;
    calls(None, "2", &certificate)?;
    for (token, part) in [
        (None, "proves nothing"),
        (Some(signed("eve")?), "JWT subject"),
        // The name of a service account is the cluster's to give.
        (Some(signed(&account)?), "JWT subject"),
        (Some(namespace.token()?), "service account"),
    ] {
        match calls(token, "3", &[]) {
            Err(refused) => ensure!(format!("{refused:#}").contains(part), "{refused:#}"),
            Ok(said) => anyhow::bail!("{part}: {said}"),
        }
    }
    // Our own parts are let in as before.
    let head = || Ok((namespace.get("eventstream/orders")?["status"]["head"] == "2").then_some(()));
    namespace.until("the head in the status", head).await?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    Ok(())
}
