//! `cargo xtask`: the chores of the project, each one command that works on a fresh machine.
//!
//! ```text
//! cargo xtask test    build everything, lint, run every test      (what continuous integration runs)
//! cargo xtask bench   build, measure, check, print; `bench operator` on a cluster of its own
//! cargo xtask up      an example on real servers: databases, brokers, every part by itself
//! cargo xtask cluster a real Kubernetes on this machine
//! cargo xtask e2e     end-to-end tests on it
//! cargo xtask image   the image of all programs, without a container engine
//! cargo xtask crds    write crds/*.yaml anew from the Rust types
//! ```

mod bench;
mod cluster;
mod debian;
mod e2e;
mod go;
mod image;
mod kafka;
mod postgres;
mod redis;
mod steps;
mod test;
/// Where the tests look for what is provided here.
#[allow(unreachable_pub, reason = "there, others use it")]
#[path = "../../crates/testkit/src/tools.rs"]
mod tools;
mod up;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the project", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Build everything, lint it, and run every test.
    Test(test::Arguments),
    /// Build the benchmarks and run one, or all.
    Bench(bench::Arguments),
    /// Run an example on real servers, each part a process of its own.
    Up(up::Arguments),
    /// Start and stop a real Kubernetes on this machine.
    Cluster(cluster::Arguments),
    /// Run end-to-end tests on a real Kubernetes on this machine.
    E2e(e2e::Arguments),
    /// Build the image of all programs, as an archive.
    Image(image::Arguments),
    /// Write `crds/*.yaml` anew from the Rust types.
    Crds,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Test(arguments) => test::run(&arguments),
        Chore::Bench(arguments) => bench::run(&arguments),
        Chore::Up(arguments) => up::run(&arguments),
        Chore::Cluster(arguments) => cluster::run(&arguments),
        Chore::E2e(arguments) => e2e::run(&arguments),
        Chore::Image(arguments) => image::run(&arguments),
        Chore::Crds => steps::cargo(&["test", "--release", "--package", "headwater-resources", "crds"])
            .env("UPDATE", "1")
            .run(),
    }
}
