//! `headwater-query-worker`: one projection, over an event store elsewhere.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater_server::programs::query_worker(std::env::args_os().collect())
}
