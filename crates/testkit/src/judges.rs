//! What judges manifests, as `cargo xtask test` builds it: Argo CD's interpreter, kstatus, Prometheus's parser, kubeconform; and the chart, as Helm
//! renders it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::tools;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `program`, one of those in `tools/gitops`, says of `input`; it runs in the folder of the workspace.
///
/// # Errors
/// When it is not built, or refuses: with what it says.
pub fn ask(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    run(&tools::gitops()?.join(program), arguments, input)
}

/// The chart `charts/headwater` as Helm renders it for namespace `headwater`, without its tests.
///
/// # Errors
/// When Helm is not built, or refuses: with what it says.
pub fn render(flags: &[&str]) -> Result<String> {
    let words = ["template", "headwater", "charts/headwater", "--namespace", "headwater", "--skip-tests"];
    run(&tools::helm()?, &[&words[..], flags].concat(), "")
}

/// The flags by which the chart has everything that watches.
pub const WATCHED: [&str; 2] = [
    "--set",
    "serviceMonitor.enabled=true,podMonitor.enabled=true,prometheusRule.enabled=true,grafanaDashboard.enabled=true",
];

/// The metrics, and their labels, that alerts and dashboards in `manifests` name.
///
/// # Errors
/// When an expression is none of PromQL.
pub fn metrics_in(manifests: &str) -> Result<BTreeMap<String, BTreeSet<String>>> {
    Ok(serde_json::from_str(&ask("promql", &[], manifests)?)?)
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Result<String> {
    ensure!(program.is_file(), "there is no {}: `cargo xtask test` builds it", program.display());
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(workspace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    let mut stdin = child.stdin.take().context("standard input")?;
    // At the same time, since one that answers while it reads waits for its answers to be read.
    let (written, output) = std::thread::scope(|scope| {
        let writing = scope.spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output();
        (writing.join().expect("writing does not panic"), output)
    });
    let output = output?;
    let [said, errors] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    ensure!(output.status.success(), "{} {arguments:?}: {said}{errors}", program.display());
    written?;
    Ok(said.into_owned())
}
