//! `headwater`: runs Headwater on a laptop, and speaks to one that runs.
//!
//! ```text
//! dev ─────────────────────────────▶ server (everything in one process)
//! append · read · subscribe ──gRPC─▶ an event store       --server
//! query · projections · sagas ─HTTP─▶ the query API        --query-server
//! validate · crd ──────────────────▶ resources
//! kubectl ─────────────────────────▶ a cluster       (also as the plug-in kubectl-headwater)
//! ```

mod address;
mod arguments;
mod commands;
mod console;
mod dev;
mod events;
mod failure;
mod kubectl;
mod play;
mod procfile;
mod queries;
mod start;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::console::Console;

/// The program, called with `words`, its name the first of them.
pub fn program(words: Vec<OsString>) -> ExitCode {
    let arguments = Arguments::read(words);
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let console = Console::new(arguments.output, std::io::stdout().is_terminal(), plain);
    let error_colour = std::io::stderr().is_terminal() && !plain;
    match commands::run(arguments, &console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, error_colour),
    }
}
