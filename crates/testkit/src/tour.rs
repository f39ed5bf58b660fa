//! Pages whose commands are run, in their order, as they stand there.
//!
//! A fenced `sh` block is one script. A comment before it says how it is run, and is invisible to readers:
//!
//! ```text
//! <!-- run: until "TEXT" -->   in the background, from when it has printed TEXT until the next `run: stop`
//! <!-- run: elsewhere NAME --> by the test NAME of another file, or by continuous integration itself
//! <!-- run: stop -->           ends what runs in the background
//! <!-- expect: TEXT -->        after a block: its output has TEXT
//! ```
//!
//! Blocks run in a copy of `examples/` and `charts/`, so that the tour may change manifests; one that calls `cargo` runs in the workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::process::{Process, program};
use anyhow::{Context, Result, bail, ensure};
use tokio::process::Command;

/// A block may build the programs first.
const TO_BUILD: Duration = Duration::from_mins(10);

/// What stands in the README, in order.
#[derive(Debug, PartialEq)]
enum Part {
    Script(String),
    Background { script: String, until: String },
    Elsewhere(String),
    Stop,
    Expect(String),
}

fn parts(text: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut mode: Option<String> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
            match comment.split_once(": ") {
                Some(("run", "stop")) => parts.push(Part::Stop),
                Some(("run", how)) => mode = Some(how.to_owned()),
                Some(("expect", text)) => parts.push(Part::Expect(text.to_owned())),
                _ => {}
            }
        } else if line == "```sh" {
            let script: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let script = script.join("\n");
            parts.push(match mode.take() {
                None => Part::Script(script),
                Some(how) => match how.split_once(' ') {
                    Some(("until", text)) => {
                        Part::Background { script, until: text.trim_matches('"').to_owned() }
                    }
                    Some(("elsewhere", name)) => Part::Elsewhere(name.to_owned()),
                    _ => bail!("`run: {how}` is no way to run a block"),
                },
            });
        }
    }
    Ok(parts)
}

struct Tour {
    workspace: PathBuf,
    copy: PathBuf,
    path: OsString,
    variables: Vec<(String, String)>,
    background: Vec<(Process, bool)>,
    last_output: String,
}

impl Tour {
    fn command(&self, script: &str) -> Command {
        let folder = if script.trim_start().starts_with("cargo ") { &self.workspace } else { &self.copy };
        // The shell's `-e` looks away where `!` stands before a command.
        let checked = |line: &str| match line.strip_prefix("! ") {
            Some(refused) => format!("! {refused} || exit 1"),
            None => line.to_owned(),
        };
        let script: Vec<String> = script.lines().map(checked).collect();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &script.join("\n")])
            .current_dir(folder)
            .env("PATH", &self.path)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1");
        command
    }

    async fn run(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Script(script) => {
                let work = self.command(&script).stdin(Stdio::null()).kill_on_drop(true).output();
                let output = tokio::time::timeout(Duration::from_mins(3), work)
                    .await
                    .context("it did not end within three minutes")??;
                self.last_output = format!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
                ensure!(
                    output.status.success(),
                    "{}: {}\n{}",
                    output.status,
                    self.last_output,
                    self.background_output()
                );
            }
            Part::Background { script, until } => {
                let mut process = Process::start(self.command(&script))?;
                process
                    .line_within(TO_BUILD, &format!("{until:?}"), |line| line.contains(&until).then_some(()))
                    .await?;
                self.last_output = process.output();
                // It does not end well when it is told to end.
                let is_others = script.starts_with("kubectl ");
                self.background.push((process, is_others));
            }
            Part::Expect(text) => {
                ensure!(
                    self.last_output.contains(&text),
                    "the output lacks {text:?}; it is:\n{}\n{}",
                    self.last_output,
                    self.background_output()
                );
            }
            Part::Stop => {
                for (process, is_others) in self.background.drain(..) {
                    let status = process.terminate().await?;
                    ensure!(status.success() || is_others, "what ran in the background ended with {status}");
                }
            }
            Part::Elsewhere(_) => {}
        }
        Ok(())
    }

    fn background_output(&self) -> String {
        let outputs: Vec<String> = self.background.iter().map(|(process, _)| process.output()).collect();
        format!("── what runs in the background printed:\n{}", outputs.join("\n──\n"))
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name() == ".headwater" {
            continue;
        }
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()))?;
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Runs every command of `page`, a path from the workspace's root, with these programs' folders before `PATH`, and these variables.
///
/// # Errors
/// The first that does not end well, or does not say what it should.
pub async fn every_command_works(
    page: &str,
    folders: &[PathBuf],
    variables: &[(&str, String)],
) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let folder = tempfile::tempdir()?;
    for name in ["examples", "charts"] {
        copy_folder(&workspace.join(name), &folder.path().join(name))?;
    }
    let binaries = program("headwater")?.parent().context("a folder")?.to_owned();
    let before = std::env::var_os("PATH").unwrap_or_default();
    let path = folders.iter().cloned().chain([binaries]).chain(std::env::split_paths(&before));
    let mut tour = Tour {
        copy: folder.path().to_owned(),
        path: std::env::join_paths(path)?,
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        background: Vec::new(),
        last_output: String::new(),
        workspace,
    };
    let parts = parts(&std::fs::read_to_string(tour.workspace.join(page))?)?;
    ensure!(parts.iter().any(|part| matches!(part, Part::Script(_))), "{page} has no commands");
    for part in parts {
        let shown = format!("{part:?}");
        tour.run(part).await.with_context(|| format!("{page}: {shown}"))?;
    }
    ensure!(tour.background.is_empty(), "{page} never ends what it starts in the background");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_comments_are_told_apart() {
        let text = "# T\n<!-- run: until \"ready at\" -->\n```sh\nheadwater dev x\n```\ntext\n```yaml\na: b\n```\n```sh\necho 1\necho 2\n```\n<!-- expect: 2 -->\n<!-- run: stop -->\n<!-- run: elsewhere ci -->\n```sh\ncargo xtask test\n```\n";
        assert_eq!(
            parts(text).unwrap(),
            [
                Part::Background { script: "headwater dev x".into(), until: "ready at".into() },
                Part::Script("echo 1\necho 2".into()),
                Part::Expect("2".into()),
                Part::Stop,
                Part::Elsewhere("ci".into()),
            ]
        );
        assert!(parts("<!-- run: sideways -->\n```sh\ntrue\n```\n").is_err());
    }
}
