use std::pin::pin;

use anyhow::{Context, Result};
use clap::ArgGroup;
use futures_util::StreamExt;
use headwater_api::{Client, Direction, Filter, Read, ReadStream, StartFrom};
use headwater_core::{EventType, Partition, StreamId, Token, Version};

use crate::arguments::Server;
use crate::console::Console;
use crate::events::Printer;
use crate::failure::Failure;
use crate::start;

/// Events of one stream id that are asked for at once.
const PAGE: u64 = 1_000;

/// Read events: of one stream id, or all in order.
#[derive(Debug, clap::Args)]
#[command(
    group(ArgGroup::new("what").required(true).args(["stream_id", "all"])),
    after_help = "\
Examples:
  headwater read order-1
  headwater read order-1 --backwards --limit 1
  headwater read --all --type OrderCreated --limit 100
  headwater read --all --prefix order- --from 2026-01-01T00:00:00Z --output json | jq .data"
)]
pub(crate) struct Arguments {
    /// The stream id, for example order-1.
    #[arg(value_parser = start::stream_id)]
    stream_id: Option<StreamId>,

    /// Read the whole log, up to where it ends now.
    #[arg(long)]
    all: bool,

    /// The first version to read; with --backwards the last.
    #[arg(long, value_name = "VERSION", conflicts_with = "all")]
    from_version: Option<u64>,

    /// From newer to older.
    #[arg(long, conflicts_with = "all")]
    backwards: bool,

    /// Where to begin: a token, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TOKEN|TIME", conflicts_with = "stream_id", value_parser = start::parse)]
    from: Option<StartFrom>,

    /// Where to stop: a token.
    #[arg(long, value_name = "TOKEN", conflicts_with = "stream_id")]
    up_to: Option<Token>,

    /// Only events of this type; may be repeated.
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "stream_id", value_parser = start::event_type)]
    types: Vec<EventType>,

    /// Only stream ids that begin with this.
    #[arg(long, value_name = "PREFIX", conflicts_with = "stream_id")]
    prefix: Option<String>,

    /// Only this partition.
    #[arg(long, value_name = "NUMBER", conflicts_with = "stream_id")]
    partition: Option<u16>,

    /// Events at most.
    #[arg(long, value_name = "EVENTS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let client = arguments.server.connect()?;
    match &arguments.stream_id {
        Some(stream_id) => read_stream(&client, stream_id, &arguments, console)
            .await
            .with_context(|| format!("read \"{stream_id}\"")),
        None => read_all(&client, arguments, console).await,
    }
}

async fn read_stream(
    client: &Client,
    stream_id: &StreamId,
    arguments: &Arguments,
    console: &Console,
) -> Result<()> {
    let mut printer = Printer::new(console);
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    let mut request = ReadStream {
        from: arguments.from_version.map(Version::new),
        direction: if arguments.backwards { Direction::Backwards } else { Direction::Forwards },
        ..ReadStream::all(stream_id.clone())
    };
    while left > 0 {
        request.limit = Some(left.min(PAGE));
        let batch = client.read_stream(&request).await?;
        if batch.version == Version::ZERO {
            return Err(headwater_core::Error::not_found(format!("\"{stream_id}\" has no events")).into());
        }
        printer.print(&batch.events)?;
        left -= batch.events.len() as u64;
        let next = batch.events.last().map(|event| match request.direction {
            Direction::Forwards => event.version.get() + 1,
            Direction::Backwards => event.version.get() - 1,
        });
        match next {
            Some(next) if next >= 1 && next <= batch.version.get() => request.from = Some(Version::new(next)),
            _ => break,
        }
    }
    Ok(())
}

async fn read_all(client: &Client, arguments: Arguments, console: &Console) -> Result<()> {
    let mut printer = Printer::new(console);
    let read = Read {
        from: arguments.from.unwrap_or_default(),
        up_to: arguments.up_to,
        filter: Filter { event_types: arguments.types, stream_id_prefix: arguments.prefix },
        partition: arguments.partition.map(Partition::new),
        limit: arguments.limit,
        ..Read::default()
    };
    let mut batches = pin!(client.read(read));
    let mut last = None;
    while let Some(batch) = batches.next().await {
        let batch = batch.context("read the log")?;
        printer.print(&batch.events)?;
        last = Some(batch.token);
    }
    let Some(token) = last else {
        return Err(Failure::failed("read the log: the event store ended the read without an answer").into());
    };
    if !console.is_json() {
        eprintln!("read on with --from {token}");
    }
    Ok(())
}
