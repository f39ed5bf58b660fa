//! `headwater-operator`: keeps EventStreams, Projections and Sagas of a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    headwater_operator::program(std::env::args_os().collect())
}
