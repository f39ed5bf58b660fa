//! Redis's programs, which the tests start servers of.

use crate::debian::{self, on_path};

/// Sees to it that they are there; says why not, where they are not and cannot be installed.
pub(crate) fn provide() -> anyhow::Result<Result<(), String>> {
    let is_there = || on_path("redis-server") && on_path("redis-cli");
    debian::provide("Redis", "redis-server", is_there, || Ok(()))
}
