//! Reasons that no other test here comes to, each brought about and, where it can be, mended.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::kubectl::{Namespace, apply, operator};
use crate::orders::Orders;

/// Merges `spec` into that of `what`.
fn patch(namespace: &Namespace, what: &str, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    namespace.kubectl(&["patch", what, "--type=merge", "--patch", &patch]).map(drop)
}

/// A projection of the orders that takes the place of the example's, and fails at what is no number.
fn failing(namespace: &str, name: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "Projection",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "streamRef": {"name": "orders"},
            "sink": {"type": "SQL"},
            "tables": [{"name": "sums", "key": ["id"], "columns": [
                {"name": "id", "type": "Text"}, {"name": "amount", "type": "Decimal", "default": "0"}]}],
            "rules": [{"events": ["order-created"], "type": "Increment", "table": "sums",
                "key": {"id": "event.data.order_id"}, "by": {"amount": "decimal(event.data.customer_id)"}}],
            "onError": {"policy": policy},
        },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_projection_meets_is_told_by_its_reason() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    namespace.kubectl(&["delete", "saga/place-order"])?;
    for (name, policy) in [("parks", "Park"), ("halts", "Halt")] {
        apply(&failing(&namespace.name, name, policy))?;
    }
    let caller = namespace.caller()?;
    let store = namespace.url("orders-eventstore")?;
    let append = async |id: &str| {
        caller.post(&format!("{store}/v1/streams/order-{id}/events"), &crate::orders::append(id)?).await
    };
    append("1").await?;
    let message = namespace.condition("projection/parks", "NeedsAttention", "True", "EventsParked").await?;
    ensure!(message.contains("kubectl headwater parked"), "{message}");
    let message = namespace.condition("projection/halts", "NeedsAttention", "True", "Halted").await?;
    ensure!(message.contains("kubectl headwater skip") && message.contains("partition 0"), "{message}");

    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    patch(
        namespace,
        "projection/orders",
        &json!({"rollout": {"promotion": "Manual", "maxLag": 0}, "rebuildToken": "once more"}),
    )?;
    namespace.condition("projection/orders", "Rebuilding", "True", "AwaitingPromotion").await?;
    namespace.condition("projection/orders", "Ready", "True", "Available").await?;
    namespace.plugin(&["promote", "orders"])?;
    namespace.condition("projection/orders", "Rebuilding", "False", "Promoted").await?;
    patch(namespace, "projection/orders", &json!({"state": "Paused"}))?;
    namespace.condition("projection/orders", "Ready", "True", "Paused").await?;
    patch(namespace, "projection/orders", &json!({"state": "Running"}))?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;

    // What is built beside what answers, and where it cannot be.
    patch(namespace, "projection/halts", &json!({"rebuildToken": "once more"}))?;
    namespace.condition("projection/halts", "Rebuilding", "False", "Failed").await?;
    for id in 2..100 {
        append(&id.to_string()).await?;
    }
    let slowly = json!({"rollout": {"promotion": "Automatic", "maxEventsPerSecond": 1}});
    patch(namespace, "projection/orders", &slowly)?;
    // Pods of before build as fast as they were told.
    namespace.until_rolled_out("orders-projection").await?;
    patch(namespace, "projection/orders", &json!({"rebuildToken": "slowly"}))?;
    namespace.condition("projection/orders", "Rebuilding", "True", "Replaying").await?;
    let message = namespace.condition("projection/orders", "CaughtUp", "False", "Lagging").await?;
    ensure!(message.contains("is being built"), "{message}");
    namespace.condition("projection/orders", "Ready", "True", "Available").await?;
    patch(namespace, "projection/orders", &json!({"rollout": {"maxEventsPerSecond": 0}}))?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;

    // A read model to which a cluster that counted further has given its spec.
    let newest = json!({"created_at": i64::from(u32::MAX), "number": 9});
    let declared = json!({"generation": {"projection": newest, "event_stream": newest}, "digest": "another"});
    orders.database.query(&format!(
        "UPDATE hw_orders_view.hw_rollout SET version = version + 1, declared = '{declared}'"
    ))?;
    let message = namespace.condition("projection/orders", "NeedsAttention", "True", "Outdated").await?;
    ensure!(message.contains("newer spec"), "{message}");
    namespace.plugin(&["rebuild", "orders", "--wait"])?;
    let is_well = || {
        let conditions = namespace.get("projection/orders")?["status"]["conditions"].take();
        let needs = conditions.as_array().into_iter().flatten().any(|it| it["type"] == "NeedsAttention");
        Ok((!needs).then_some(()))
    };
    namespace.until("a projection that needs no attention", is_well).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_an_event_streams_way_is_told_by_its_reason() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    // Another namespace's resource of the same name, over the same database.
    let mut other = Namespace::new("others")?;
    other.reach("db", 5432, orders.database.port())?;
    let uri = namespace.kubectl(&[
        "get",
        "secret/orders-db",
        "--output",
        "go-template={{.data.uri | base64decode}}",
    ])?;
    other.secret("orders-db", "uri", &uri)?;
    let stream = json!({
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "EventStream",
        "metadata": {"name": "orders", "namespace": other.name},
        "spec": {"database": {"type": "PostgreSQL", "urlSecretRef": {"name": "orders-db", "key": "uri"}}},
    });
    apply(&stream)?;
    let message = other.condition("eventstream/orders", "Stalled", "True", "SchemaOwned").await?;
    ensure!(message.contains("headwater.dev/adopt"), "{message}");
    other.condition("eventstream/orders", "Ready", "False", "Unavailable").await?;
    other.kubectl(&["delete", "eventstream/orders"])?;

    // A server without TLS.
    patch(namespace, "eventstream/orders", &json!({"state": "Stopped"}))?;
    namespace.condition("eventstream/orders", "Ready", "True", "Stopped").await?;
    patch(
        namespace,
        "eventstream/orders",
        &json!({"state": "Running", "database": {"tls": {"mode": "VerifyFull"}}}),
    )?;
    let message = namespace.condition("eventstream/orders", "DatabaseReady", "False", "TLSFailed").await?;
    ensure!(message.contains("database.tls"), "{message}");
    patch(namespace, "eventstream/orders", &json!({"database": {"tls": null}}))?;
    namespace.condition("eventstream/orders", "Ready", "True", "Available").await?;

    // A log that a newer Headwater has brought up to its own date.
    let format =
        orders.database.query("UPDATE hw_orders.log SET format = format + 100 RETURNING format - 100")?;
    namespace.kubectl(&["delete", "pods", "--selector=app.kubernetes.io/name=headwater-eventstore"])?;
    let message = namespace.condition("eventstream/orders", "Stalled", "True", "MigrationFailed").await?;
    ensure!(message.contains("newer Headwater"), "{message}");
    let format = format.lines().next().unwrap_or_default().trim().to_owned();
    orders.database.query(&format!("UPDATE hw_orders.log SET format = {format}"))?;
    namespace.condition("eventstream/orders", "Ready", "True", "Available").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_referred_to_and_missing_is_told_by_its_reason() -> Result<()> {
    let _operator = operator().await?;
    let namespace = Namespace::new("missing")?;
    namespace.secret("db", "uri", "postgres://nobody@db/x")?;
    apply(&failing(&namespace.name, "sums", "Park"))?;
    let message = namespace.condition("projection/sums", "ResolvedRefs", "False", "StreamNotFound").await?;
    ensure!(message.contains("EventStream \"orders\" is not there"), "{message}");
    namespace.condition("projection/sums", "Ready", "False", "DependencyNotReady").await?;
    let stream = |spec: Value| {
        let metadata = json!({"name": "orders", "namespace": namespace.name});
        json!({"apiVersion": "headwater.dev/v1alpha1", "kind": "EventStream", "metadata": metadata, "spec": spec})
    };
    let database = json!({"type": "PostgreSQL", "urlSecretRef": {"name": "db", "key": "uri"}});
    let schema = json!({"name": "order-created", "schemaRef": {"configMapKeyRef": {"name": "schemas", "key": "order.json"}}});
    apply(&stream(json!({"database": database, "eventTypes": [schema]})))?;
    let message =
        namespace.condition("eventstream/orders", "ResolvedRefs", "False", "ConfigMapNotFound").await?;
    ensure!(message.contains("\"schemas\"") && message.contains("order.json"), "{message}");
    let metadata = json!({"name": "schemas", "namespace": namespace.name});
    apply(
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"order.json": "{}"}}),
    )?;
    namespace.condition("eventstream/orders", "ResolvedRefs", "True", "Resolved").await?;

    // Without a database there is nothing to follow.
    let spec = json!([{"op": "remove", "path": "/spec/database"}]).to_string();
    let kept = namespace.kubectl(&["patch", "eventstream/orders", "--type=json", "--patch", &spec]);
    ensure!(kept.is_err(), "a database is not taken away");
    namespace.kubectl(&["delete", "eventstream/orders"])?;
    apply(&stream(json!({})))?;
    namespace.condition("eventstream/orders", "Stalled", "True", "InvalidSpec").await?;
    namespace.condition("projection/sums", "ResolvedRefs", "False", "StreamNotReady").await?;

    // What is left alone says so, and is made when the annotation goes.
    namespace.kubectl(&["annotate", "eventstream/orders", "headwater.dev/reconcile=disabled"])?;
    namespace.condition("eventstream/orders", "ReconciliationPaused", "True", "Paused").await?;
    namespace.kubectl(&["annotate", "eventstream/orders", "headwater.dev/reconcile-"])?;
    let is_taken_up = || {
        let conditions = namespace.get("eventstream/orders")?["status"]["conditions"].take();
        let is_paused =
            conditions.as_array().into_iter().flatten().any(|it| it["type"] == "ReconciliationPaused");
        Ok((!is_paused).then_some(()))
    };
    namespace.until("a stream that is taken up again", is_taken_up).await
}
