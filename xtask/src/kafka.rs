//! Kafka's jars, which the tests start brokers from: those of `tools/kafka/pom.xml`, by Maven.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;

use crate::debian::{self, on_path};
use crate::steps::{program, root};
use crate::tools;

/// Sees to it that they are there; says why not, where they are not and cannot be fetched.
pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
    if let Err(why) = debian::provide("Java", "default-jre-headless", || on_path("java"), || Ok(()))? {
        return Ok(Err(why));
    }
    let folder = tools::kafka()?;
    if folder.join("libs").is_dir() {
        return Ok(Ok(()));
    }
    if let Err(why) = debian::provide("Maven", "maven", || on_path("mvn"), || Ok(()))? {
        return Ok(Err(why));
    }
    // Half of them are never taken for all.
    let partly = folder.with_extension("partly");
    if partly.exists() {
        std::fs::remove_dir_all(&partly).with_context(|| partly.display().to_string())?;
    }
    println!("fetching Kafka's jars by Maven, 55 MB");
    let began = Instant::now();
    if let Err(error) = fetch(&partly.join("libs")) {
        return Ok(Err(format!("Kafka cannot be fetched by Maven: {error:#}")));
    }
    std::fs::rename(&partly, &folder).with_context(|| folder.display().to_string())?;
    println!("Kafka is in {} ({:.0} s)", folder.display(), began.elapsed().as_secs_f64());
    Ok(Ok(()))
}

fn fetch(folder: &Path) -> anyhow::Result<()> {
    let project = root().join("tools/kafka/pom.xml");
    let output = format!("-DoutputDirectory={}", folder.display());
    program(
        "mvn",
        &[
            "--batch-mode",
            "--no-transfer-progress",
            "--file",
            project.to_str().context("a workspace whose path is text")?,
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            &output,
        ],
    )
    .run()
}
