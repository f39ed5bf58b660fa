//! PostgreSQL's programs, which the tests start servers of.

use std::path::Path;

use anyhow::Context;

use crate::debian::{self, on_path};

/// Debian's package makes a server's data, unless this says not to.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/headwater.conf";

/// Sees to it that they are there; says why not, where they are not and cannot be installed.
pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
    debian::provide("PostgreSQL", "postgresql", is_there, || {
        let file = Path::new(NO_CLUSTER);
        let folder = file.parent().context("a file in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        std::fs::write(file, "create_main_cluster = false\n").with_context(|| NO_CLUSTER.to_owned())
    })
}

fn is_there() -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin")).any(|folder| folder.join("initdb").is_file())
        || on_path("initdb")
}
