//! `cargo xtask up`: an example on real servers, each part a process of its own.

use anyhow::bail;

use crate::steps::{build, built};
use crate::{go, kafka, postgres, redis};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which.
    example: Example,
    /// Take free ports instead of the usual ones.
    #[arg(long)]
    free_ports: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Example {
    /// The bank: Kafka, PostgreSQL, and its accounts in Redis.
    Banku,
    /// The orders, with their services: NATS and PostgreSQL.
    Orders,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (name, parts, with): (_, &[_], &[&str]) = match arguments.example {
        Example::Banku => ("banku", &[postgres::provide, redis::provide, kafka::provide], &[]),
        Example::Orders => (
            "orders",
            &[postgres::provide, go::provide_nats],
            &[
                "--",
                "orders",
                "all",
                "--server",
                "{event-store}",
                "--query-server",
                "{query-server}",
                "--data",
                "{data}",
            ],
        ),
    };
    for provide in parts {
        if let Err(why) = provide()? {
            bail!("{why}");
        }
    }
    build()?;
    if let Example::Banku = arguments.example {
        println!("once it is ready, in another terminal: cargo run --release --package banku");
    }
    let directory = format!("examples/{name}");
    let mut words = vec![directory.as_str()];
    if arguments.free_ports {
        words.push("--free-ports");
    }
    words.extend(with);
    Err(built("up", &words)?.exec())
}
