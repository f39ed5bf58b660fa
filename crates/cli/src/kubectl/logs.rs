//! What the pods of a resource say.

use anyhow::Result;
use futures_util::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, LogParams};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cluster::{Cluster, explain};
use super::target::Target;
use crate::console::{Colour, Console};
use crate::failure::Failure;

/// Lines that wait to be printed.
const QUEUE: usize = 256;

/// Show what the pods of a resource say, each line behind its pod's name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubectl headwater logs projection/orders
  kubectl headwater logs saga/place-order --follow --tail 20
  kubectl headwater logs eventstream/orders --previous")]
pub(crate) struct Arguments {
    /// eventstream/NAME, projection/NAME or saga/NAME.
    #[arg(value_name = "KIND/NAME")]
    target: Target,

    /// Go on with what they say from now on, until it is interrupted.
    #[arg(long, short)]
    follow: bool,

    /// Only so many of each pod's last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,

    /// What a container said that has ended since.
    #[arg(long, short, conflicts_with = "follow")]
    previous: bool,
}

pub(super) async fn run(arguments: &Arguments, cluster: &Cluster, console: &Console) -> Result<()> {
    let names: Vec<String> =
        cluster.pods(&arguments.target).await?.iter().map(ResourceExt::name_any).collect();
    if names.is_empty() {
        return Err(Failure::unavailable(format!("{} has no pods", arguments.target))
            .hint("`kubectl headwater status` says why")
            .into());
    }
    let width = names.iter().map(String::len).max().unwrap_or_default();
    let (sender, mut lines) = mpsc::channel(QUEUE);
    let mut reading = JoinSet::new();
    for (number, name) in names.iter().enumerate() {
        let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let parameters = LogParams {
            follow: arguments.follow,
            previous: arguments.previous,
            tail_lines: arguments.tail.map(i64::from),
            ..LogParams::default()
        };
        let (name, sender) = (name.clone(), sender.clone());
        reading.spawn(async move {
            let what = format!("read what pod {name} says");
            let log = api.log_stream(&name, &parameters).await.map_err(|error| explain(&what, error))?;
            let mut read = log.lines();
            while let Some(line) = read.try_next().await? {
                if sender.send((number, line)).await.is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        });
    }
    drop(sender);
    while let Some((number, line)) = lines.recv().await {
        // Programs want the lines as they were written.
        if console.is_json() {
            console.line(&line)?;
        } else {
            let name = console.paint(Colour::Nth(number), &format!("{:width$}", names[number]));
            console.line(&format!("{name}  {line}"))?;
        }
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    Ok(())
}
