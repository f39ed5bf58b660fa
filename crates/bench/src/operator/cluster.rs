//! The cluster that `cargo xtask bench operator` starts, and operators on it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_testkit::process::{Process, program};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::Kubeconfig;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::PATIENCE;

/// The chart's objects as a kustomize base has them.
const BASE: [&str; 5] = [
    include_str!("../../../../deploy/operator/namespace.yaml"),
    include_str!("../../../../crds/eventstreams.yaml"),
    include_str!("../../../../crds/projections.yaml"),
    include_str!("../../../../crds/sagas.yaml"),
    include_str!("../../../../deploy/operator/operator.yaml"),
];

/// What KWOK does.
const STAGES: &str = include_str!("kwok.yaml");

/// The operator's namespace, service account and lease.
const NAMESPACE: &str = "headwater";
const NAME: &str = "headwater-operator";

/// Nodes of KWOK: each has addresses for 254 pods.
const NODES: usize = 10;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(20);

/// For how long an operator that is quiet has written nothing.
const QUIET: Duration = Duration::from_secs(10);

/// In whose name the benchmark writes.
pub(super) const MANAGER: &str = "headwater-bench";

pub(super) struct Cluster {
    pub(super) client: Client,
    kubeconfig: PathBuf,
    audit: PathBuf,
    _folder: TempDir,
    _kwok: Process,
}

/// An operator, a process of its own.
pub(super) struct Operator {
    pub(super) process: Process,
    address: String,
}

/// Writes of operators.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Writes {
    pub(super) of_resources: usize,
    pub(super) of_leases: usize,
}

/// One line of the API server's audit log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    object_ref: Option<Audit>,
}

#[derive(Deserialize)]
struct Audit {
    resource: String,
}

fn variable(name: &str) -> Result<PathBuf> {
    let value = std::env::var_os(name);
    value
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set: run this by `cargo xtask bench operator`"))
}

impl Cluster {
    /// Gives the cluster what the chart does, but the operator itself, and nodes.
    pub(super) async fn prepare() -> Result<Self> {
        let client = Client::try_default().await.context("find the cluster")?;
        for document in BASE.iter().flat_map(|text| text.split("\n---\n")) {
            let object: Option<Value> = serde_saphyr::from_str(document).context("the base's YAML")?;
            // Here it is a process.
            if let Some(object) = object.filter(|it| it["kind"] != "Deployment") {
                apply(&client, &object).await?;
            }
        }
        for number in 0..NODES {
            apply(&client, &json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("kwok-{number}"), "annotations": {"kwok.x-k8s.io/node": "fake"}},
            }))
            .await?;
        }
        let administrator = variable("KUBECONFIG")?;
        let folder = tempfile::tempdir()?;
        let stages = folder.path().join("kwok.yaml");
        std::fs::write(&stages, STAGES)?;
        let mut kwok = Command::new(variable("HEADWATER_KWOK")?);
        kwok.arg("--kubeconfig").arg(&administrator).arg("--config").arg(stages);
        kwok.args(["--manage-all-nodes", "--node-ip=10.200.0.1", "--node-lease-duration-seconds=40"]);
        let kwok = Process::start(kwok)?;

        // An account of the operator's own: its rights are the chart's, and the audit log tells its writes from others'.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
        let spec = TokenRequestSpec { expiration_seconds: Some(7_200), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let token = accounts.create_token_request(NAME, &PostParams::default(), &request).await?;
        let token = token.status.context("a token")?.token;
        let kubeconfig = folder.path().join("kubeconfig");
        let mut settings = serde_json::to_value(Kubeconfig::read_from(&administrator)?)?;
        settings["users"][0]["user"] = json!({ "token": token });
        std::fs::write(&kubeconfig, settings.to_string())?;
        let audit = variable("HEADWATER_AUDIT")?;
        Ok(Self { client, kubeconfig, audit, _folder: folder, _kwok: kwok })
    }

    /// Starts an operator called `identity`, and waits until it leads.
    pub(super) async fn operator(&self, identity: &str) -> Result<Operator> {
        let operator = self.candidate(identity).await?;
        operator.until_ready().await?;
        Ok(operator)
    }

    /// The same, which waits for the lease.
    pub(super) async fn candidate(&self, identity: &str) -> Result<Operator> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?.to_string();
        drop(listener);
        // As the image has it, and as the chart starts it.
        let mut command = Command::new(program("headwater-multicall")?);
        command
            .arg0(NAME)
            .args(["--image=headwater.dev/headwater:bench", "--identity", identity, "--listen", &address])
            .env("KUBECONFIG", &self.kubeconfig)
            .envs([("MIMALLOC_ALLOW_THP", "0"), ("MIMALLOC_PURGE_DELAY", "100")]);
        let process = Process::start(command)?;
        let operator = Operator { process, address };
        until("it answers", || async { Ok(operator.get("/healthz").await.is_ok()) }).await?;
        Ok(operator)
    }

    pub(super) async fn until_led_by(&self, identity: &str) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), NAMESPACE);
        until(&format!("{identity} leads"), || async {
            let lease = leases.get(NAME).await?;
            Ok(lease.spec.and_then(|spec| spec.holder_identity).as_deref() == Some(identity))
        })
        .await
    }

    /// What operators have written so far.
    pub(super) fn writes(&self) -> Result<Writes> {
        let text = std::fs::read_to_string(&self.audit).with_context(|| self.audit.display().to_string())?;
        let mut writes = Writes { of_resources: 0, of_leases: 0 };
        // The last line may be half written.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: Audited = serde_json::from_str(line).with_context(|| line.to_owned())?;
            let is_lease = event.object_ref.is_some_and(|it| it.resource == "leases");
            if is_lease { writes.of_leases += 1 } else { writes.of_resources += 1 }
        }
        Ok(writes)
    }

    /// Waits until the operator has written nothing for some time, and goes on working.
    pub(super) async fn until_quiet(&self, operator: &Operator) -> Result<()> {
        let mut before = (self.writes()?.of_resources, Instant::now());
        until("it is quiet", || {
            let now = self.writes().map(|writes| writes.of_resources);
            let is_quiet = now.map(|now| {
                if now != before.0 {
                    before = (now, Instant::now());
                }
                before.1.elapsed() > QUIET
            });
            async { is_quiet }
        })
        .await?;
        operator.until_ready().await
    }
}

impl Operator {
    pub(super) async fn until_ready(&self) -> Result<()> {
        until("it is ready", || async { Ok(self.get("/readyz").await.is_ok()) }).await
    }

    /// Passes over resources so far.
    pub(super) async fn passes(&self) -> Result<u64> {
        let metrics = self.get("/metrics").await?;
        let counts =
            metrics.lines().filter(|it| it.starts_with("headwater_operator_reconcile_seconds_count"));
        let mut passes = 0;
        for line in counts {
            passes += line.rsplit(' ').next().context("a number")?.parse::<u64>()?;
        }
        Ok(passes)
    }

    async fn get(&self, path: &str) -> Result<String> {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}

/// Waits until it `is`.
pub(super) async fn until<F: Future<Output = Result<bool>>>(
    what: &str,
    mut is: impl FnMut() -> F,
) -> Result<()> {
    let began = Instant::now();
    while !is().await? {
        ensure!(began.elapsed() < PATIENCE, "it took more than {PATIENCE:?} until {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Applies an object as a user would. What is not known yet is a definition that was applied just before.
pub(super) async fn apply(client: &Client, object: &Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    let types = object.types.clone().context("a kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let resource = ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let parameters = PatchParams::apply(MANAGER).force();
    let name = object.name_any();
    api.patch(&name, &parameters, &Patch::Apply(&object))
        .await
        .with_context(|| format!("{} {name}", kind.kind))?;
    Ok(())
}
