//! How a command fails: what is printed, and the exit code that scripts use.

use std::io;
use std::process::ExitCode;

use headwater_core::Error;

/// The exit codes. They are documented in `headwater --help` and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was tried and it failed, in a way that none of the others says.
    Failed = 1,
    /// The arguments, the input or a manifest are wrong: correct them.
    Invalid = 2,
    /// What is there stands in the way: another version, an id that is taken, a directory in use.
    Conflict = 3,
    /// What was asked for is not there.
    NotFound = 4,
    /// The server cannot be reached, or did not answer in time: try again.
    Unavailable = 5,
    /// The server does not know the caller, or does not let it do this.
    Refused = 6,
    /// SIGHUP ended it; these are what a shell reports for signals.
    HungUp = 129,
    /// SIGINT, Ctrl-C.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// The exit code of an error of the log, the view or their servers.
    fn of(error: &Error) -> Self {
        match error {
            Error::Invalid { .. } => Self::Invalid,
            Error::NotFound { .. } => Self::NotFound,
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => Self::Refused,
            Error::WrongVersion { .. } | Error::AlreadyExists { .. } | Error::FailedPrecondition { .. } => {
                Self::Conflict
            }
            Error::Exhausted { .. }
            | Error::DeadlineExceeded { .. }
            | Error::Unavailable { .. }
            | Error::Cancelled => Self::Unavailable,
            Error::Corrupt { .. } | Error::Internal { .. } => Self::Failed,
        }
    }
}

/// An error of the command itself, with its exit code and a way on.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The input is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { exit: Exit::Invalid, message: message.into(), hint: None }
    }

    /// It was tried and it failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), hint: None }
    }

    /// What was asked does not answer.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, message: message.into(), hint: None }
    }

    /// What is there stands in the way.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self { exit: Exit::Conflict, message: message.into(), hint: None }
    }

    /// A signal ended it.
    pub(crate) fn signalled(exit: Exit) -> Self {
        let signal = match exit {
            Exit::HungUp => " by SIGHUP",
            Exit::Terminated => " by SIGTERM",
            _ => "",
        };
        Self { exit, message: format!("interrupted{signal}"), hint: None }
    }

    /// Says how to go on.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Takes the exit code of `error`, which is what went wrong underneath.
    pub(crate) fn like(self, error: &anyhow::Error) -> Self {
        Self { exit: exit_of(error), ..self }
    }
}

/// Prints `error` and gives the exit code. A reader that has gone away (`| head`) is no failure.
pub(crate) fn report(error: &anyhow::Error, colour: bool) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    eprintln!("{}", describe(error, colour));
    ExitCode::from(exit_of(error) as u8)
}

/// What was attempted, on what, what was wrong; then what to do.
fn describe(error: &anyhow::Error, colour: bool) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Libraries repeat what their source says.
        if !text.ends_with(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    let (red, cyan, reset) = if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
    match hint(error) {
        Some(hint) => format!("{red}error:{reset} {text}\n{cyan}hint:{reset} {hint}"),
        None => format!("{red}error:{reset} {text}"),
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    known_exit(error).unwrap_or(Exit::Failed)
}

fn known_exit(error: &anyhow::Error) -> Option<Exit> {
    // One that was given as context is no link of the chain.
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.exit);
    }
    error.chain().find_map(|cause| {
        let failure = cause.downcast_ref::<Failure>().map(|failure| failure.exit);
        failure.or_else(|| cause.downcast_ref::<Error>().map(Exit::of))
    })
}

fn hint(error: &anyhow::Error) -> Option<String> {
    // One that was given as context is no link of the chain.
    let outer = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone());
    let given =
        outer.or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<Failure>()?.hint.clone()));
    given.or_else(|| {
        let error = error.chain().find_map(|cause| cause.downcast_ref::<Error>())?;
        let hint = match error {
            Error::Unavailable { .. } => {
                "is it running? `headwater dev DIR` starts one; --server and --query-server say where it is"
            }
            Error::Unauthenticated { .. } => "--token-file, or --cert and --key, prove who calls",
            Error::Internal { .. } => "this is a fault of Headwater: please report it, with this message",
            _ => return None,
        };
        Some(hint.to_owned())
    })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    known_exit(error).is_none() && error.chain().any(is)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use headwater_core::{Expected, StreamId, Version};

    use super::*;

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        #[track_caller]
        fn check(error: impl Into<anyhow::Error>, code: u8) {
            let error = error.into().context("append to \"order-1\"");
            assert_eq!(exit_of(&error) as u8, code, "{error:#}");
        }
        check(anyhow::anyhow!("disk on fire"), 1);
        check(Error::corrupt("x"), 1);
        check(Error::invalid("a", "b"), 2);
        check(Failure::invalid("x"), 2);
        check(
            Error::WrongVersion {
                stream_id: StreamId::new("order-1").unwrap(),
                expected: Expected::NoStream,
                current: Version::new(3),
            },
            3,
        );
        check(Error::already_exists("x"), 3);
        check(Error::not_found("x"), 4);
        check(Error::unavailable("x"), 5);
        check(Error::unauthenticated("x"), 6);
        check(Error::permission_denied("x"), 6);
        check(Failure::failed("x").like(&anyhow::Error::from(Error::unavailable("y"))), 5);
    }

    #[test]
    fn a_message_says_what_on_what_why_and_what_to_do() {
        let failed: Result<(), _> = Err(Error::unavailable("connection refused"));
        let error = failed.context("append to \"order-1\" at http://127.0.0.1:1").unwrap_err();
        assert_eq!(
            describe(&error, false),
            "error: append to \"order-1\" at http://127.0.0.1:1: connection refused\n\
             hint: is it running? `headwater dev DIR` starts one; --server and --query-server say where it is"
        );
        let error = anyhow::Error::from(Failure::invalid("no stream id").hint("give one"));
        assert_eq!(
            describe(&error, true),
            "\x1b[1;31merror:\x1b[0m no stream id\n\x1b[1;36mhint:\x1b[0m give one"
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let gone = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(gone).context("print")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("no")));
        let gone = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(
            !is_broken_pipe(&gone.context(Failure::invalid("two faults"))),
            "a failure of its own counts"
        );
    }
}
