//! The program under each name, as an image has it.

use std::path::Path;
use std::process::{Command, Output};

const OWN: &str = env!("CARGO_BIN_EXE_headwater-multicall");

fn said(program: impl AsRef<Path>, words: &[&str]) -> Output {
    Command::new(program.as_ref()).args(words).output().unwrap()
}

#[track_caller]
fn printed(program: impl AsRef<Path>, words: &[&str]) -> String {
    let output = said(program, words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_link_is_the_program_that_it_is_named_after() {
    let folder = tempfile::tempdir().unwrap();
    for (name, usage) in [
        ("headwater", "Usage: headwater [OPTIONS] <COMMAND>"),
        ("headwater-eventstore", "Usage: headwater-eventstore [OPTIONS] <DIR>..."),
        ("headwater-operator", "Usage: headwater-operator [OPTIONS] --image <IMAGE>"),
        ("headwater-query-worker", "Usage: headwater-query-worker [OPTIONS] --event-store <URL> <DIR>..."),
        ("headwater-saga", "Usage: headwater-saga [OPTIONS] <DIR>..."),
        ("kubectl-headwater", "Usage: kubectl headwater [OPTIONS] <COMMAND>"),
    ] {
        let link = folder.path().join(name);
        std::os::unix::fs::symlink(OWN, &link).unwrap();
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(printed(&link, &["--version"]), version);
        assert_eq!(printed(OWN, &[name, "--version"]), version);
        let help = printed(&link, &["--help"]);
        assert!(help.contains(usage), "{help}");
        assert_eq!(printed(OWN, &[name, "--help"]), help);
    }
}

#[test]
fn under_its_own_name_it_says_which_it_has() {
    let output = said(OWN, &["--help"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("say which as its first argument") && error.contains("headwater-operator"),
        "{error}"
    );
}
