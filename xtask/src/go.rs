//! What is built by Go, from modules that are pinned under `tools`.

use std::path::Path;

use anyhow::Context;

use crate::debian::on_path;
use crate::steps::{program, root};
use crate::tools;

/// Sees to it that the NATS server is there, which the tests start; says why not, where it cannot be built.
pub(crate) fn provide_nats() -> anyhow::Result<Result<(), String>> {
    once("nats", tools::NATS_PACKAGE, &tools::nats_server()?)
}

/// The same of the programs that others read Headwater with. Go itself finds out what is built already.
pub(crate) fn provide_clients() -> anyhow::Result<Result<(), String>> {
    let folder = tools::clients()?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    build("clients", &[tools::GRPCURL_PACKAGE, "./cloudevents"], &folder, || Ok(()))
}

/// The same of what judges manifests; and of KEDA's definition, and of Helm, which renders the chart's.
pub(crate) fn provide_gitops() -> anyhow::Result<Result<(), String>> {
    let folder = tools::gitops()?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let ours = ["./argocd", "./kstatus", "./measure", "./promql", "./reach", "./shapes", "./tiltfile"];
    let built = build("gitops", &[&[tools::KUBECONFORM_PACKAGE], &ours[..]].concat(), &folder, || Ok(()))?;
    if built.is_err() {
        return Ok(built);
    }
    fetch_keda()?;
    provide_helm()
}

/// Sees to it that KEDA's definition is there, out of its module.
fn fetch_keda() -> anyhow::Result<()> {
    let definition = tools::keda_definition()?;
    if definition.is_file() {
        return Ok(());
    }
    let module = root().join("tools/keda");
    program("go", &["mod", "download", tools::KEDA_PACKAGE]).within(&module).run()?;
    let mut folder = String::new();
    let listing = program("go", &["list", "-m", "-f", "{{.Dir}}", tools::KEDA_PACKAGE]).within(&module);
    anyhow::ensure!(listing.watch(|line| line.clone_into(&mut folder))?, "the module of KEDA is not found");
    std::fs::create_dir_all(definition.parent().context("a file in a folder")?)?;
    let source = Path::new(&folder).join("config/crd/bases/keda.sh_scaledobjects.yaml");
    std::fs::copy(&source, &definition).with_context(|| source.display().to_string())?;
    Ok(())
}

/// The same of Helm, which installs the chart.
pub(crate) fn provide_helm() -> anyhow::Result<Result<(), String>> {
    once("helm", tools::HELM_PACKAGE, &tools::helm()?)
}

/// The same of KWOK, which has pods for the operator's benchmark.
pub(crate) fn provide_kwok() -> anyhow::Result<Result<(), String>> {
    once("kwok", tools::KWOK_PACKAGE, &tools::kwok()?)
}

/// Builds a package of the module `tools/MODULE` as `program`, if that is not there.
fn once(module: &str, package: &str, program: &Path) -> anyhow::Result<Result<(), String>> {
    if program.is_file() {
        return Ok(Ok(()));
    }
    // Under another name first: what is there is whole.
    let unfinished = program.with_extension("unfinished");
    build(module, &[package], &unfinished, || {
        std::fs::rename(&unfinished, program).with_context(|| program.display().to_string())
    })
}

/// Builds packages of the module `tools/MODULE` into `target`.
fn build(
    module: &str,
    packages: &[&str],
    target: &Path,
    then: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Result<(), String>> {
    if !on_path("go") {
        return Ok(Err(format!(
            "Go is not installed, which builds tools/{module}: install Go 1.26 or newer"
        )));
    }
    println!("building tools/{module} into {}", target.display());
    std::fs::create_dir_all(target.parent().context("a file in a folder")?)?;
    let into = target.to_str().context("a path of UTF-8")?;
    let mut arguments = vec!["build", "-trimpath", "-ldflags", "-s -w", "-o", into];
    arguments.extend(packages);
    program("go", &arguments).env("CGO_ENABLED", "0").within(&root().join("tools").join(module)).run()?;
    then()?;
    Ok(Ok(()))
}
