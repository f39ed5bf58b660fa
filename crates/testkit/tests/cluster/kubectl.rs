//! The cluster, by its own command.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::program;
use headwater_testkit::proxy::Proxy;
use serde_json::{Value, json};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// An address of this machine that pods reach.
const HOST: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// How long something may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often is looked.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run this by `cargo xtask e2e`"))
}

/// Runs a program; its output is the result.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String> {
    use std::io::Write;

    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("spawn")?;
    let mut into = child.stdin.take().context("standard input")?;
    // Side by side: a program may say much before it has read all.
    let (written, output) = std::thread::scope(|threads| {
        let writing = threads.spawn(move || into.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        (writing.join(), output)
    });
    let output = output?;
    let [said, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    ensure!(output.status.success(), "{command:?}: {said}{errors}");
    written.map_err(|_| anyhow::anyhow!("writing to {command:?} panicked"))??;
    Ok(said.into_owned())
}

/// `kubectl` with these words.
pub(crate) fn kubectl(words: &[&str], input: &str) -> Result<String> {
    run(kubectl_command()?.args(words), input)
}

pub(crate) fn kubectl_command() -> Result<Command> {
    Ok(Command::new(kubectl_folder()?.join("kubectl")))
}

/// Where `kubectl` is.
pub(crate) fn kubectl_folder() -> Result<PathBuf> {
    Ok(PathBuf::from(variable("HEADWATER_CLUSTER_PROGRAMS")?))
}

/// Where `helm` is.
pub(crate) fn helm_folder() -> Result<PathBuf> {
    let helm = PathBuf::from(variable("HEADWATER_HELM")?);
    Ok(helm.parent().context("a folder")?.to_owned())
}

/// Held by each test that needs the operator, and alone by one that takes it away.
static OPERATOR: RwLock<()> = RwLock::const_new(());

/// The chart, installed once for all tests of this process, as a user would; it stays while this is held.
pub(crate) async fn operator() -> Result<RwLockReadGuard<'static, ()>> {
    let held = OPERATOR.read().await;
    install_once()?;
    Ok(held)
}

/// The same, for a test that changes it: no other test goes on while this is held.
pub(crate) async fn alone() -> Result<RwLockWriteGuard<'static, ()>> {
    let held = OPERATOR.write().await;
    install_once()?;
    Ok(held)
}

fn install_once() -> Result<()> {
    static INSTALLED: OnceLock<Result<(), String>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| install().map_err(|error| format!("{error:#}")));
    installed.clone().map_err(|error| anyhow::anyhow!(error))
}

/// The URL of a database for pods, which reach it as `name`.
pub(crate) fn url_for_pods(database: &Postgres, name: &str) -> String {
    database.url().replace(&format!("127.0.0.1:{}", database.port()), &format!("{name}:5432"))
}

/// `helm` does this to the release of the tests.
pub(crate) fn helm(what: &str, flags: &[&str]) -> Result<String> {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/headwater");
    let mut command = Command::new(variable("HEADWATER_HELM")?);
    command.args([what, "headwater"]);
    if what == "upgrade" {
        command.args([chart, "--wait", "--timeout", "90s"]);
    }
    run(command.args(flags).args(["--namespace", "headwater"]), "")
}

pub(crate) fn install() -> Result<()> {
    // Not with what a test before has set, which ended half-way.
    let installed = helm("upgrade", &["--install", "--create-namespace", "--reset-values"]);
    installed.map(drop).map_err(|error| {
        let said = kubectl(&["get", "events", "--namespace", "headwater", "--sort-by=.lastTimestamp"], "");
        error.context(said.unwrap_or_else(|error| format!("{error:#}")))
    })
}

/// A namespace of one test, in which pods have to meet the restricted Pod Security Standard.
pub(crate) struct Namespace {
    pub(crate) name: String,
    proxies: Vec<Proxy>,
}

impl Namespace {
    /// One that begins with `name`.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let name = format!("{name}-{}", &uuid::Uuid::new_v4().to_string()[..8]);
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )?;
        Ok(Self { name, proxies: Vec::new() })
    }

    /// Has pods reach the server on this machine's loopback port `upstream` as `name:port`.
    pub(crate) fn reach(&mut self, name: &str, port: u16, upstream: u16) -> Result<()> {
        let proxy = Proxy::reached_at(HOST, ([127, 0, 0, 1], upstream).into())?;
        let metadata = json!({"name": name, "namespace": self.name});
        apply(
            &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": port}]}}),
        )?;
        apply(&json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-here"), "namespace": self.name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"port": proxy.address().port(), "protocol": "TCP"}],
            "endpoints": [{"addresses": [HOST.to_string()], "conditions": {"ready": true}}],
        }))?;
        self.proxies.push(proxy);
        Ok(())
    }

    /// The path of a configuration whose context has this namespace, in `folder`.
    pub(crate) fn configuration(&self, folder: &Path) -> Result<String> {
        let path = folder.join("kubeconfig");
        std::fs::write(&path, kubectl(&["config", "view", "--flatten", "--raw"], "")?)?;
        let mut command = kubectl_command()?;
        command.env("KUBECONFIG", &path);
        command.args(["config", "set-context", "--current", "--namespace", &self.name]);
        run(&mut command, "")?;
        Ok(path.to_string_lossy().into_owned())
    }

    pub(crate) fn kubectl(&self, words: &[&str]) -> Result<String> {
        kubectl(&[&["--namespace", &self.name], words].concat(), "")
    }

    /// `kubectl headwater` with these words: the plug-in is found as `kubectl` finds any.
    pub(crate) fn plugin(&self, words: &[&str]) -> Result<String> {
        let folder = tempfile::tempdir()?;
        run(&mut self.plugin_command(folder.path(), words)?, "")
    }

    /// The same, to be run while `folder` is there, in which it is found.
    pub(crate) fn plugin_command(&self, folder: &Path, words: &[&str]) -> Result<Command> {
        std::os::unix::fs::symlink(program("headwater")?, folder.join("kubectl-headwater"))?;
        let mut path = vec![folder.to_owned()];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = kubectl_command()?;
        command.env("PATH", std::env::join_paths(path)?).arg("headwater").args(words);
        command.args(["--namespace", &self.name]);
        Ok(command)
    }

    /// Applies a manifest of the examples.
    pub(crate) fn apply_file(&self, path: &str) -> Result<()> {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        self.kubectl(&["apply", "--filename", &path]).map(drop)
    }

    /// A Secret of one key.
    pub(crate) fn secret(&self, name: &str, key: &str, value: &str) -> Result<()> {
        let metadata = json!({"name": name, "namespace": self.name});
        apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {(key): value}}),
        )
    }

    pub(crate) fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", what, "--output", "json"])?)?)
    }

    /// Waits until the condition `of` of `what` has this status and reason; its message.
    pub(crate) async fn condition(&self, what: &str, of: &str, status: &str, reason: &str) -> Result<String> {
        let mut seen = Value::Null;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let object = self.get(what)?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            if let Some(found) = conditions.into_iter().find(|it| it["type"] == of) {
                let is_of_now = found["observedGeneration"] == object["metadata"]["generation"];
                if is_of_now && found["status"] == status && found["reason"] == reason {
                    return Ok(found["message"].as_str().unwrap_or_default().to_owned());
                }
                seen = found;
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{what} in {} did not become {of}={status} {reason}: {seen}", self.name)
    }

    /// Waits until `look` gives something.
    pub(crate) async fn until<T>(&self, what: &str, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        self.eventually(what, async || look()).await
    }

    /// The same, where looking takes a while.
    pub(crate) async fn eventually<T>(
        &self,
        what: &str,
        look: impl AsyncFn() -> Result<Option<T>>,
    ) -> Result<T> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{what} did not come about in {}", self.name)
    }

    /// Waits until all pods of a Deployment are of its newest template, and no others are left.
    pub(crate) async fn until_rolled_out(&self, deployment: &str) -> Result<()> {
        let is_done = || {
            let object = self.get(&format!("deployment/{deployment}"))?;
            let (wanted, status) = (&object["spec"]["replicas"], &object["status"]);
            let is_observed = status["observedGeneration"] == object["metadata"]["generation"];
            let counts = ["replicas", "updatedReplicas", "availableReplicas"];
            // Those that end are counted no more, and still work.
            let pods = self.kubectl(&["get", "pods", "--output", "name"])?;
            let is_of_it = |pod: &&str| {
                let rest = pod.strip_prefix(&format!("pod/{deployment}-"));
                rest.is_some_and(|rest| rest.split('-').count() == 2)
            };
            let of_it = pods.lines().filter(is_of_it).count();
            let is_whole = counts.iter().all(|it| status[it] == *wanted) && *wanted == of_it;
            Ok((is_observed && is_whole).then_some(()))
        };
        self.until(&format!("the roll-out of {deployment}"), is_done).await
    }

    /// Deletes a Service that the operator made, and waits until it is there again: how long that took.
    pub(crate) async fn until_repaired(&self, service: &str) -> Result<Duration> {
        let what = format!("service/{service}");
        let before = self.get(&what)?["metadata"]["uid"].clone();
        let begun = Instant::now();
        self.kubectl(&["delete", &what, "--wait=true"])?;
        let again = || {
            let there = self.get(&what).ok();
            Ok(there.filter(|it| it["metadata"]["uid"] != before).map(drop))
        };
        self.until("the Service", again).await?;
        Ok(begun.elapsed())
    }

    /// Where a Service of the namespace is, for this machine.
    pub(crate) fn url(&self, service: &str) -> Result<String> {
        let spec = self.get(&format!("service/{service}"))?["spec"].take();
        let address = spec["clusterIP"].as_str().context("an address")?;
        Ok(format!("http://{address}:{}", spec["ports"][0]["port"]))
    }

    /// A token of the namespace's default service account.
    pub(crate) fn token(&self) -> Result<String> {
        self.kubectl(&["create", "token", "default", "--audience=headwater"])
    }

    /// Somebody on this machine who has a token of the namespace's default service account.
    pub(crate) fn caller(&self) -> Result<Caller> {
        let token = self.token()?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build()?;
        Ok(Caller { http, token: token.trim().to_owned() })
    }

    /// What `headwater` with these words says in a pod of this namespace, with its service account's token; and whether it succeeded.
    pub(crate) async fn headwater(&self, words: &[&str]) -> Result<(bool, String)> {
        let name = format!("client-{}", &uuid::Uuid::new_v4().to_string()[..8]);
        let mut arguments = words.to_vec();
        arguments.extend(["--token-file", "/token/token", "--plain-text"]);
        apply(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {
                "restartPolicy": "Never",
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "headwater",
                    "image": format!("headwater.dev/headwater:{}", env!("CARGO_PKG_VERSION")),
                    "command": ["/headwater"],
                    "args": arguments,
                    "env": [{"name": "HOME", "value": "/tmp"}],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true},
                    "volumeMounts": [{"name": "token", "mountPath": "/token"}],
                }],
                "volumes": [{"name": "token", "projected": {"sources": [{"serviceAccountToken": {"audience": "headwater", "path": "token"}}]}}],
            },
        }))?;
        let pod = format!("pod/{name}");
        let ended = self
            .until("the end of a pod", || {
                let phase = self.get(&pod)?["status"]["phase"].as_str().unwrap_or_default().to_owned();
                Ok(["Succeeded", "Failed"].contains(&phase.as_str()).then_some(phase == "Succeeded"))
            })
            .await?;
        let said = self.kubectl(&["logs", &name])?;
        self.kubectl(&["delete", &pod, "--wait=false"])?;
        Ok((ended, said))
    }
}

/// Asks once more where an answer fails, as every client does, and not twice.
#[derive(Clone)]
pub(crate) struct Caller {
    http: reqwest::Client,
    token: String,
}

impl Caller {
    pub(crate) async fn get(&self, url: &str) -> Result<Value> {
        Ok(self.send(|| self.http.get(url)).await?.0)
    }

    /// The answer, and where what was made is found.
    pub(crate) async fn post(&self, url: &str, body: &Value) -> Result<(Value, Option<String>)> {
        self.send(|| self.http.post(url).json(body)).await
    }

    async fn send(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<(Value, Option<String>)> {
        let once = async || {
            let answer = request().bearer_auth(&self.token).send().await?;
            let location =
                answer.headers().get("location").and_then(|it| it.to_str().ok()).map(str::to_owned);
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(status.is_success(), "{status}: {text}");
            Ok((serde_json::from_str(&text)?, location))
        };
        match once().await {
            Ok(answer) => Ok(answer),
            Err(first) => once().await.with_context(|| format!("once more, after {first:#}")),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that has failed is looked at in its namespace.
        if !std::thread::panicking()
            && let Err(error) = kubectl(&["delete", "namespace", &self.name, "--wait=false"], "")
        {
            eprintln!("{error:#}");
        }
    }
}

pub(crate) fn apply(object: &Value) -> Result<()> {
    kubectl(&["apply", "--filename", "-"], &object.to_string()).map(drop)
}
