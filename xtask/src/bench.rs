//! `cargo xtask bench`: builds the programs and the benchmarks, and runs them.

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::steps::{Step, cargo, root};
use crate::{go, tools};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure and how; nothing: everything but the operator, `help`: the list.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let packages = ["headwater-cli", "headwater-server", "headwater-multicall", "headwater-bench"];
    let mut build = vec!["build", "--release", "--bins"];
    build.extend(packages.iter().flat_map(|name| ["--package", name]));
    cargo(&build).run()?;
    let mut words = vec!["run", "--release", "--quiet", "--package", "headwater-bench", "--"];
    words.extend(arguments.arguments.iter().map(String::as_str));
    let bench = cargo(&words);
    if arguments.arguments.first().is_some_and(|it| it == "operator") {
        on_cluster(bench)
    } else {
        bench.run()
    }
}

/// On a cluster that has no node: KWOK has them.
fn on_cluster(bench: Step) -> anyhow::Result<()> {
    for provided in [Cluster::provide()?, go::provide_kwok()?] {
        if let Err(why) = provided {
            bail!("{why}");
        }
    }
    let cluster = Cluster::at(&root().join(".headwater/bench"))?;
    if let Err(error) = cluster.up(0) {
        cluster.down(true)?;
        return Err(error);
    }
    let measured = [
        ("KUBECONFIG", cluster.kubeconfig()),
        ("HEADWATER_AUDIT", cluster.audit_log()),
        ("HEADWATER_KWOK", tools::kwok()?),
    ]
    .into_iter()
    .try_fold(bench, |bench, (name, path)| {
        anyhow::Ok(bench.env(name, path.to_str().context("a path of UTF-8")?))
    })
    .and_then(Step::run);
    cluster.down(false)?;
    measured
}
