//! Programs of this machine, and Debian's packages.

use std::path::PathBuf;

use crate::steps::program;

/// Whether there is a program of this name.
pub(crate) fn on_path(program: &str) -> bool {
    let folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    folders.iter().any(|folder| folder.join(program).is_file())
}

/// Whether packages can be installed without asking anybody.
pub(crate) fn can_install() -> bool {
    rustix::process::geteuid().is_root() && on_path("apt-get")
}

/// Installs packages.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    println!("installing Debian's {}", packages.join(", "));
    program("apt-get", &["update", "--quiet"]).run()?;
    let mut words = vec!["install", "--quiet", "--yes", "--no-install-recommends"];
    words.extend(packages);
    program("apt-get", &words).env("DEBIAN_FRONTEND", "noninteractive").run()
}
