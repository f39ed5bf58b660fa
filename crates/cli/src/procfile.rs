//! The programs that run beside `dev`.
//!
//! ```text
//! Procfile ──parse──▶ programs ──start──▶ sh -c COMMAND, each a process group ──lines, ends──▶ console
//!                                              ▲
//!                                      stop: SIGTERM, after a grace SIGKILL
//! ```

mod guard;
mod running;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::play::{Fault, is_name};

pub(crate) use running::{Groups, Running, Said};

/// A line of a Procfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) command: String,
    /// Where it runs.
    pub(crate) folder: PathBuf,
}

/// Reads a Procfile whose programs run in `folder`.
///
/// # Errors
/// All faults, in the order of their lines.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Vec<Program>, Vec<Fault>> {
    let (mut programs, mut faults, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = match line.split_once(':').map(|(name, command)| (name.trim(), command.trim())) {
            Some((name, _)) if !is_name(name) => {
                format!("{name:?} is no name for a program; it has letters, digits, - and _")
            }
            Some((name, "")) => format!("{name} has no command; write {name}: COMMAND"),
            Some((name, _)) if !names.insert(name.to_owned()) => {
                format!("{name} stands here twice; give each program a name of its own")
            }
            Some((name, command)) => {
                let (name, command) = (name.to_owned(), command.to_owned());
                programs.push(Program { name, command, folder: folder.to_owned() });
                continue;
            }
            None => format!("{line:?} is no program; write NAME: COMMAND"),
        };
        faults.push(Fault::new(index + 1, fault));
    }
    if faults.is_empty() { Ok(programs) } else { Err(faults) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_program() {
        let programs = parse(
            "# services\n\norders: order-service --listen 127.0.0.1:3000\n pay_2 :a:b \n",
            Path::new("/shop"),
        )
        .unwrap();
        let programs: Vec<_> =
            programs.iter().map(|program| (program.name.as_str(), program.command.as_str())).collect();
        assert_eq!(programs, [("orders", "order-service --listen 127.0.0.1:3000"), ("pay_2", "a:b")]);
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let faults = parse("a: b\nnothing\na b: c\nd:\na: e\n", Path::new("/shop")).unwrap_err();
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "line 2: \"nothing\" is no program; write NAME: COMMAND",
                "line 3: \"a b\" is no name for a program; it has letters, digits, - and _",
                "line 4: d has no command; write d: COMMAND",
                "line 5: a stands here twice; give each program a name of its own",
            ]
        );
    }
}
