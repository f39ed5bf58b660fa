//! `cargo xtask cluster`: a real Kubernetes on this machine, without a container engine.
//!
//! ```text
//!            host: etcd ◀── kube-apiserver ◀── controller-manager, scheduler, CoreDNS     (10.200.0.1, on the loopback device)
//!                                ▲
//! node-1: host's network ────────┤  kubelet ─▶ containerd ─▶ runc      kube-proxy
//! node-2: a network namespace ───┘  the same once more                              (10.201.0.2, by a veth pair)
//! ```
//! Everything is a process of this machine, in a folder of its own; images are loaded from files. Packets for Services and pods stay on the
//! machine's own devices.

mod components;
pub(crate) mod images;
mod keys;
mod network;
mod processes;
mod programs;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};

use self::components::Node;
use self::processes::Processes;
use self::programs::Programs;
use crate::steps::root;

/// Where the API server listens: an address of this machine alone, which pods reach.
pub(crate) const HOST: &str = "10.200.0.1";
/// How long a part may take to begin.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the cluster keeps all that it has [default: .headwater/cluster in the workspace].
    #[arg(long, global = true, value_name = "PATH")]
    folder: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing, start the cluster, and say where its kubeconfig is.
    Up {
        /// How many nodes: the second is a network namespace. With none, others may make some, whose pods' addresses are this machine's.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
        nodes: u8,
    },
    /// Stop everything that `up` has started, and take back what it has changed on this machine.
    Down {
        /// Keep the folder: keys, the API server's data, logs.
        #[arg(long)]
        keep: bool,
    },
    /// Give the nodes images from OCI archives.
    Load {
        /// Archives.
        #[arg(required = true, value_name = "FILE")]
        images: Vec<PathBuf>,
    },
    /// Say what runs.
    Status,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cluster =
        Cluster::at(&arguments.folder.clone().unwrap_or_else(|| root().join(".headwater/cluster")))?;
    match &arguments.command {
        Command::Up { nodes } => cluster.up(*nodes),
        Command::Down { keep } => cluster.down(*keep),
        Command::Load { images } => cluster.load(images),
        Command::Status => cluster.status(),
    }
}

/// A cluster and its folder.
pub(crate) struct Cluster {
    folder: PathBuf,
    processes: Processes,
}

impl Cluster {
    pub(crate) fn at(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
        let processes = Processes::of(&folder);
        Ok(Self { folder, processes })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        keys::kubeconfig(&self.folder, "admin")
    }

    /// Where the API server says what the operator has written.
    pub(crate) fn audit_log(&self) -> PathBuf {
        components::audit_log(&self.folder)
    }

    pub(crate) fn up(&self, nodes: u8) -> anyhow::Result<()> {
        ensure!(
            self.processes.running()?.is_empty(),
            "the cluster in {} runs already, at least in part: `cargo xtask cluster down` stops it",
            self.folder.display()
        );
        let programs = Programs::provide()?.map_err(anyhow::Error::msg)?;
        network::prepare_host()?;
        if nodes == 0 {
            network::answer_for_pods()?;
        }
        keys::make(&self.folder)?;
        components::write_settings(&self.folder)?;
        let started = self.start(&programs, nodes);
        if started.is_err() {
            println!("logs are in {}", self.folder.join("logs").display());
        }
        started?;
        println!("\nexport KUBECONFIG={}", self.kubeconfig().display());
        println!("export PATH={}:$PATH", programs.folder().display());
        Ok(())
    }

    fn start(&self, programs: &Programs, nodes: u8) -> anyhow::Result<()> {
        self.begin(components::etcd(&self.folder, programs))?;
        self.begin(components::api_server(&self.folder, programs))?;
        self.until("the API server is ready", || {
            self.kubectl(programs, &["get", "--raw", "/readyz"]).is_ok()
        })?;
        self.kubectl_apply(programs, components::FIRST_OBJECTS)?;
        self.begin(components::controller_manager(&self.folder, programs))?;
        self.begin(components::scheduler(&self.folder, programs))?;
        self.begin(components::dns(&self.folder, programs))?;
        for number in 1..=nodes {
            let node = Node::new(&self.folder, number);
            node.prepare()?;
            self.begin(node.containerd())?;
            self.until(&format!("containerd of {} answers", node.name()), || node.answers())?;
            images::load(&node, &images::pause(&self.folder)?)?;
            self.begin(node.kubelet(programs))?;
            self.begin(node.proxy(programs))?;
        }
        self.until("the nodes are ready", || {
            let ready = self.kubectl(
                programs,
                &[
                    "get",
                    "nodes",
                    "-o",
                    r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#,
                ],
            );
            ready.is_ok_and(|states| {
                let states: Vec<&str> = states.split_whitespace().collect();
                states.len() == usize::from(nodes) && states.iter().all(|state| *state == "True")
            })
        })
    }

    fn begin(&self, component: components::Component) -> anyhow::Result<()> {
        println!("starting {}", component.name);
        self.processes.start(&component.name, component.command)
    }

    fn until(&self, what: &str, is: impl Fn() -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is() {
            let ended = self.processes.ended()?;
            if let Some(name) = ended.first() {
                bail!("{name} has ended; the end of its log:\n{}", self.processes.tail(name)?);
            }
            ensure!(began.elapsed() < PATIENCE, "it took more than {PATIENCE:?} until {what}");
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{what} ({:.1} s)", began.elapsed().as_secs_f64());
        Ok(())
    }

    fn kubectl(&self, programs: &Programs, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = std::process::Command::new(programs.path("kubectl"));
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        let output = command.output().context("kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn kubectl_apply(&self, programs: &Programs, objects: &str) -> anyhow::Result<()> {
        let file = self.folder.join("first-objects.yaml");
        std::fs::write(&file, objects)?;
        let file = file.to_str().context("a path of UTF-8")?;
        self.kubectl(programs, &["apply", "--server-side", "-f", file]).map(drop)
    }

    pub(crate) fn down(&self, keep: bool) -> anyhow::Result<()> {
        // Pods first: nobody starts them again.
        for number in 1..=2 {
            self.processes.stop(&format!("kubelet-{number}"))?;
        }
        for number in 1..=2 {
            let node = Node::new(&self.folder, number);
            if self.processes.runs(&format!("containerd-{number}"))? {
                node.remove_pods()?;
            }
        }
        self.processes.stop_all()?;
        network::restore_host();
        for number in 1..=2 {
            let node = Node::new(&self.folder, number);
            node.disconnect_pods()?;
            node.unmount()?;
        }
        if !keep {
            std::fs::remove_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        }
        println!("stopped");
        Ok(())
    }

    pub(crate) fn load(&self, archives: &[PathBuf]) -> anyhow::Result<()> {
        let mut nodes = 0;
        for number in 1..=2 {
            if !self.processes.runs(&format!("containerd-{number}"))? {
                continue;
            }
            nodes += 1;
            let node = Node::new(&self.folder, number);
            for archive in archives {
                images::load(&node, archive)?;
            }
        }
        ensure!(nodes > 0, "no node runs in {}: `cargo xtask cluster up` starts one", self.folder.display());
        Ok(())
    }

    /// Whether any of it runs.
    pub(crate) fn is_running(&self) -> anyhow::Result<bool> {
        Ok(!self.processes.running()?.is_empty())
    }

    /// Sees to it that all programs are there; `Ok(Err(why))` where they are not and cannot be had.
    pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
        Ok(Programs::provide()?.map(drop))
    }

    /// The folder of `kubectl` and the others.
    pub(crate) fn programs() -> anyhow::Result<PathBuf> {
        Ok(Programs::provide()?.map_err(anyhow::Error::msg)?.folder().to_owned())
    }

    fn status(&self) -> anyhow::Result<()> {
        let running = self.processes.running()?;
        for name in &running {
            println!("{name:24} runs");
        }
        for name in self.processes.ended()? {
            println!("{name:24} has ended: {}", self.processes.log(&name).display());
        }
        if running.is_empty() {
            println!("nothing runs in {}", self.folder.display());
        } else {
            println!("\nexport KUBECONFIG={}", self.kubeconfig().display());
        }
        Ok(())
    }
}
