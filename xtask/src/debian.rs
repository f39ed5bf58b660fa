//! Debian's packages, installed without starting the services in them: the tests start servers of their own.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::steps::program;

/// What decides whether the installation of a package may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Nothing may be started.
const NOTHING: &str = "#!/bin/sh\nexit 101\n";

/// Sees to it that what `is_there` looks for is there, by `package`; says why not, where it is not and cannot be installed.
pub(crate) fn provide(
    name: &str,
    package: &str,
    is_there: impl Fn() -> bool,
    prepare: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Result<(), String>> {
    if is_there() {
        return Ok(Ok(()));
    }
    if !rustix::process::geteuid().is_root() || !on_path("apt-get") {
        return Ok(Err(format!(
            "{name} is not installed: install it (Debian: `sudo apt-get install {package}`)"
        )));
    }
    println!("installing Debian's package {package}");
    prepare()?;
    let ours = forbid_services()?;
    let installed = program("apt-get", &["update", "--quiet"]).run().and_then(|()| {
        program("apt-get", &["install", "--quiet", "--yes", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run()
    });
    if ours {
        std::fs::remove_file(POLICY).with_context(|| POLICY.to_owned())?;
    }
    installed?;
    anyhow::ensure!(is_there(), "the package {package} was installed, but its programs are not there");
    Ok(Ok(()))
}

/// Whether `program` can be called by its name.
pub(crate) fn on_path(program: &str) -> bool {
    let folders: Vec<PathBuf> = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    folders.iter().any(|folder| folder.join(program).is_file())
}

/// Writes the policy, unless somebody else has one. Answers whether it is ours.
fn forbid_services() -> anyhow::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;

    if Path::new(POLICY).exists() {
        return Ok(false);
    }
    std::fs::write(POLICY, NOTHING).with_context(|| POLICY.to_owned())?;
    std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755))?;
    Ok(true)
}
