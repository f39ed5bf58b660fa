//! Real processes, builders, oracles and histories for tests; the end-to-end tests lie in `tests/`.

pub mod process;
