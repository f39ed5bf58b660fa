//! Where `cargo xtask test` puts the programs that it builds or downloads, by version, and where the tests find them.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// The module that pins the NATS server.
const NATS_MODULE: &str = include_str!("../../../tools/nats/go.mod");

/// The Go package of the NATS server.
pub const NATS_PACKAGE: &str = "github.com/nats-io/nats-server/v2";

/// The module that pins the programs that others read Headwater with.
const CLIENTS_MODULE: &str = include_str!("../../../tools/clients/go.mod");

/// The Go package of grpcurl.
pub const GRPCURL_PACKAGE: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl";

/// The module that pins Helm.
const HELM_MODULE: &str = include_str!("../../../tools/helm/go.mod");

/// The Go package of Helm.
pub const HELM_PACKAGE: &str = "helm.sh/helm/v4/cmd/helm";

/// The module that pins what judges manifests.
const GITOPS_MODULE: &str = include_str!("../../../tools/gitops/go.mod");

/// The Go package of kubeconform.
pub const KUBECONFORM_PACKAGE: &str = "github.com/yannh/kubeconform/cmd/kubeconform";

/// The module that pins KWOK.
const KWOK_MODULE: &str = include_str!("../../../tools/kwok/go.mod");

/// The Go package of KWOK.
pub const KWOK_PACKAGE: &str = "sigs.k8s.io/kwok/cmd/kwok";

/// The module that pins KEDA.
const KEDA_MODULE: &str = include_str!("../../../tools/keda/go.mod");

/// The Go module of KEDA, which has its definitions.
pub const KEDA_PACKAGE: &str = "github.com/kedacore/keda/v2";

/// The project that pins Kafka.
const KAFKA_PROJECT: &str = include_str!("../../../tools/kafka/pom.xml");

/// The folder of all of them: HEADWATER_TOOLS, or `headwater` among the user's caches.
///
/// # Errors
/// When the user has no home.
pub fn folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("HEADWATER_TOOLS") {
        return Ok(folder.into());
    }
    let caches = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither HEADWATER_TOOLS nor HOME says where programs for the tests are kept")?;
    Ok(caches.join("headwater"))
}

/// The NATS server.
///
/// # Errors
/// As [`folder`].
pub fn nats_server() -> Result<PathBuf> {
    let version = version_in(NATS_MODULE, NATS_PACKAGE)?;
    Ok(folder()?.join(format!("nats-server-{version}")).join("nats-server"))
}

/// The folder of `grpcurl`, and of `cloudevents`, which reads a broker by the CloudEvents SDK.
///
/// # Errors
/// As [`folder`].
pub fn clients() -> Result<PathBuf> {
    let version = version_in(CLIENTS_MODULE, "github.com/fullstorydev/grpcurl")?;
    Ok(folder()?.join(format!("clients-{version}")))
}

/// Helm.
///
/// # Errors
/// As [`folder`].
pub fn helm() -> Result<PathBuf> {
    let version = version_in(HELM_MODULE, "helm.sh/helm/v4 ")?;
    Ok(folder()?.join(format!("helm-{version}")).join("helm"))
}

/// The folder of `kubeconform`, and of the programs in `tools/gitops`, which judge manifests as Argo CD, Flux, Prometheus and Tilt do.
///
/// # Errors
/// As [`folder`].
pub fn gitops() -> Result<PathBuf> {
    let version = version_in(GITOPS_MODULE, "github.com/yannh/kubeconform")?;
    Ok(folder()?.join(format!("gitops-{version}")))
}

/// KWOK, which has nodes and pods that nothing runs.
///
/// # Errors
/// As [`folder`].
pub fn kwok() -> Result<PathBuf> {
    let version = version_in(KWOK_MODULE, "sigs.k8s.io/kwok ")?;
    Ok(folder()?.join(format!("kwok-{version}")).join("kwok"))
}

/// KEDA's definition of what it scales.
///
/// # Errors
/// As [`folder`].
pub fn keda_definition() -> Result<PathBuf> {
    let version = version_in(KEDA_MODULE, &format!("require {KEDA_PACKAGE}"))?;
    Ok(folder()?.join(format!("keda-{version}")).join("scaledobjects.yaml"))
}

/// The version of a Go module that another pins.
///
/// # Errors
/// When it pins none.
pub fn version_in<'m>(module: &'m str, name: &str) -> Result<&'m str> {
    module
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next())
        .with_context(|| format!("no version of {name} is pinned"))
}

/// Kafka: its jars are in the folder `libs` within.
///
/// # Errors
/// As [`folder`].
pub fn kafka() -> Result<PathBuf> {
    let version = KAFKA_PROJECT
        .split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once("</kafka.version>"))
        .context("tools/kafka/pom.xml names no version")?
        .0;
    Ok(folder()?.join(format!("kafka-{version}")))
}
