//! A program's options, from where they may come.
//!
//! ```text
//! defaults ◀── --config FILE ◀── environment ◀── flags          what stands to the right counts
//! ```
//! The flags are the one definition: each is a key of the file under its name, checked by what checks the flag. A file's values become the
//! flags' defaults, so that whoever adds a flag has nothing more to do.

mod show;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use headwater_resources::fault::Fault;
use headwater_resources::manifest::{OptionKind, OptionsFile};

/// Where options come from beside flags and environment.
#[derive(Debug, Args)]
pub(crate) struct ConfigurationArguments {
    /// Take options from this YAML file: keys are flags without their dashes, and "manifests". Environment and flags come before it.
    #[arg(long, value_name = "FILE", env = "HEADWATER_CONFIG")]
    config: Option<PathBuf>,

    /// Print the options as they come out, and where each is from, without passwords; and end.
    #[arg(long)]
    print_config: bool,
}

/// Options of a program that are no key of a file: they say what to do now, or where the file is.
const NO_KEYS: [&str; 4] = ["config", "print_config", "help", "version"];

/// What came of a program's options.
#[derive(Debug)]
pub(crate) enum Configured<A> {
    /// These are they.
    Run(A),
    /// This is to be printed, and nothing done.
    Print(String),
}

/// Why there are none.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Flags, environment, or the whole: as clap says it. Also what `--help` and `--version` print.
    Flags(Box<clap::Error>),
    /// All that is wrong in the file.
    File(Vec<Fault>),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Flags(Box::new(error))
    }
}

/// The options of this process, called with `words`. It ends here when there is something else to do, or they are wrong.
pub(crate) fn configure<A: CommandFactory + FromArgMatches>(words: Vec<OsString>) -> A {
    match read(words) {
        Ok(Configured::Run(arguments)) => arguments,
        Ok(Configured::Print(text)) => {
            print!("{text}");
            std::process::exit(0)
        }
        Err(Refused::Flags(error)) => error.exit(),
        Err(Refused::File(faults)) => {
            for fault in faults {
                eprintln!("error: {fault}");
            }
            std::process::exit(2)
        }
    }
}

/// The options that `words`, the first of which names the program, the environment and the file that they name make.
///
/// # Errors
/// See [`Refused`].
pub(crate) fn read<A: CommandFactory + FromArgMatches>(
    words: Vec<OsString>,
) -> Result<Configured<A>, Refused> {
    let mut command = A::command();
    command.build();
    // What is wrong with the flags, a word of help included, is said below: here it matters only which file there is, and what precedes it.
    let said = relaxed(&command).ignore_errors(true).try_get_matches_from(&words).ok();
    let path = said.as_ref().and_then(|said| said.get_one::<PathBuf>("config").cloned());
    let mut from_file = BTreeMap::new();
    if let (Some(path), Some(said)) = (&path, &said) {
        from_file = of_file(&command, path, said)?;
    }
    let mut whole = A::command();
    for (id, values) in &from_file {
        let values = values.clone();
        whole = whole.mut_arg(id, |arg| arg.required(false).default_values(values).hide_default_value(true));
    }
    let matches = whole.try_get_matches_from(words)?;
    if matches.get_flag("print_config") {
        let place = path.map(|path| path.display().to_string()).unwrap_or_default();
        let is_of_file = |id: &str| from_file.contains_key(id).then_some(place.as_str());
        return Ok(Configured::Print(show::options(&command, &matches, is_of_file)));
    }
    Ok(Configured::Run(A::from_arg_matches(&matches)?))
}

/// What the file says, by the ids of arguments, where neither environment nor flags precede it.
fn of_file(
    command: &Command,
    path: &Path,
    said: &ArgMatches,
) -> Result<BTreeMap<String, Vec<String>>, Refused> {
    let by_key: BTreeMap<String, &Arg> = keys(command).collect();
    let known: BTreeMap<String, OptionKind> =
        by_key.iter().map(|(key, arg)| (key.clone(), kind(arg))).collect();
    let (file, mut faults) = OptionsFile::read(path, &known);
    let is_said = |arg: &Arg| {
        let source = said.value_source(arg.get_id().as_str());
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let mut values = BTreeMap::new();
    for (key, given) in &file.values {
        let Some(arg) = by_key.get(key) else { continue };
        if let Err(message) = check(command, arg, given) {
            faults.push(file.fault(key, message, ""));
        }
        let rivals: Vec<String> = keys(command)
            .filter(|(_, other)| {
                let conflicts = |one: &Arg, two: &Arg| {
                    command.get_arg_conflicts_with(one).iter().any(|it| it.get_id() == two.get_id())
                };
                conflicts(arg, other) || conflicts(other, arg)
            })
            .map(|(key, _)| key)
            .collect();
        if let Some(rival) = rivals.iter().find(|it| file.values.contains_key(*it) && *it > key) {
            faults.push(file.fault(key, format!("cannot be there with {rival}"), "remove one of them"));
        }
        let is_preceded = rivals.iter().any(|rival| by_key.get(rival).is_some_and(|it| is_said(it)));
        if !is_preceded {
            values.insert(arg.get_id().to_string(), given.clone());
        }
    }
    if faults.is_empty() {
        return Ok(values);
    }
    faults.sort_by_key(|fault| (fault.line, fault.column));
    Err(Refused::File(faults))
}

/// The arguments that a file may set, and how it calls them.
fn keys(command: &Command) -> impl Iterator<Item = (String, &Arg)> {
    let arguments = command.get_arguments().filter(|arg| !NO_KEYS.contains(&arg.get_id().as_str()));
    arguments.map(|arg| {
        (arg.get_long().map_or_else(|| arg.get_id().as_str().replace('_', "-"), str::to_owned), arg)
    })
}

fn kind(arg: &Arg) -> OptionKind {
    match arg.get_action() {
        ArgAction::SetTrue | ArgAction::SetFalse => OptionKind::Switch,
        ArgAction::Append => OptionKind::List,
        _ => OptionKind::Text,
    }
}

/// The command with nothing asked for and no environment.
fn relaxed(command: &Command) -> Command {
    command.clone().mut_args(|arg| arg.required(false))
}

/// Whether `values` are such as `arg` takes.
fn check(command: &Command, arg: &Arg, values: &[String]) -> Result<(), String> {
    if kind(arg) == OptionKind::Switch {
        return Ok(());
    }
    let alone = relaxed(command).mut_args(|arg| arg.env(None::<&'static str>));
    let words: Vec<String> = match arg.get_long() {
        Some(long) => values.iter().map(|value| format!("--{long}={value}")).collect(),
        None => std::iter::once("--".to_owned()).chain(values.iter().cloned()).collect(),
    };
    let program = command.get_name().to_owned();
    match alone.try_get_matches_from(std::iter::once(program).chain(words)) {
        Ok(_) => Ok(()),
        // What belongs to it may be in the file, too, or said elsewhere.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let said = text.split("\n\n").next().unwrap_or_default();
            Err(said.trim_start_matches("error: ").trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests;
