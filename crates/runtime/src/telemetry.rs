//! Logs, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How to log. The environment is read by whoever makes this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Lines for people or for programs.
    pub format: Format,
    /// What to log, in the syntax of `RUST_LOG`: `info`, or `headwater_eventstore=debug,warn`.
    pub filter: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("{filter:?} is no log filter: {why}; give one such as info, or headwater_eventstore=debug,warn")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something else of this process has set logs up already.
    #[error("logs are set up already: {0}")]
    Twice(String),
}

/// Sets up logs for the process. Once.
///
/// # Errors
/// See [`Error`].
pub fn init(telemetry: &Telemetry) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&telemetry.filter)
        .map_err(|error| Error::Filter { filter: telemetry.filter.clone(), why: error.to_string() })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match telemetry.format {
        Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    }
    .map_err(|error| Error::Twice(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let telemetry = Telemetry { format: Format::Text, filter: "a=b=c".into() };
        let error = init(&telemetry).unwrap_err().to_string();
        assert!(error.starts_with("\"a=b=c\" is no log filter: "), "{error}");
    }
}
