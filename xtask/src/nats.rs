//! The NATS server, which the tests start: built from its source, as `tools/nats` pins it.

use anyhow::Context;

use crate::debian::on_path;
use crate::steps::{program, root};
use crate::tools;

/// Sees to it that it is there; says why not, where it is not and cannot be built.
pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
    let server = tools::nats_server()?;
    if server.is_file() {
        return Ok(Ok(()));
    }
    if !on_path("go") {
        return Ok(Err(
            "Go is not installed, which builds the NATS server: install Go 1.26 or newer".to_owned()
        ));
    }
    println!("building the NATS server into {}", server.display());
    std::fs::create_dir_all(server.parent().context("a file in a folder")?)?;
    // Under another name first: what is there is whole.
    let unfinished = server.with_extension("unfinished");
    let target = unfinished.to_str().context("a path of UTF-8")?;
    let arguments = ["build", "-trimpath", "-ldflags", "-s -w", "-o", target, tools::NATS_PACKAGE];
    program("go", &arguments).env("CGO_ENABLED", "0").within(&root().join("tools/nats")).run()?;
    std::fs::rename(&unfinished, &server).with_context(|| server.display().to_string())?;
    Ok(Ok(()))
}
