//! What a cluster is made of: Go modules that are pinned under `tools`, and Debian's packages.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::debian;
use crate::steps::{program, root};
use crate::tools;

const KUBERNETES: &str = include_str!("../../../tools/kubernetes/go.mod");
const PACKAGES: [&str; 7] = [
    "go.etcd.io/etcd/server/v3",
    "k8s.io/kubernetes/cmd/kube-apiserver",
    "k8s.io/kubernetes/cmd/kube-controller-manager",
    "k8s.io/kubernetes/cmd/kube-proxy",
    "k8s.io/kubernetes/cmd/kube-scheduler",
    "k8s.io/kubernetes/cmd/kubectl",
    "k8s.io/kubernetes/cmd/kubelet",
];
/// A program of each of Debian's packages that a node needs, and the package.
const DEBIAN: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ebtables", "ebtables"),
    ("ethtool", "ethtool"),
    ("openssl", "openssl"),
];

/// The programs, each by its usual name in one folder.
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// Installs and builds what is missing: some minutes, once a version. `Ok(Err(why))` where it cannot be had.
    pub(crate) fn provide() -> anyhow::Result<Result<Self, String>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Err(
                "a node runs containers and changes the machine's network: run this as root".to_owned()
            ));
        }
        for (name, package) in DEBIAN {
            if let Err(why) = debian::provide(name, package, || debian::on_path(name), || Ok(()))? {
                return Ok(Err(why));
            }
        }
        let plugins = || plugins().is_some();
        if let Err(why) =
            debian::provide("the plugins of CNI", "containernetworking-plugins", plugins, || Ok(()))?
        {
            return Ok(Err(why));
        }
        let version = tools::version_in(KUBERNETES, "k8s.io/kubernetes ")?;
        let folder = tools::folder()?.join(format!("kubernetes-{version}"));
        if !folder.is_dir() {
            if !debian::on_path("go") {
                return Ok(Err(
                    "Go is not installed, which builds Kubernetes: install Go 1.26 or newer".to_owned()
                ));
            }
            let unfinished = folder.with_extension("unfinished");
            std::fs::create_dir_all(&unfinished)?;
            println!("building Kubernetes {version} into {}; this takes some minutes", folder.display());
            let minor = version.split('.').nth(1).context("a version of three parts")?;
            let stamp = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
            let flags = [
                "-s -w".to_owned(),
                stamp("gitVersion", version),
                stamp("gitMajor", "1"),
                stamp("gitMinor", minor),
            ]
            .join(" ");
            go("kubernetes", &unfinished, &flags, &PACKAGES)?;
            // Go names a program by its module's path, and leaves out the version.
            std::fs::rename(unfinished.join("server"), unfinished.join("etcd"))?;
            go("coredns", &unfinished.join("coredns"), "-s -w", &["."])?;
            std::fs::rename(&unfinished, &folder)?;
        }
        Ok(Ok(Self(folder)))
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn go(module: &str, target: &Path, flags: &str, packages: &[&str]) -> anyhow::Result<()> {
    let into = target.to_str().context("a path of UTF-8")?;
    let mut arguments = vec!["build", "-trimpath", "-ldflags", flags, "-o", into];
    arguments.extend(packages);
    program("go", &arguments).env("CGO_ENABLED", "0").within(&root().join("tools").join(module)).run()
}

/// Where Debian puts the plugins of CNI.
pub(crate) fn plugins() -> Option<PathBuf> {
    ["/usr/lib/cni", "/opt/cni/bin"]
        .into_iter()
        .map(PathBuf::from)
        .find(|folder| folder.join("bridge").is_file() && folder.join("host-local").is_file())
}
