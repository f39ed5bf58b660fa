//! `cargo xtask bench`: figures of the real `headwater dev`, a process of its own, over its own gRPC API.
//!
//! ```text
//! bench ──starts──▶ headwater dev (SQLite, synchronous=FULL), or headwater-eventstore and PostgreSQL, on this machine's disk
//!       ──gRPC────▶ load; then everything is read back and checked, and only then a figure is printed
//! ```

mod append;
mod bus;
mod figures;
mod operator;
mod process;
mod projection;
mod read;
mod saga;
mod target;
mod usage;

use std::io::IsTerminal;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::figures::{Figure, table};

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    about = "Measures the real programs, checks what they did, and prints figures"
)]
struct Arguments {
    /// What to measure.
    #[command(subcommand)]
    what: Option<What>,
    /// Runs of each; the median is shown.
    #[arg(long, default_value_t = 3, global = true, value_parser = clap::value_parser!(u16).range(1..100))]
    runs: u16,
    /// Seconds that a closed load lasts.
    #[arg(long, default_value_t = 4, global = true, value_parser = clap::value_parser!(u16).range(1..600))]
    seconds: u16,
    /// Print the figures as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Clone, Copy, PartialEq, Eq)]
enum What {
    /// Everything but the operator, the default.
    All,
    /// Appends over gRPC: one client, 64 clients, batches of 100.
    Append,
    /// Over PostgreSQL: appends over gRPC with one client, 32, 128, in batches of 100; a projection built from the beginning.
    Postgres,
    /// Over PostgreSQL and NATS: the relay of a log; how soon an append is seen in a read model.
    Bus,
    /// A projection built from the beginning, in Redis.
    Redis,
    /// A catch-up read over gRPC.
    Read,
    /// A projection built from the beginning, one upsert an event.
    Projection,
    /// Sagas of two HTTP steps: how many a second, how soon, and what a hundred thousand that wait cost.
    Saga,
    /// The operator on a cluster of its own: not among `all`, since it has the machine's network changed.
    Operator,
    /// Memory of an idle `dev`, and the time from its start to the first append.
    Process,
}

/// How long and how often.
#[derive(Clone, Copy)]
struct Load {
    runs: u16,
    seconds: u16,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let what = arguments.what.unwrap_or(What::All);
    let load = Load { runs: arguments.runs, seconds: arguments.seconds };
    let mut figures: Vec<Figure> = Vec::new();
    for (name, wanted) in [
        ("append", What::Append),
        ("postgres", What::Postgres),
        ("bus", What::Bus),
        ("redis", What::Redis),
        ("read", What::Read),
        ("projection", What::Projection),
        ("saga", What::Saga),
        ("process", What::Process),
        ("operator", What::Operator),
    ] {
        if what != wanted && (what != What::All || wanted == What::Operator) {
            continue;
        }
        if std::io::stderr().is_terminal() {
            eprintln!("measuring: {name}");
        }
        figures.extend(match wanted {
            What::Append => append::measure(load).await?,
            What::Postgres => {
                let appends = append::measure_postgres(load).await?;
                appends.into_iter().chain(projection::measure_postgres(load).await?).collect()
            }
            What::Bus => bus::measure(load).await?,
            What::Redis => projection::measure_redis(load).await?,
            What::Read => read::measure(load).await?,
            What::Projection => projection::measure(load).await?,
            What::Saga => saga::measure(load).await?,
            What::Operator => operator::measure().await?,
            What::All | What::Process => process::measure(load).await?,
        });
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        println!("{}", table(&figures));
    }
    Ok(())
}
