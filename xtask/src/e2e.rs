//! `cargo xtask e2e`: end-to-end tests on a real Kubernetes of this machine.
//!
//! ```text
//! cluster ─ image ─ helm ──▶ crates/testkit/tests/cluster ──▶ stopped, unless it is to be kept
//! ```

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::cluster::Cluster;
use crate::steps::{cargo, root};
use crate::{go, image, postgres, tools};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,

    /// Leave the cluster running, to be looked at; a cluster that runs already is used.
    #[arg(long)]
    keep: bool,

    /// An archive that is there, instead of building the image.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for provided in [go::provide_nats()?, postgres::provide()?, go::provide_helm()?] {
        if let Err(why) = provided {
            bail!("{why}");
        }
    }
    let archive = match &arguments.image {
        Some(archive) => archive.clone(),
        None => image::make(&image::Arguments::default())?,
    };
    let cluster = Cluster::at(&root().join(".headwater/e2e"))?;
    if !cluster.is_running()? {
        cluster.up(1)?;
    }
    let tested = cluster.load(&[archive]).and_then(|()| test(&cluster, arguments.filter.as_deref()));
    if arguments.keep {
        println!("\nexport KUBECONFIG={}", cluster.kubeconfig().display());
    } else {
        cluster.down(false)?;
    }
    tested
}

fn test(cluster: &Cluster, filter: Option<&str>) -> anyhow::Result<()> {
    // Of the whole workspace, so that what its tests are built with is built once.
    let mut words = vec!["test", "--release", "--workspace", "--features", "headwater-testkit/cluster"];
    words.extend(["--test", "cluster", "--"]);
    words.extend(filter);
    let kubeconfig = cluster.kubeconfig();
    let (programs, helm) = (Cluster::programs()?, tools::helm()?);
    let text = |path: &PathBuf| path.to_str().map(str::to_owned).context("a path of UTF-8");
    cargo(&words)
        .env("KUBECONFIG", &text(&kubeconfig)?)
        .env("HEADWATER_CLUSTER_PROGRAMS", &text(&programs)?)
        .env("HEADWATER_HELM", &text(&helm)?)
        .run()
}
