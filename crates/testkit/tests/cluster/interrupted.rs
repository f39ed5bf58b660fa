//! The operator, killed after each of its writes in turn: whoever comes after it finishes what was begun.
//!
//! ```text
//! operator ──▶ Counter: lets writes through, and answers the last one to nobody ──▶ kubectl proxy ──▶ API server
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{Process, program};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::kubectl::{Namespace, alone, apply, helm, install, kubectl, kubectl_command, url_for_pods};

/// More than there are writes in what is tried.
const MOST: usize = 40;

/// Stands before the API server.
struct Counter {
    upstream: String,
    http: reqwest::Client,
    writes: AtomicUsize,
    /// The write after which nobody is answered any more.
    last: AtomicUsize,
    reached: Mutex<Arc<Notify>>,
}

impl Counter {
    async fn start(upstream: String) -> Result<(Arc<Self>, String, JoinHandle<std::io::Result<()>>)> {
        let counter = Arc::new(Self {
            upstream,
            http: reqwest::Client::new(),
            writes: AtomicUsize::new(0),
            last: AtomicUsize::new(usize::MAX),
            reached: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(counter.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((counter, url, serving))
    }

    fn stop_after(&self, writes: usize) {
        // What came too late for the one before is nothing to the next.
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
        self.writes.store(0, Ordering::SeqCst);
        self.last.store(writes, Ordering::SeqCst);
    }
}

async fn pass(State(counter): State<Arc<Counter>>, request: Request) -> Response {
    match counter.forward(request).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = Response::new(Body::from(format!("{error:#}")));
            *response.status_mut() = axum::http::StatusCode::BAD_GATEWAY;
            response
        }
    }
}

impl Counter {
    async fn forward(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
        // What is told, and who leads, is not what is made.
        let is_write =
            parts.method != "GET" && !["/leases", "/events", "/token"].iter().any(|it| path.contains(it));
        let number = if is_write { self.writes.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let last = self.last.load(Ordering::SeqCst);
        if number > last {
            std::future::pending::<()>().await;
        }
        let body: Bytes = axum::body::to_bytes(body, 8 << 20).await?;
        let mut asked = self.http.request(parts.method, format!("{}{path}", self.upstream)).body(body);
        for name in ["content-type", "accept"] {
            if let Some(value) = parts.headers.get(name) {
                asked = asked.header(name, value);
            }
        }
        let answered = asked.send().await?;
        if number == last {
            // It is done, and whoever asked will not know.
            self.reached.lock().unwrap_or_else(PoisonError::into_inner).notify_one();
            std::future::pending::<()>().await;
        }
        let mut response = Response::builder().status(answered.status());
        if let Some(value) = answered.headers().get("content-type") {
            response = response.header("content-type", value);
        }
        Ok(response.body(Body::from_stream(answered.bytes_stream()))?)
    }
}

/// Operators of one namespace, outside of the cluster.
struct Operators {
    namespace: String,
    counter: Arc<Counter>,
    configuration: tempfile::TempDir,
}

impl Operators {
    fn start(&self) -> Result<Process> {
        let mut command = tokio::process::Command::new(program("headwater-operator")?);
        // Each has a lease of its own: that of one that was killed would have to run out.
        let lease = Uuid::new_v4().to_string();
        command
            .env("KUBECONFIG", self.configuration.path().join("kubeconfig"))
            .args(["--image", "headwater.dev/headwater:0.1.0", "--image-pull-policy", "Never"])
            .args(["--watch-namespace", &self.namespace, "--namespace", "headwater", "--lease", &lease])
            .args(["--service-account", "headwater-operator", "--listen", "127.0.0.1:0"]);
        Process::start(command)
    }

    /// Has one work until it has written so often, and kills it then; whether it came to that before `is_done`.
    async fn killed_after(
        &self,
        writes: usize,
        namespace: &Namespace,
        is_done: impl Fn() -> Result<Option<()>>,
    ) -> Result<bool> {
        self.counter.stop_after(writes);
        let reached = self.counter.reached.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let operator = self.start()?;
        let was_reached = tokio::select! {
            () = reached.notified() => true,
            done = namespace.until("what one operator does", is_done) => done.map(|()| false)?,
        };
        operator.kill().await?;
        self.counter.stop_after(usize::MAX);
        Ok(was_reached)
    }
}

fn stream(namespace: &str) -> Value {
    json!({
        "apiVersion": "headwater.dev/v1alpha1",
        "kind": "EventStream",
        "metadata": {"name": "orders", "namespace": namespace},
        "spec": {
            "database": {"type": "PostgreSQL", "urlSecretRef": {"name": "db", "key": "uri"}},
            "state": "Stopped",
            "deletionPolicy": "Delete",
        },
    })
}

/// All that is there, without what tells one from another that is alike.
fn children(namespace: &Namespace) -> Result<Vec<String>> {
    let kinds = "deployments,services,configmaps,serviceaccounts,secrets,jobs";
    let all = namespace.kubectl(&["get", kinds, "--output", "name"])?;
    let is_ours = |line: &&str| line.contains("/orders-");
    let mut names: Vec<String> = all.lines().filter(is_ours).map(str::to_owned).collect();
    // What pods read is named after its content, the resource's own identity included.
    for name in &mut names {
        if name.starts_with("configmap/orders-eventstore-") && !name.ends_with("-deletion") {
            "configmap/orders-eventstore-…".clone_into(name);
        }
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_killed_after_any_write_leaves_nothing_half_done() -> Result<()> {
    let all = alone().await?;
    helm("upgrade", &["--set", "replicas=0"])?;
    let done = Box::pin(interrupted()).await;
    // Whatever came of it, the others need one.
    install()?;
    drop(all);
    done
}

async fn interrupted() -> Result<()> {
    let database = Postgres::start()?;
    let mut namespace = Namespace::new("interrupted")?;
    namespace.reach("db", 5432, database.port())?;
    let url = url_for_pods(&database, "db");
    namespace.secret("db", "uri", &url)?;
    let mut command = tokio::process::Command::from(kubectl_command()?);
    command.args(["proxy", "--port=0"]);
    let mut proxy = Process::start(command)?;
    let at = |line: &str| line.split_once("serve on ").map(|(_, at)| format!("http://{}", at.trim()));
    let upstream = proxy.line("where it serves", at).await?;
    let (counter, url, serving) = Counter::start(upstream).await?;
    let configuration = tempfile::tempdir()?;
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    });
    std::fs::write(configuration.path().join("kubeconfig"), text.to_string())?;
    let operators = Operators { namespace: namespace.name.clone(), counter, configuration };

    let is_made = || {
        let stream = namespace.get("eventstream/orders")?;
        let conditions = stream["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is_ready = conditions.iter().any(|it| it["type"] == "Ready" && it["reason"] == "Stopped");
        Ok(is_ready.then_some(()))
    };
    let is_gone = || {
        let is_there = !namespace.kubectl(&["get", "eventstreams", "--output", "name"])?.is_empty();
        Ok((!is_there && children(&namespace)?.is_empty()).then_some(()))
    };
    let (mut made, mut writes) = (Vec::new(), [0, 0]);
    let mut done = [false, false];
    for number in 1..MOST {
        if done == [true, true] {
            break;
        }
        apply(&stream(&namespace.name))?;
        let after = if done[0] { usize::MAX } else { number };
        if operators.killed_after(after, &namespace, is_made).await? {
            writes[0] = number;
            operators.killed_after(usize::MAX, &namespace, is_made).await?;
        } else {
            done[0] = true;
        }
        let there = children(&namespace)?;
        if made.is_empty() {
            made.clone_from(&there);
        }
        ensure!(there == made, "after {number} writes there are {there:?}, and were {made:?}");

        namespace.kubectl(&["delete", "eventstream/orders", "--wait=false"])?;
        let after = if done[1] { usize::MAX } else { number };
        if operators.killed_after(after, &namespace, is_gone).await? {
            writes[1] = number;
            operators.killed_after(usize::MAX, &namespace, is_gone).await?;
        } else {
            done[1] = true;
        }
    }
    ensure!(done == [true, true], "there was no end to the writes: {writes:?}");
    // A finalizer, six objects, a status; a Job made and begun, what it needs and the finalizer taken away.
    ensure!(writes[0] >= 7 && writes[1] >= 4, "killed after {writes:?} writes at most");
    ensure!(made.len() >= 6, "{made:?}");
    serving.abort();
    proxy.kill().await.context("kubectl proxy")?;
    let left = kubectl(&["get", "jobs,configmaps", "--namespace", &namespace.name, "--output", "name"], "")?;
    ensure!(!left.contains("orders"), "{left}");
    Ok(())
}
