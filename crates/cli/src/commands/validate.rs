use std::path::PathBuf;

use anyhow::Result;
use headwater_server::{LoadError, Loaded, Notice};
use serde_json::json;

use crate::console::{self, Console};
use crate::dev::{Screen, list};
use crate::failure::Failure;

/// Check manifests, as `dev`, an API server and the operator would.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater validate examples/orders
  headwater validate . --output json | jq -r 'select(.kind == \"fault\") | .message'")]
pub(crate) struct Arguments {
    /// Where the manifests are; several are one set.
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
}

/// What the manifests say; their faults are shown.
pub(crate) fn load(directories: &[PathBuf], screen: &Screen) -> Result<Loaded> {
    match headwater_server::load(directories) {
        Ok(loaded) => Ok(loaded),
        Err(LoadError::Faults(faults)) => {
            let faults: Vec<_> = faults.iter().map(Notice::from).collect();
            let faults = screen.faults(&faults)?;
            Err(Failure::invalid(format!("{faults} in the manifests")).into())
        }
        Err(error) => Err(Failure::invalid(error.to_string()).into()),
    }
}

pub(crate) fn run(arguments: &Arguments, console: &Console) -> Result<()> {
    let screen = Screen::new(console, []);
    let loaded = load(&arguments.directories, &screen)?;
    let manifests = &loaded.manifests;
    screen.remarks(manifests)?;
    let (streams, projections, sagas) =
        (manifests.event_streams.len(), manifests.projections.len(), manifests.sagas.len());
    if streams + projections + sagas == 0 {
        let directories = list(&arguments.directories);
        let message = format!("there is no EventStream, Projection or Saga in {directories}");
        return Err(Failure::invalid(message)
            .hint("what lies in DIR/*.yaml is read, and not what lies deeper")
            .into());
    }
    if console.is_json() {
        let valid =
            json!({"kind": "valid", "event_streams": streams, "projections": projections, "sagas": sagas});
        return Ok(console.json(&valid)?);
    }
    let counts = [(streams, "EventStream"), (projections, "Projection"), (sagas, "Saga")]
        .map(|(count, kind)| console::count(count as u64, kind))
        .join(", ");
    Ok(console.line(&format!("valid: {counts}"))?)
}
