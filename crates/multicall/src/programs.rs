//! Which program is meant.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// One of those that are in this file.
pub(crate) struct Program {
    name: &'static str,
    /// What it does with the words that it is called with, its name the first of them.
    pub(crate) run: fn(Vec<OsString>) -> ExitCode,
}

static PROGRAMS: [Program; 6] = [
    Program { name: "headwater", run: headwater_cli::program },
    Program { name: "headwater-eventstore", run: headwater_server::programs::event_store },
    Program { name: "headwater-operator", run: headwater_operator::program },
    Program { name: "headwater-query-worker", run: headwater_server::programs::query_worker },
    Program { name: "headwater-saga", run: headwater_server::programs::saga },
    Program { name: "kubectl-headwater", run: headwater_cli::program },
];

/// The program that `words` call, by the file's name or else by the word after it; and what it is called with.
pub(crate) fn called(mut words: Vec<OsString>) -> Result<(&'static Program, Vec<OsString>), String> {
    if let Some(program) = words.first().and_then(|word| named(word)) {
        return Ok((program, words));
    }
    if let Some(program) = words.get(1).and_then(|word| named(word)) {
        words.remove(0);
        return Ok((program, words));
    }
    let asked = match &words[..] {
        [] => "it was called by no name".to_owned(),
        [own] => format!("{} is no program of ours", own.display()),
        [own, word, ..] => format!("neither {} nor {} is a program of ours", own.display(), word.display()),
    };
    let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
    Err(format!("{asked}: link this file as one of {}, or say which as its first argument", names.join(", ")))
}

fn named(word: &OsStr) -> Option<&'static Program> {
    let name = Path::new(word).file_name()?;
    PROGRAMS.iter().find(|program| program.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_called(words: &[&str]) -> Result<(&'static str, Vec<OsString>), String> {
        called(words.iter().map(OsString::from).collect()).map(|(program, words)| (program.name, words))
    }

    #[track_caller]
    fn calls(words: &[&str], name: &str, with: &[&str]) {
        assert_eq!(try_called(words), Ok((name, with.iter().map(OsString::from).collect())));
    }

    #[test]
    fn the_name_of_the_file_says_which_program_it_is() {
        for Program { name, .. } in &PROGRAMS {
            calls(&[name, "--help"], name, &[name, "--help"]);
            let path = format!("/usr/local/bin/{name}");
            calls(&[&path], name, &[&path]);
        }
    }

    #[test]
    fn the_first_argument_says_it_where_the_name_does_not() {
        calls(
            &["/headwater-multicall", "headwater-saga", "--help"],
            "headwater-saga",
            &["headwater-saga", "--help"],
        );
        calls(&["hw", "/headwater", "headwater-saga"], "headwater", &["/headwater", "headwater-saga"]);
    }

    #[test]
    fn the_name_of_the_file_precedes_the_first_argument() {
        calls(&["headwater", "headwater-saga"], "headwater", &["headwater", "headwater-saga"]);
    }

    #[test]
    fn who_calls_it_by_no_name_is_told_the_names() {
        for (words, part) in [
            (&["hw"][..], "hw is no program of ours"),
            (&["hw", "--help"], "neither hw nor --help is"),
            (&["headwater-sagas"], "headwater-sagas is no"),
            (&[], "by no name"),
        ] {
            let why = try_called(words).unwrap_err();
            assert!(why.contains(part) && why.contains("headwater, headwater-eventstore, "), "{why}");
        }
    }
}
