//! `cargo xtask bench`: builds the programs and the benchmarks, and runs them.

use crate::steps::cargo;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure and how; nothing: everything, `help`: the list.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let packages = ["headwater-cli", "headwater-server", "headwater-bench"].map(|name| ["--package", name]);
    let mut build = vec!["build", "--release", "--bins"];
    build.extend(packages.iter().flatten());
    cargo(&build).run()?;
    let mut words = vec!["run", "--release", "--quiet", "--package", "headwater-bench", "--"];
    words.extend(arguments.arguments.iter().map(String::as_str));
    cargo(&words).run()
}
