//! `cargo xtask test`: every check of the project, on a machine that has only Rust and a C compiler; it installs what else is needed.

use std::time::Duration;

use anyhow::bail;

use crate::steps::{Clock, build, built_folder, cargo};
use crate::{e2e, go, kafka, postgres, redis};

/// Beyond this a run on two cold cores would come near the limit of continuous integration.
const TIME_LIMIT: Duration = Duration::from_mins(80);

/// A real service that tests start.
struct Part {
    name: &'static str,
    /// What the names of all tests that need it have in them; `None`: they are a step of their own.
    word: Option<&'static str>,
    /// Sees to it that its programs are there; `Ok(Err(why))` where they are not and cannot be had.
    provide: fn() -> anyhow::Result<Result<(), String>>,
}

const PARTS: [Part; 7] = [
    // Go builds while nothing else compiles.
    Part { name: "Kubernetes", word: None, provide: e2e::provide },
    Part { name: "NATS", word: Some("nats"), provide: go::provide_nats },
    Part { name: "clients of others", word: Some("by_others"), provide: go::provide_clients },
    Part { name: "what judges manifests", word: Some("gitops"), provide: go::provide_gitops },
    Part { name: "PostgreSQL", word: Some("postgres"), provide: postgres::provide },
    Part { name: "Redis", word: Some("redis"), provide: redis::provide },
    Part { name: "Kafka", word: Some("kafka"), provide: kafka::provide },
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out formatting, lints, and what needs more than Rust.
    #[arg(long)]
    quick: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut clock = Clock::default();
    let mut missing = Vec::new();
    for part in &PARTS {
        let provided = if arguments.quick {
            Err(format!("--quick leaves out what needs {}", part.name))
        } else {
            clock.lap(part.name, part.provide)?
        };
        if let Err(why) = provided {
            missing.push((part, why));
        }
    }
    if let (Some((_, why)), Some(_)) = (missing.first(), std::env::var_os("CI")) {
        bail!("{why}; in continuous integration nothing is left out");
    }
    if !arguments.quick {
        clock.lap("formatting", || cargo(&["fmt", "--all", "--check"]).run())?;
        clock.lap("lints", || {
            cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"]).run()
        })?;
    }
    // End-to-end tests start the programs themselves, so these are built first: as `cargo run` builds the command, and all of them.
    clock.lap("the command", || cargo(&["build", "--release"]).run())?;
    clock.lap("programs", build)?;

    let left_out = |name: &str| missing.iter().any(|(part, _)| part.name == name);
    let mut counts = Counts::default();
    let green = clock.lap("tests", || {
        let mut words = vec!["test", "--release", "--workspace", "--no-fail-fast"];
        words.push("--");
        words.extend(arguments.filter.as_deref());
        for word in missing.iter().filter_map(|(part, _)| part.word) {
            words.extend(["--skip", word]);
        }
        let green = cargo(&words).watch(|line| counts.add(line))?;
        // What is no part of a usual build is built and run beside it.
        if arguments.filter.is_some() || left_out("Kafka") {
            return Ok(green);
        }
        let tls = [
            "test",
            "--release",
            "--package",
            "headwater-kafka",
            // With all its neighbours' features, so that they are not built anew.
            "--package",
            "headwater-multicall",
            "--features",
            "headwater-kafka/tls",
            "--test",
            "it",
            "--",
            "tls",
        ];
        Ok(cargo(&tls).watch(|line| counts.add(line))? && green)
    })?;
    let needed = ["Kubernetes", "NATS", "PostgreSQL", "what judges manifests"];
    let green = if arguments.filter.is_some() || needed.into_iter().any(left_out) {
        green
    } else {
        let built = built_folder()?;
        clock.lap("a cluster", || e2e::run_all(&built, |tests| tests.watch(|line| counts.add(line))))?
            && green
    };
    clock.report();

    for (part, why) in &missing {
        match part.word {
            Some(word) => println!("\nskipped: tests whose names have {word:?} in them. {why}"),
            None => println!("\nskipped: tests of {}. {why}", part.name),
        }
    }
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    if !green || counts.failed > 0 {
        bail!("there are failing tests; their names stand above under `failures:`");
    }
    if counts.passed == 0 {
        bail!("no test ran");
    }
    if clock.total() > TIME_LIMIT {
        bail!(
            "this took {:.0} minutes; {} is the most that continuous integration allows for",
            clock.total().as_secs_f64() / 60.0,
            TIME_LIMIT.as_secs() / 60
        );
    }
    Ok(())
}

/// The sums of cargo's `test result:` lines.
#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<u64>), words.next()) {
                match word {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut counts = Counts::default();
        counts.add(
            "test result: ok. 14 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        counts.add("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.31s");
        counts.add("running 5 tests");
        assert_eq!((counts.passed, counts.failed), (16, 3));
    }
}
