use std::pin::pin;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use headwater_api::{Filter, StartFrom, Subscribe};
use headwater_core::EventType;

use crate::arguments::Server;
use crate::console::Console;
use crate::events::Printer;
use crate::start;

/// Print events as they are stored, until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater subscribe
  headwater subscribe --from beginning --type OrderApproved
  headwater subscribe --from beginning --until-caught-up --output json > events.jsonl")]
pub(crate) struct Arguments {
    /// Where to begin: `beginning`, `end`, a token, or a time such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "PLACE", default_value = "end", value_parser = start::parse)]
    from: StartFrom,

    /// Only events of this type; may be repeated.
    #[arg(long = "type", value_name = "TYPE", value_parser = start::event_type)]
    types: Vec<EventType>,

    /// Only stream ids that begin with this.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<String>,

    /// Stop when everything that was there has been printed.
    #[arg(long)]
    until_caught_up: bool,

    #[command(flatten)]
    server: Server,
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let client = arguments.server.connect()?;
    let mut printer = Printer::new(console);
    let subscribe = Subscribe {
        from: arguments.from,
        filter: Filter { event_types: arguments.types, stream_id_prefix: arguments.prefix },
        ..Subscribe::default()
    };
    let mut batches = pin!(client.subscribe(subscribe));
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut last = None;
    loop {
        let batch = tokio::select! {
            interrupted = &mut interrupt => {
                interrupted.context("listen for Ctrl-C")?;
                break;
            }
            batch = batches.next() => batch,
        };
        let Some(batch) = batch.transpose().context("subscribe")? else { break };
        printer.print(&batch.events)?;
        last = Some(batch.token);
        if batch.caught_up && arguments.until_caught_up {
            break;
        }
    }
    if let (Some(token), false) = (last, console.is_json()) {
        eprintln!("go on with --from {token}");
    }
    Ok(())
}
