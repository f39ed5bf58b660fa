//! `cargo xtask e2e`: end-to-end tests on a real Kubernetes of this machine.
//!
//! ```text
//! cluster ─ image ─ helm ──▶ crates/testkit/tests/cluster ──▶ stopped, unless it is to be kept
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::cluster::Cluster;
use crate::steps::{Step, cargo, root};
use crate::{go, image, kafka, postgres, redis, tools};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,

    /// Leave the cluster running, to be looked at; a cluster that runs already is used.
    #[arg(long)]
    keep: bool,

    /// Archives that are there, instead of building the images.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,

    /// Images of the programs in this folder, with the libraries that they load, as `cargo xtask test` has them.
    #[arg(long, value_name = "FOLDER", conflicts_with = "images")]
    built: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for provided in [
        provide()?,
        go::provide_gitops()?,
        go::provide_nats()?,
        kafka::provide()?,
        postgres::provide()?,
        redis::provide()?,
    ] {
        if let Err(why) = provided {
            bail!("{why}");
        }
    }
    let archives = match &arguments.built {
        Some(built) => image::of_built(built)?,
        None if arguments.images.is_empty() => image::make()?,
        None => arguments.images.clone(),
    };
    let cluster = cluster()?;
    let tested = cluster.load(&archives).and_then(|()| test(&cluster, arguments.filter.as_deref())?.run());
    if arguments.keep {
        println!("\nexport KUBECONFIG={}", cluster.kubeconfig().display());
    } else {
        cluster.down(false)?;
    }
    tested
}

/// Sees to it that all that the tests need beside databases and brokers is there; `Ok(Err(why))` where it cannot be had.
pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
    let cluster = Cluster::provide()?;
    if cluster.is_err() { Ok(cluster) } else { go::provide_helm() }
}

/// Runs all tests, as `run` does, with the programs that are in the folder `built`, and stops the cluster.
pub(crate) fn run_all(built: &Path, run: impl FnOnce(Step) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    let archives = image::of_built(built)?;
    let cluster = cluster()?;
    let tested = cluster.load(&archives).and_then(|()| run(test(&cluster, None)?));
    cluster.down(false)?;
    tested
}

/// One that runs.
fn cluster() -> anyhow::Result<Cluster> {
    let cluster = Cluster::at(&root().join(".headwater/e2e"))?;
    if !cluster.is_running()?
        // Two nodes: one is drained.
        && let Err(error) = cluster.up(2)
    {
        cluster.down(true)?;
        return Err(error);
    }
    Ok(cluster)
}

fn test(cluster: &Cluster, filter: Option<&str>) -> anyhow::Result<Step> {
    // Of the whole workspace, so that what its tests are built with is built once.
    let mut words = vec!["test", "--release", "--workspace", "--test", "cluster", "--"];
    words.extend(filter);
    let kubeconfig = cluster.kubeconfig();
    let (programs, helm) = (Cluster::programs()?, tools::helm()?);
    let text = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path of UTF-8");
    Ok(cargo(&words)
        .env("KUBECONFIG", &text(&kubeconfig)?)
        .env("HEADWATER_CLUSTER_PROGRAMS", &text(&programs)?)
        .env("HEADWATER_HELM", &text(&helm)?))
}
