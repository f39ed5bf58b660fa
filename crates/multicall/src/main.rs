//! `headwater-multicall`: all programs in one file, each under its own name. An image has it once, and links of these names:
//!
//! ```text
//! headwater, kubectl-headwater ───────────────────────────────▶ cli
//! headwater-eventstore, headwater-query-worker, headwater-saga ─▶ server
//! headwater-operator ─────────────────────────────────────────▶ operator
//! ```

mod programs;

use std::process::ExitCode;

/// For all, since there is one a file: those that hold much are measured with it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match programs::called(std::env::args_os().collect()) {
        Ok((program, words)) => (program.run)(words),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}
