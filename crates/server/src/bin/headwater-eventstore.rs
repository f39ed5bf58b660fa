//! `headwater-eventstore`: the event store of one event stream.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater_server::programs::event_store(std::env::args_os().collect())
}
