//! `cargo xtask bench`: builds the programs and the benchmarks, and runs them.

use anyhow::{Context, bail};

use crate::cluster::Cluster;
use crate::steps::{Step, build, built, root};
use crate::{go, tools};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure and how; nothing: everything but the operator, `help`: the list.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    build()?;
    let words: Vec<&str> = arguments.arguments.iter().map(String::as_str).collect();
    let bench = built("headwater-bench", &words)?;
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
