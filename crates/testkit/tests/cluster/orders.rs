//! The Orders on a real node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use headwater_testkit::nats::Nats;
use headwater_testkit::postgres::Postgres;
use serde_json::{Value, json};
use tokio::sync::RwLockReadGuard;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::kubectl::{Namespace, kubectl, operator, url_for_pods};

const STORE: &str = "http://orders-eventstore:50051";

/// The example's manifests, over servers of this test.
pub(crate) struct Orders {
    pub(crate) namespace: Namespace,
    pub(crate) database: Postgres,
    pub(crate) broker: Nats,
    /// Held as long as they are.
    _operator: Option<RwLockReadGuard<'static, ()>>,
}

impl Orders {
    /// Without the Secret of its database.
    pub(crate) async fn placed() -> Result<Self> {
        Self::place_with(Some(operator().await?))
    }

    /// The same, for whoever sees to it that there is an operator.
    pub(crate) fn place_with(operator: Option<RwLockReadGuard<'static, ()>>) -> Result<Self> {
        let (database, broker) = (Postgres::start()?, Nats::start("")?);
        let mut namespace = Namespace::new("orders")?;
        namespace.reach("db", 5432, database.port())?;
        namespace.reach("nats", 4222, broker.port())?;
        namespace.apply_file("examples/orders")?;
        Ok(Self { namespace, database, broker, _operator: operator })
    }

    fn url(&self) -> String {
        url_for_pods(&self.database, "db")
    }

    /// The Secret of its database.
    pub(crate) fn give_secret(&self) -> Result<()> {
        self.namespace.secret("orders-db", "uri", &self.url())
    }

    pub(crate) async fn ready() -> Result<Self> {
        Self::ready_with(Some(operator().await?)).await
    }

    /// The same, for whoever sees to it that there is an operator.
    pub(crate) async fn ready_with(operator: Option<RwLockReadGuard<'static, ()>>) -> Result<Self> {
        let orders = Self::place_with(operator)?;
        orders.give_secret()?;
        for what in ["eventstream/orders", "projection/orders", "saga/place-order"] {
            orders.namespace.condition(what, "Ready", "True", "Available").await?;
        }
        // Its pods are ready before its read model is built.
        orders.namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
        Ok(orders)
    }
}

fn order(id: &str) -> String {
    format!(
        r#"{{"order_id":"{id}","customer_id":"c","restaurant_id":"r","amount":12.5,"order_items":[{{"code":"a","name":"x","unit_price":12.5,"quantity":1}}]}}"#
    )
}

/// The request that appends its event.
pub(crate) fn append(id: &str) -> Result<Value> {
    let data: Value = serde_json::from_str(&order(id))?;
    let event = json!({"id": Uuid::new_v4(), "type": "order-created", "data": data});
    Ok(json!({"expected": "no_stream", "events": [event]}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pod_appends_is_seen_in_the_read_model_and_a_saga_that_is_stuck_is_told_of() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let append = ["append", "order-1", "--type", "order-created", "--data", &order("1"), "--server", STORE];
    let (done, said) = namespace.headwater(&append).await?;
    ensure!(done, "{said}");
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    let query =
        ["query", "orders/orders", "--query-server", "http://orders-projection:8082", "--output", "json"];
    let (done, said) = namespace.headwater(&query).await?;
    ensure!(done && said.contains(r#""order_id":"1""#), "{said}");
    // Nobody takes or gives back payments here: a person has to look.
    let message = namespace.condition("saga/place-order", "NeedsAttention", "True", "InstancesStuck").await?;
    ensure!(message.contains("1 instances cannot go on"), "{message}");
    let head = || Ok((namespace.get("eventstream/orders")?["status"]["head"] == "1").then_some(()));
    namespace.until("the head in the status", head).await?;
    Ok(())
}

/// Appends and queries without a pause, each asked once more where it fails, and not twice.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<Result<u32>>,
    reading: JoinHandle<Result<u32>>,
}

impl Load {
    pub(crate) fn on(namespace: &Namespace) -> Result<Self> {
        let (caller, stop) = (namespace.caller()?, Arc::new(AtomicBool::new(false)));
        let store = namespace.url("orders-eventstore")?;
        let queries = namespace.url("orders-projection")?;
        let writing = tokio::spawn({
            let (caller, stop) = (caller.clone(), stop.clone());
            async move {
                let mut orders = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("load-{orders}");
                    caller.post(&format!("{store}/v1/streams/{id}/events"), &append(&id)?).await?;
                    orders += 1;
                }
                Ok(orders)
            }
        });
        let reading = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    caller.get(&format!("{queries}/v1/projections/orders/orders?limit=1")).await?;
                    answers += 1;
                }
                Ok(answers)
            }
        });
        Ok(Self { stop, writing, reading })
    }

    /// Every append that was answered is in the read model, once.
    pub(crate) async fn end(self, orders: &Orders) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let (written, answers) = (self.writing.await??, self.reading.await??);
        ensure!(written > 0 && answers > 0, "{written} orders, {answers} answers");
        let rows = || {
            let rows = orders.database.query("SELECT count(*) FROM hw_orders_view.orders")?;
            Ok((rows.trim() == written.to_string()).then_some(()))
        };
        orders.namespace.until(&format!("{written} orders in the read model"), rows).await
    }
}

/// What is active, and how many revisions there ever were.
fn revisions(orders: &Orders) -> Result<(Value, String)> {
    let active = orders.namespace.get("projection/orders")?["status"]["active"]["revision"].clone();
    let last = orders.database.query("SELECT last_revision FROM hw_orders_view.hw_rollout")?;
    Ok((active, last.trim().to_owned()))
}

/// The new revision is built beside the one that answers, which is kept, and answers again when the edit is reverted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_is_edited_under_load_and_the_edit_reverted_while_it_answers() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    // Nobody takes payments here.
    namespace.kubectl(&["delete", "saga/place-order"])?;
    namespace.kubectl(&[
        "patch",
        "projection/orders",
        "--type=merge",
        "--patch",
        r#"{"spec": {"replicas": 2}}"#,
    ])?;
    namespace.until_rolled_out("orders-projection").await?;
    let load = Load::on(namespace)?;
    let patch = async |patch: &str, active: &str| {
        namespace.kubectl(&["patch", "projection/orders", "--type=json", "--patch", patch])?;
        let has_come = || Ok((revisions(&orders)?.0 == active).then_some(()));
        namespace.until(&format!("revision {active}"), has_come).await?;
        namespace.until_rolled_out("orders-projection").await?;
        // The last of the old workers has ended, and what was decided is as the newest of them want it.
        namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
        ensure!(revisions(&orders)? == (json!(active), "2".to_owned()), "{:?}", revisions(&orders)?);
        anyhow::Ok(())
    };
    let column = r#"{"name": "note", "type": "Text"}"#;
    patch(&format!(r#"[{{"op": "add", "path": "/spec/tables/0/columns/0", "value": {column}}}]"#), "2")
        .await?;
    patch(r#"[{"op": "remove", "path": "/spec/tables/0/columns/0"}]"#, "1").await?;
    load.end(&orders).await
}

/// With the services of the example, a cluster does what `headwater dev` does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_are_placed_paid_and_approved_or_rejected_as_on_a_laptop() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    namespace.apply_file("examples/orders/cluster/services.yaml")?;
    for deployment in ["orders", "payments", "restaurants"] {
        namespace.until_rolled_out(deployment).await?;
    }
    let (service, caller) = (namespace.url("orders")?, namespace.caller()?);
    // Its pods are ready before each node knows of them.
    let answers = async || Ok(reqwest::get(format!("{service}/healthz")).await.ok());
    namespace.eventually("an answer of the Service", answers).await?;
    for (restaurant, status, payment) in [("luigi", "Approved", "Debited"), ("chen", "Rejected", "Voided")] {
        let items =
            json!([{"code": "PIZZA-01", "name": "Pizza Margherita", "unit_price": 19.9, "quantity": 2}]);
        let order = json!({"customer_id": "me", "restaurant_id": restaurant, "order_items": items});
        let (_, location) = caller.post(&format!("{service}/api/orders"), &order).await?;
        let url = format!("{service}{}", location.context("where the order is")?);
        let ended = async || {
            let order = caller.get(&url).await?;
            Ok((order["status"] == status && order["payment"] == payment).then_some(()))
        };
        namespace.eventually(&format!("an order of {restaurant} that is {status}, {payment}"), ended).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_of_another_namespace_are_refused_by_name() -> Result<()> {
    let orders = Orders::ready().await?;
    let other = Namespace::new("other")?;
    let store = format!("http://orders-eventstore.{}.svc:50051", orders.namespace.name);
    let (done, said) = other.headwater(&["read", "order-1", "--server", &store]).await?;
    let account = format!("service account {}/default", other.name);
    ensure!(!done && said.contains("needs the verb Read") && said.contains(&account), "{said}");

    // What the operator shows to the pods of one namespace is of no use in another.
    let partitions = format!("{}/v1/partitions", orders.namespace.url("orders-eventstore")?);
    for (namespace, status) in [(&orders.namespace.name, 200), (&other.name, 401)] {
        let audience = format!("--audience=headwater:{namespace}");
        let token =
            kubectl(&["create", "token", "headwater-operator", "--namespace=headwater", &audience], "")?;
        let asked = reqwest::Client::new().get(&partitions).bearer_auth(token.trim()).send().await?;
        ensure!(asked.status() == status, "{namespace}: {}", asked.status());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_wrong_is_said_and_recovered_from() -> Result<()> {
    let orders = Orders::placed().await?;
    let namespace = &orders.namespace;
    let message =
        namespace.condition("eventstream/orders", "ResolvedRefs", "False", "SecretNotFound").await?;
    ensure!(message.contains("spec.database.urlSecretRef") && message.contains("\"orders-db\""), "{message}");
    namespace.condition("eventstream/orders", "Reconciling", "True", "WaitingForDependency").await?;

    namespace.secret("orders-db", "url", "x")?;
    let message =
        namespace.condition("eventstream/orders", "ResolvedRefs", "False", "SecretKeyMissing").await?;
    ensure!(message.contains("needs key \"uri\""), "{message}");

    namespace.secret("orders-db", "uri", "postgres://nobody@db:5432/postgres")?;
    let told = || {
        let stream = namespace.get("eventstream/orders")?;
        let conditions = stream["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let says = |it: &Value| {
            it["message"].as_str().is_some_and(|it| it.contains("role \"nobody\" does not exist"))
        };
        Ok(conditions.iter().any(says).then_some(()))
    };
    namespace.until("what the database said, in the condition", told).await?;
    namespace.condition("eventstream/orders", "DatabaseReady", "False", "AuthenticationFailed").await?;

    namespace.secret("orders-db", "uri", &orders.url())?;
    namespace.condition("eventstream/orders", "Ready", "True", "Available").await?;
    namespace.condition("projection/orders", "Ready", "True", "Available").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_by_hand_is_repaired_and_what_is_not_its_own_is_left_alone() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let took = namespace.until_repaired("orders-eventstore").await?;
    ensure!(took.as_secs_f32() < 5.0, "it took {took:?}");
    namespace.kubectl(&["scale", "deployment/orders-projection", "--replicas=4"])?;
    let scaled =
        || Ok((namespace.get("deployment/orders-projection")?["spec"]["replicas"] == 1).then_some(()));
    namespace.until("the number of pods", scaled).await?;

    let taken = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-eventstore"}, "data": {"a": "b"}}"#;
    kubectl(&["apply", "--namespace", &namespace.name, "--filename", "-"], taken)?;
    let stream = r#"{"apiVersion": "headwater.dev/v1alpha1", "kind": "EventStream", "metadata": {"name": "taken"},
        "spec": {"database": {"type": "PostgreSQL", "urlSecretRef": {"name": "orders-db", "key": "uri"}, "schema": "taken"}}}"#;
    kubectl(&["apply", "--namespace", &namespace.name, "--filename", "-"], stream)?;
    let message = namespace.condition("eventstream/taken", "Stalled", "True", "Conflict").await?;
    ensure!(
        message.contains("ConfigMap \"taken-eventstore\" is there and is not the operator's"),
        "{message}"
    );
    ensure!(namespace.get("configmap/taken-eventstore")?["data"]["a"] == "b", "it is left alone");
    Ok(())
}
