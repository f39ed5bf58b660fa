use anyhow::{Context, Result};

use crate::console::Console;

/// Print the custom resource definitions, for `kubectl apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater crd | kubectl apply --server-side -f -
  headwater crd --output json | jq -r .metadata.name")]
pub(crate) struct Arguments {}

pub(crate) fn run(_: &Arguments, console: &Console) -> Result<()> {
    for definition in headwater_resources::crd::definitions() {
        if console.is_json() {
            console.json(&definition.resource())?;
        } else {
            let yaml = definition.to_yaml().with_context(|| format!("write {}", definition.file))?;
            console.line(&format!("---\n{}", yaml.trim_end()))?;
        }
    }
    Ok(())
}
