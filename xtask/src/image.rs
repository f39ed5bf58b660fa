//! `cargo xtask image`: the image of all programs, without a container engine: a static binary in an archive of one layer, that is each
//! program under its name. Tests run what they are built with, in an image that has the libraries of this machine as well.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use clap::Args;

use crate::cluster::images::{Entry, Is, write};
use crate::steps::{cargo, root};

/// What the programs are built for: named, so that what runs while they are built is not static, too.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How it is built, in the workspace's `Cargo.toml`.
const PROFILE: &str = "image";

/// What it is called, unless something else is asked for.
const NAME: &str = concat!("headwater.dev/headwater:", env!("CARGO_PKG_VERSION"));

/// What it is built of.
const HEADWATER: [&str; 4] =
    ["--package", "headwater-multicall", "--features", "headwater-multicall/kafka-tls"];

/// The program that is all of them.
const MULTICALL: &str = "headwater-multicall";

/// What stands at its root, each that program.
const PROGRAMS: [&str; 5] =
    ["headwater", "headwater-eventstore", "headwater-operator", "headwater-query-worker", "headwater-saga"];

/// Examples whose services have an image of their own, each a package and its program.
const EXAMPLES: [&str; 1] = ["orders"];

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

    /// Of an example's services instead, as headwater.dev/EXAMPLE.
    #[arg(long, value_name = "EXAMPLE", value_parser = EXAMPLES, conflicts_with_all = ["name", "output"])]
    example: Option<String>,
}

/// An image: what it is called, the program in it, by which names it stands there, and its archive.
struct Image {
    name: String,
    program: &'static str,
    names: Vec<&'static str>,
    archive: PathBuf,
}

impl Image {
    fn of_headwater(archive: PathBuf) -> Self {
        Self { name: NAME.to_owned(), program: MULTICALL, names: PROGRAMS.to_vec(), archive }
    }

    fn of_example(example: &'static str, folder: &Path) -> Self {
        let name = format!("headwater.dev/{example}:{}", env!("CARGO_PKG_VERSION"));
        let archive = folder.join(format!("{example}.tar"));
        Self { name, program: example, names: vec![example], archive }
    }

    /// The program's file, under all its names.
    fn entries(&self, program: &Path) -> anyhow::Result<Vec<Entry>> {
        let (first, others) = self.names.split_first().context("an image has a program")?;
        let file = Entry { path: (*first).to_owned(), is: Is::File { content: read(program)?, mode: 0o755 } };
        let links = others
            .iter()
            .map(|other| Entry { path: (*other).to_owned(), is: Is::SameAs((*first).to_owned()) });
        Ok(std::iter::once(file).chain(links).collect())
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = folder()?;
    if let Some(example) = EXAMPLES.into_iter().find(|it| arguments.example.as_deref() == Some(it)) {
        build(&folder, &["--package", example])?;
        return of_static(&folder, &Image::of_example(example, &folder));
    }
    let archive = arguments.output.clone().unwrap_or_else(|| folder.join("headwater.tar"));
    build(&folder, &HEADWATER)?;
    of_static(&folder, &Image { name: arguments.name.clone(), ..Image::of_headwater(archive) })
}

/// The archives of all images, of static programs.
pub(crate) fn make() -> anyhow::Result<Vec<PathBuf>> {
    let folder = folder()?;
    let images = all(&folder);
    build(&folder, &[&HEADWATER[..], &EXAMPLES.map(|it| ["--package", it]).concat()].concat())?;
    images.iter().try_for_each(|image| of_static(&folder, image))?;
    Ok(images.into_iter().map(|image| image.archive).collect())
}

/// The same of the programs in the folder `built`, with the libraries that they load.
pub(crate) fn of_built(built: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = folder()?.join("tests");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let images = all(&folder);
    images.iter().try_for_each(|image| of_dynamic(&folder, built, image))?;
    Ok(images.into_iter().map(|image| image.archive).collect())
}

fn folder() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/image");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

fn all(folder: &Path) -> Vec<Image> {
    let examples = EXAMPLES.iter().map(|example| Image::of_example(example, folder));
    std::iter::once(Image::of_headwater(folder.join("headwater.tar"))).chain(examples).collect()
}

fn of_static(folder: &Path, image: &Image) -> anyhow::Result<()> {
    let program = folder.join(TARGET).join(PROFILE).join(image.program);
    pack(image.entries(&program)?, &image.name, &image.archive)
}

fn of_dynamic(folder: &Path, built: &Path, image: &Image) -> anyhow::Result<()> {
    let (program, stripped) = (built.join(image.program), folder.join(image.program));
    ensure!(
        program.is_file(),
        "{} is not there: run `cargo build --release --workspace --bins`",
        program.display()
    );
    output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
    let mut entries = image.entries(&stripped)?;
    let loaded = output(Command::new("ldd").arg(&stripped))?;
    std::fs::remove_file(&stripped)?;
    for library in loaded.split_whitespace().filter(|word| word.starts_with('/')) {
        let content = read(Path::new(library))?;
        entries.push(Entry {
            path: library.trim_start_matches('/').to_owned(),
            is: Is::File { content, mode: 0o755 },
        });
    }
    pack(entries, &image.name, &image.archive)
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
    entries.push(Entry { path: ROOTS.to_owned(), is: Is::File { content: read(&roots)?, mode: 0o644 } });
    write(archive, name, &entries, &[], "65532:65532")?;
    let size = archive.metadata().with_context(|| archive.display().to_string())?.len();
    println!("{name} is {}, {} MB", archive.display(), size / 1_000_000);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| path.display().to_string())
}

fn build(folder: &Path, what: &[&str]) -> anyhow::Result<()> {
    let folder = folder.to_str().context("the path of the workspace is no UTF-8")?;
    let words = ["build", "--profile", PROFILE, "--bins", "--target", TARGET, "--target-dir", folder];
    cargo(&[&words, what].concat()).env("RUSTFLAGS", "-C target-feature=+crt-static").run()
}
