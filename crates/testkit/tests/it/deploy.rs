//! What lies in `deploy/` and is made of something else is as that is.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_testkit::judges::workspace;

const FOLDER: &str = "deploy/argocd/resource_customizations/headwater.dev";

const HEAD: &str = "\
# The scripts of resource_customizations/, as Argo CD reads them. Applied by a manager of its own, it leaves alone what else is in `argocd-cm`:
#
#     kubectl apply --server-side --field-manager headwater --filename deploy/argocd/argocd-cm.yaml
#
# A test refuses what differs from the scripts. Refresh it by: UPDATE=1 cargo test --release --package headwater-testkit --test it -- deploy::
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
data:
";

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// `text` as a block of YAML, further right by `indent`.
fn block(text: &str, indent: usize) -> String {
    text.lines().fold(String::new(), |mut block, line| {
        if line.is_empty() {
            block.push('\n');
        } else {
            let _ = writeln!(block, "{:indent$}{line}", "");
        }
        block
    })
}

#[test]
fn the_config_map_for_argo_cd_is_made_of_the_scripts() -> Result<()> {
    let mut text = HEAD.to_owned();
    for kind in names(&workspace().join(FOLDER))? {
        let folder = workspace().join(FOLDER).join(&kind);
        let key = |what: &str| format!("  resource.customizations.{what}.headwater.dev_{kind}: |\n");
        text += &key("health");
        text += &block(&read(&folder.join("health.lua"))?, 4);
        text += &key("actions");
        text += "    discovery.lua: |\n";
        text += &block(&read(&folder.join("actions/discovery.lua"))?, 6);
        text += "    definitions:\n";
        for action in names(&folder.join("actions"))? {
            let script = folder.join("actions").join(&action).join("action.lua");
            if script.is_file() {
                text.push_str("    - name: ");
                text.push_str(&action);
                text.push_str("\n      action.lua: |\n");
                text += &block(&read(&script)?, 8);
            }
        }
    }
    let path = workspace().join("deploy/argocd/argocd-cm.yaml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text)?;
    }
    ensure!(read(&path)? == text, "{} is stale: its head says how to refresh it", path.display());
    Ok(())
}

/// The names of Headwater's metrics in `text`.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("headwater_").map(|(at, _)| &text[at..]);
    starts
        .map(|rest| rest.split(|it: char| !it.is_ascii_lowercase() && it != '_').next().unwrap_or_default())
        .collect()
}

/// All that the crates' programs are made of.
fn sources(folder: &Path, text: &mut String) -> Result<()> {
    for name in names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            sources(&path, text)?;
        } else if path.extension().is_some_and(|it| it == "rs") {
            *text += &read(&path)?;
        }
    }
    Ok(())
}

/// Whether labels are there as well, the cluster's tests ask the programs.
#[test]
fn every_metric_of_the_alerts_and_the_dashboard_is_one_that_the_code_names() -> Result<()> {
    let mut code = String::new();
    for name in names(&workspace().join("crates"))? {
        let folder = workspace().join("crates").join(name).join("src");
        if folder.is_dir() {
            sources(&folder, &mut code)?;
        }
    }
    let charted = workspace().join("charts/headwater/monitoring");
    let asked = read(&charted.join("alerts.yaml"))? + &read(&charted.join("dashboard.json"))?;
    let mut missing = Vec::new();
    for metric in metrics_in(&asked) {
        let counted = ["_total", "_bucket"].iter().find_map(|it| metric.strip_suffix(it)).unwrap_or(metric);
        let name = counted.trim_start_matches("headwater_");
        // The unit is written apart, or within the name.
        let names = [name, name.strip_suffix("_seconds").unwrap_or(name)];
        if !names.iter().any(|it| code.contains(&format!("\"{it}\""))) {
            missing.push(metric);
        }
    }
    ensure!(missing.is_empty(), "nothing counts {missing:?}");
    Ok(())
}
