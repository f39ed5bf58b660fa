//! The parts of a cluster, each as a command with its settings.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::HOST;
use super::images::PAUSE;
use super::keys::kubeconfig;
use super::network::{self, PODS, SECOND, SECOND_END, SERVICES};
use super::programs::{Programs, plugins};

/// Something to start.
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) command: Command,
}

/// What the cluster's own parts need in it.
pub(crate) const FIRST_OBJECTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: headwater-kubelet-client}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: headwater-dns}
rules:
- {apiGroups: [""], resources: [services, pods, namespaces, endpoints], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: headwater-dns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: headwater-dns}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:coredns"}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec:
  clusterIP: 10.96.0.10
  ports:
  - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
  - {name: dns-tcp, port: 53, targetPort: 5353, protocol: TCP}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-host, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports:
- {name: dns, port: 5353, protocol: UDP}
- {name: dns-tcp, port: 5353, protocol: TCP}
endpoints: [{addresses: ["10.200.0.1"]}]
"#;

/// What the API server's audit log has: what the operator writes, for whoever counts it.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ['system:serviceaccount:headwater:headwater-operator']
  verbs: [create, update, patch, delete, deletecollection]
- level: None
";

/// Where it is.
pub(crate) fn audit_log(folder: &Path) -> PathBuf {
    folder.join("logs/audit.log")
}

/// Where the plugins of CNI keep what they have done.
const CNI_RESULTS: &str = "/var/lib/cni/results";

const ETCD: &str = "http://127.0.0.1:22379";

/// Writes the files that parts read.
pub(crate) fn write_settings(folder: &Path) -> anyhow::Result<()> {
    let corefile = format!(
        "cluster.local:5353 in-addr.arpa:5353 {{\n    bind {HOST}\n    errors\n    cache 5\n    kubernetes cluster.local in-addr.arpa {{\n        \
         kubeconfig {} cluster\n    }}\n}}\n",
        kubeconfig(folder, "dns").display()
    );
    std::fs::write(folder.join("Corefile"), corefile)?;
    std::fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY)?;
    Ok(())
}

fn component(name: impl Into<String>, program: PathBuf, words: &[String]) -> Component {
    let mut command = Command::new(program);
    command.args(words);
    Component { name: name.into(), command }
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(flag, value)| format!("--{flag}={value}")).collect()
}

pub(crate) fn etcd(folder: &Path, programs: &Programs) -> Component {
    let data = folder.join("etcd").display().to_string();
    let peers = "http://127.0.0.1:22380";
    component(
        "etcd",
        programs.path("etcd"),
        &flags(&[
            ("data-dir", &data),
            ("listen-client-urls", ETCD),
            ("advertise-client-urls", ETCD),
            ("listen-peer-urls", peers),
            ("initial-advertise-peer-urls", peers),
            ("initial-cluster", &format!("default={peers}")),
            // Tests lose it with the machine.
            ("unsafe-no-fsync", "true"),
            ("log-level", "warn"),
        ]),
    )
}

pub(crate) fn api_server(folder: &Path, programs: &Programs) -> Component {
    let key = |name: &str| folder.join("keys").join(name).display().to_string();
    component(
        "kube-apiserver",
        programs.path("kube-apiserver"),
        &flags(&[
            ("etcd-servers", ETCD),
            ("bind-address", HOST),
            ("advertise-address", HOST),
            ("secure-port", "6443"),
            ("tls-cert-file", &key("apiserver.crt")),
            ("tls-private-key-file", &key("apiserver.key")),
            ("client-ca-file", &key("ca.crt")),
            ("token-auth-file", &key("tokens.csv")),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            ("service-account-signing-key-file", &key("service-accounts.key")),
            ("service-account-key-file", &key("service-accounts.pub")),
            ("authorization-mode", "Node,RBAC"),
            ("audit-policy-file", &folder.join("audit-policy.yaml").display().to_string()),
            ("audit-log-path", &audit_log(folder).display().to_string()),
            ("allow-privileged", "true"),
            ("service-cluster-ip-range", SERVICES),
            ("kubelet-preferred-address-types", "InternalIP"),
            ("kubelet-client-certificate", &key("kubelet-client.crt")),
            ("kubelet-client-key", &key("kubelet-client.key")),
        ]),
    )
}

pub(crate) fn controller_manager(folder: &Path, programs: &Programs) -> Component {
    let key = |name: &str| folder.join("keys").join(name).display().to_string();
    component(
        "kube-controller-manager",
        programs.path("kube-controller-manager"),
        &flags(&[
            ("kubeconfig", &kubeconfig(folder, "controller-manager").display().to_string()),
            ("bind-address", "127.0.0.1"),
            ("allocate-node-cidrs", "true"),
            ("cluster-cidr", PODS),
            ("service-cluster-ip-range", SERVICES),
            ("root-ca-file", &key("ca.crt")),
            ("service-account-private-key-file", &key("service-accounts.key")),
            ("use-service-account-credentials", "true"),
            ("leader-elect", "false"),
        ]),
    )
}

pub(crate) fn scheduler(folder: &Path, programs: &Programs) -> Component {
    component(
        "kube-scheduler",
        programs.path("kube-scheduler"),
        &flags(&[
            ("kubeconfig", &kubeconfig(folder, "scheduler").display().to_string()),
            ("bind-address", "127.0.0.1"),
            ("leader-elect", "false"),
        ]),
    )
}

pub(crate) fn dns(folder: &Path, programs: &Programs) -> Component {
    let corefile = folder.join("Corefile").display().to_string();
    component("coredns", programs.path("coredns"), &["-conf".to_owned(), corefile])
}

/// A node: a container runtime, a kubelet and a proxy of Services.
pub(crate) struct Node {
    cluster: PathBuf,
    folder: PathBuf,
    number: u8,
}

impl Node {
    pub(crate) fn new(cluster: &Path, number: u8) -> Self {
        Self { cluster: cluster.to_owned(), folder: cluster.join(format!("node-{number}")), number }
    }

    pub(crate) fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    fn address(&self) -> &'static str {
        if self.number == 1 { HOST } else { SECOND_END }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("containerd.sock")
    }

    /// A command within the node's network.
    fn within(&self, program: &Path) -> Command {
        if self.number == 1 {
            return Command::new(program);
        }
        // `ip netns exec` would hide the mounts of cgroups.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/var/run/netns/{SECOND}")).arg(program);
        command
    }

    /// Writes the settings of its parts, and connects it.
    pub(crate) fn prepare(&self) -> anyhow::Result<()> {
        for name in ["root", "state", "cni", "kubelet"] {
            std::fs::create_dir_all(self.folder.join(name))?;
        }
        if self.number == 2 {
            network::connect_second()?;
        }
        let path = |name: &str| self.folder.join(name).display().to_string();
        let plugins = plugins().context("the plugins of CNI")?;
        std::fs::write(
            self.folder.join("containerd.toml"),
            format!(
                r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins}"
conf_dir = "{cni}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#,
                root = path("root"),
                state = path("state"),
                socket = self.socket().display(),
                plugins = plugins.display(),
                cni = path("cni"),
            ),
        )?;
        std::fs::write(
            self.folder.join("cni/10-headwater.conflist"),
            format!(
                r#"{{"cniVersion":"1.0.0","name":"headwater-{number}","plugins":[
 {{"type":"bridge","bridge":"hw-cni-{number}","isGateway":true,"ipMasq":true,"hairpinMode":true,
   "ipam":{{"type":"host-local","dataDir":"{data}","ranges":[[{{"subnet":"10.244.{subnet}.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}},
 {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}
"#,
                number = self.number,
                subnet = self.number - 1,
                data = path("addresses"),
            ),
        )?;
        std::fs::write(
            self.folder.join("kubelet.yaml"),
            format!(
                "\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: '{ca}'}}}}
authorization: {{mode: Webhook}}
healthzPort: 0
readOnlyPort: 0
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [10.96.0.10]
resolvConf: ''
containerRuntimeEndpoint: unix://{socket}
podLogsDir: '{logs}'
# A share of a disk that others fill, too, would leave no pod a place where many gigabytes are free.
evictionHard: {{memory.available: 100Mi, nodefs.available: 200Mi, imagefs.available: 200Mi}}
# Nobody could pull again what it deletes when the disk is full: the image of all pods' pauses, too.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
shutdownGracePeriod: 0s
",
                address = self.address(),
                ca = self.cluster.join("keys/ca.crt").display(),
                socket = self.socket().display(),
                logs = path("pods"),
            ),
        )?;
        std::fs::write(
            self.folder.join("proxy.yaml"),
            format!(
                "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: {PODS}
hostnameOverride: {name}
bindAddress: 0.0.0.0
healthzBindAddress: {address}:10256
metricsBindAddress: 127.0.0.1:10249
clientConnection: {{kubeconfig: '{kubeconfig}'}}
conntrack: {{maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
",
                name = self.name(),
                address = self.address(),
                kubeconfig = kubeconfig(&self.cluster, "proxy").display(),
            ),
        )?;
        Ok(())
    }

    pub(crate) fn containerd(&self) -> Component {
        let mut command = self.within(Path::new("containerd"));
        command.arg("--config").arg(self.folder.join("containerd.toml"));
        Component { name: format!("containerd-{}", self.number), command }
    }

    /// Containerd's own command, in the namespace that Kubernetes uses.
    pub(crate) fn ctr(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]);
        command
    }

    pub(crate) fn answers(&self) -> bool {
        self.ctr().arg("version").output().is_ok_and(|output| output.status.success())
    }

    pub(crate) fn kubelet(&self, programs: &Programs) -> Component {
        let mut command = self.within(&programs.path("kubelet"));
        command.args(flags(&[
            ("kubeconfig", &kubeconfig(&self.cluster, &self.name()).display().to_string()),
            ("config", &self.folder.join("kubelet.yaml").display().to_string()),
            ("root-dir", &self.folder.join("kubelet").display().to_string()),
            ("hostname-override", &self.name()),
            ("node-ip", self.address()),
        ]));
        Component { name: format!("kubelet-{}", self.number), command }
    }

    pub(crate) fn proxy(&self, programs: &Programs) -> Component {
        let mut command = self.within(&programs.path("kube-proxy"));
        command.arg("--config").arg(self.folder.join("proxy.yaml"));
        Component { name: format!("kube-proxy-{}", self.number), command }
    }

    /// Ends all containers, and their shims with them.
    pub(crate) fn remove_pods(&self) -> anyhow::Result<()> {
        let list = |words: &[&str]| -> anyhow::Result<Vec<String>> {
            let output = self.ctr().args(words).output().context("ctr")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            Ok(text.split_whitespace().map(str::to_owned).collect())
        };
        for task in list(&["tasks", "list", "--quiet"])? {
            self.ctr().args(["tasks", "kill", "--signal", "SIGKILL", "--all", &task]).output()?;
            self.ctr().args(["tasks", "delete", "--force", &task]).output()?;
        }
        for container in list(&["containers", "list", "--quiet"])? {
            self.ctr().args(["containers", "delete", &container]).output()?;
        }
        let left = list(&["tasks", "list", "--quiet"])?;
        ensure!(left.is_empty(), "these containers do not end: {}", left.join(", "));
        Ok(())
    }

    /// Takes back the network namespaces of pods, of which the plugins of CNI keep a file each.
    pub(crate) fn disconnect_pods(&self) -> anyhow::Result<()> {
        let entries = match std::fs::read_dir(CNI_RESULTS) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).context(CNI_RESULTS),
        };
        for entry in entries {
            let entry = entry?;
            let ours = format!("headwater-{}-", self.number);
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = name.strip_prefix(&ours).and_then(|rest| rest.split('-').next()) else { continue };
            let loopback = Path::new(CNI_RESULTS).join(format!("cni-loopback-{id}-lo"));
            if loopback.exists() {
                std::fs::remove_file(loopback)?;
            }
            let text = std::fs::read_to_string(entry.path())?;
            let namespace = text
                .split_once(r#""sandbox":"/var/run/netns/"#)
                .and_then(|(_, rest)| rest.split_once('"'))
                .map(|(name, _)| name.to_owned());
            if let Some(namespace) = namespace {
                // It may be gone.
                Command::new("ip").args(["netns", "delete", &namespace]).output().context("ip")?;
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(())
    }

    /// Takes back the mounts of pods, which outlive them.
    pub(crate) fn unmount(&self) -> anyhow::Result<()> {
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let ours = self.folder.display().to_string();
        let mut places: Vec<&str> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|place| place.starts_with(&ours))
            .collect();
        // Those within others first.
        places.sort_by_key(|place| std::cmp::Reverse(place.len()));
        for place in places {
            let output = Command::new("umount").args(["--lazy", place]).output()?;
            ensure!(output.status.success(), "umount {place}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}
