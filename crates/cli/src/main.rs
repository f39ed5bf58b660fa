//! `headwater`: see the library, which is all of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_cli::program(std::env::args_os().collect())
}
