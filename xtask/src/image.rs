//! `cargo xtask image`: the image of all programs, without a container engine: static binaries in an archive of one layer. Tests run the
//! programs that they are built with, in an image that has the libraries of this machine as well.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;

use crate::cluster::images::{Entry, write};
use crate::steps::{cargo, root};

/// What the programs are built for: named, so that what runs while they are built is not static, too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What it is called, unless something else is asked for.
const NAME: &str = concat!("headwater.dev/headwater:", env!("CARGO_PKG_VERSION"));

/// What is in it, and stands at its root.
const PROGRAMS: [&str; 5] =
    ["headwater", "headwater-eventstore", "headwater-operator", "headwater-query-worker", "headwater-saga"];

/// Where programs look for the authorities that are trusted.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

#[derive(Args)]
pub(crate) struct Arguments {
    /// What it is called.
    #[arg(long, value_name = "NAME:TAG", default_value = NAME)]
    name: String,

    /// The archive [default: target/image/headwater.tar].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { name: NAME.to_owned(), output: None }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    make(arguments).map(drop)
}

/// The archive.
pub(crate) fn make(arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/image");
    let output = arguments.output.clone().unwrap_or_else(|| folder.join("headwater.tar"));
    build(&folder)?;
    let built = folder.join(TARGET).join("release");
    let mut entries = Vec::new();
    for program in PROGRAMS {
        entries.push(Entry { path: program.to_owned(), content: read(&built.join(program))?, mode: 0o755 });
    }
    pack(entries, &arguments.name, &output)?;
    Ok(output)
}

/// The archive of an image of the programs in the folder `built`, and of the libraries that they load.
pub(crate) fn of_built(built: &Path) -> anyhow::Result<PathBuf> {
    let folder = root().join("target/image");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut entries = Vec::new();
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let stripped = folder.join(program);
        output(Command::new("strip").arg("-o").arg(&stripped).arg(built.join(program)))?;
        entries.push(Entry { path: program.to_owned(), content: read(&stripped)?, mode: 0o755 });
        let loaded = output(Command::new("ldd").arg(&stripped))?;
        libraries.extend(loaded.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
        std::fs::remove_file(&stripped)?;
    }
    for library in libraries {
        let path = library.trim_start_matches('/').to_owned();
        entries.push(Entry { path, content: read(Path::new(&library))?, mode: 0o755 });
    }
    let archive = folder.join("tests.tar");
    pack(entries, NAME, &archive)?;
    Ok(archive)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Writes the archive of an image of these, and of what all have.
fn pack(mut entries: Vec<Entry>, name: &str, archive: &Path) -> anyhow::Result<()> {
    let roots = Path::new("/").join(ROOTS);
    ensure!(
        roots.is_file(),
        "{} is not there: install the authorities that are trusted (Debian: ca-certificates)",
        roots.display()
    );
    entries.push(Entry { path: ROOTS.to_owned(), content: read(&roots)?, mode: 0o644 });
    write(archive, name, &entries, &[], "65532:65532")?;
    let size = archive.metadata().with_context(|| archive.display().to_string())?.len();
    println!("{name} is {}, {} MB", archive.display(), size / 1_000_000);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn build(folder: &Path) -> anyhow::Result<()> {
    let folder = folder.to_str().context("the path of the workspace is no UTF-8")?;
    let packages =
        ["headwater-cli", "headwater-operator", "headwater-server"].map(|name| ["--package", name]);
    let mut words = vec!["build", "--release", "--bins", "--target", TARGET, "--target-dir", folder];
    words.extend(packages.iter().flatten());
    words.extend(["--features", "headwater-server/kafka-tls"]);
    cargo(&words)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .run()
}
