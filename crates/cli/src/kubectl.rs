//! `kubectl headwater`: the resources of a cluster and what runs them, by the user's own kubeconfig.
//!
//! ```text
//! status, logs ─────────────────────▶ the API server
//! query, rebuild, parked, sagas, … ─▶ 127.0.0.1:PORT ─▶ the API server ─▶ a pod's administration
//! ```
//!
//! What is administered is administered by the same commands as elsewhere: they are told where.

mod cluster;
mod forward;
mod logs;
mod status;
mod target;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use headwater_core::Error;

use crate::commands::{projections, query, sagas};
use crate::console::Console;
use cluster::Cluster;
use forward::Forward;
use target::{Kind, Target};

/// What the program is called as a plug-in.
const PLUGIN: &str = "kubectl-headwater";

/// Whether the program was called as `kubectl` calls plug-ins.
pub(crate) fn is_plugin(program: Option<&OsStr>) -> bool {
    program.map(Path::new).and_then(Path::file_stem).is_some_and(|name| name == PLUGIN)
}

/// The plug-in's flags that say where a server is: here, the cluster says it.
pub(crate) fn hide_servers(command: clap::Command) -> clap::Command {
    const SERVERS: [&str; 6] = ["query_server", "token_file", "ca", "cert", "key", "plain_text"];
    command
        .mut_args(|arg| if SERVERS.contains(&arg.get_id().as_str()) { arg.hide(true) } else { arg })
        .mut_subcommands(hide_servers)
}

/// Show and administer what runs in a cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
As a plug-in of kubectl, the same is `kubectl headwater`: link this program as kubectl-headwater into a folder on PATH.

Examples:
  headwater kubectl status
  headwater kubectl status orders --namespace shop
  headwater kubectl query orders/orders --where status=Approved
  headwater kubectl rebuild orders --wait
  headwater kubectl parked orders
  headwater kubectl sagas list place-order --state needs-attention
  headwater kubectl logs saga/place-order --follow")]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,

    #[command(subcommand)]
    command: Command,
}

/// Which cluster, and where in it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which cluster")]
struct Place {
    /// The namespace [default: that of the context].
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,

    /// The context of the kubeconfig [default: the current one].
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,

    /// The kubeconfig [default: as kubectl has it, by KUBECONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Status(status::Arguments),
    Logs(logs::Arguments),
    Query(query::Arguments),
    #[command(flatten)]
    Projection(projections::OfOne),
    Sagas(sagas::Arguments),
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let Arguments { place, command } = arguments;
    let cluster = Cluster::connect(place.kubeconfig.as_deref(), place.context, place.namespace).await?;
    match command {
        Command::Status(arguments) => status::run(&arguments, &cluster, console).await,
        Command::Logs(arguments) => logs::run(&arguments, &cluster, console).await,
        Command::Query(mut arguments) => {
            let forward = to(&cluster, Kind::Projection, arguments.projection()).await?;
            arguments.server.is_at(forward.address.clone());
            forward.explain(query::run(arguments, console).await)
        }
        Command::Projection(mut command) => {
            let named = command.named_mut();
            let forward = to(&cluster, Kind::Projection, &named.projection).await?;
            named.server.is_at(forward.address.clone());
            forward.explain(projections::run_one(command, &console.to_the_end()).await)
        }
        Command::Sagas(mut arguments) => {
            let Some((saga, server)) = arguments.saga_mut() else {
                return Err(Error::invalid(
                    "saga",
                    "say which: each is asked by itself; `kubectl headwater status` shows them all",
                )
                .into());
            };
            let forward = to(&cluster, Kind::Saga, saga).await?;
            server.is_at(forward.address.clone());
            forward.explain(sagas::run(arguments, console).await)
        }
    }
}

/// Forwards to the administration of one of the pods of a resource.
async fn to(cluster: &Cluster, kind: Kind, name: &str) -> Result<Forward> {
    let pod = cluster.ready_pod(&Target { kind, name: name.to_owned() }).await?;
    Forward::to_administration(cluster, &pod).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_calls_it_by_another_name() {
        for (program, is) in [
            ("kubectl-headwater", true),
            ("/usr/local/bin/kubectl-headwater", true),
            ("kubectl-headwater.exe", true),
            ("headwater", false),
            ("kubectl", false),
        ] {
            assert_eq!(is_plugin(Some(OsStr::new(program))), is, "{program}");
        }
        assert!(!is_plugin(None));
    }
}
