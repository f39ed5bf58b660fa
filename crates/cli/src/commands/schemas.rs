use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use headwater_core::Error;
use headwater_server::schemas::{self, Keeps, KeptSchema};
use serde::Serialize;

use crate::console::{Console, count};

/// Show what is kept in a database, and drop what nobody needs any more.
///
/// A resource that is deleted leaves its log or its read model where it is, unless its deletionPolicy is Delete.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Examples:
  headwater schemas list --database postgres://me@127.0.0.1/shop
  headwater schemas drop hw_orders_view --database postgres://me@127.0.0.1/shop"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Logs and read models: whose they are, how large, and who uses them now.
    List {
        #[command(flatten)]
        database: Database,
    },
    /// Drop a log or a read model for good, when no process uses it.
    Drop {
        /// The schema.
        schema: String,

        #[command(flatten)]
        database: Database,

        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Database {
    /// The database.
    #[arg(long = "database", value_name = "URL", env = "HEADWATER_DATABASE", hide_env_values = true)]
    url: String,
}

/// A schema, as scripts read it.
#[derive(Debug, Serialize)]
struct Shown {
    schema: String,
    holds: &'static str,
    name: Option<String>,
    log_id: Option<String>,
    owner: Option<Owner>,
    events: Option<String>,
    bytes: Option<String>,
    used_by: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Owner {
    kind: String,
    namespace: String,
    name: String,
    uid: Option<String>,
}

impl From<KeptSchema> for Shown {
    fn from(kept: KeptSchema) -> Self {
        let owner = kept.owner.map(|owner| Owner {
            kind: owner.kind,
            namespace: owner.namespace,
            name: owner.name,
            uid: owner.uid,
        });
        Self {
            schema: kept.schema,
            holds: match kept.keeps {
                Keeps::Log => "Log",
                Keeps::ReadModel => "ReadModel",
            },
            name: kept.name,
            log_id: kept.log_id.map(|id| id.to_string()),
            owner,
            events: kept.events.map(|count| count.to_string()),
            bytes: kept.bytes.map(|count| count.to_string()),
            used_by: kept.used_by,
        }
    }
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    match arguments.command {
        Command::List { database } => Box::pin(list(&database.url, console)).await,
        Command::Drop { schema, database, yes } => Box::pin(drop(&database.url, &schema, yes, console)).await,
    }
}

async fn list(url: &str, console: &Console) -> Result<()> {
    let all: Vec<Shown> = Box::pin(schemas::list(url)).await?.into_iter().map(Shown::from).collect();
    if console.is_json() {
        return all.iter().try_for_each(|shown| Ok(console.json(shown)?));
    }
    let none = || "-".to_owned();
    let rows = all.into_iter().map(|shown| {
        let of = match &shown.owner {
            Some(owner) => format!("{} {}/{}", owner.kind, owner.namespace, owner.name),
            None => match (shown.holds, &shown.name) {
                ("ReadModel", Some(name)) => format!("Projection {name}"),
                (_, name) => name.clone().unwrap_or_else(none),
            },
        };
        let size = shown.bytes.as_ref().and_then(|bytes| bytes.parse().ok()).map_or_else(none, size);
        let used_by = if shown.used_by.is_empty() { none() } else { shown.used_by.join(", ") };
        [shown.schema, shown.holds.to_owned(), of, shown.events.unwrap_or_else(none), size, used_by]
    });
    Ok(console.table(&["schema", "holds", "of", "events", "size", "used by"], rows)?)
}

async fn drop(url: &str, schema: &str, yes: bool, console: &Console) -> Result<()> {
    if !yes {
        let kept = Box::pin(schemas::find(url, schema)).await?;
        if !std::io::stdin().is_terminal() {
            let message = format!("{} would be gone for good: say --yes to drop it", described(&kept));
            return Err(Error::invalid("yes", message).into());
        }
        eprint!("{} will be gone for good. Type {schema} to drop it: ", described(&kept));
        std::io::stderr().flush().context("ask")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).context("read the answer")?;
        ensure!(answer.trim() == schema, "nothing was changed");
    }
    let kept = Box::pin(schemas::drop(url, schema)).await?;
    if console.is_json() {
        return Ok(console.json(&Shown::from(kept))?);
    }
    Ok(console.line(&format!("{} is dropped", described(&kept)))?)
}

fn described(kept: &KeptSchema) -> String {
    let name = kept.name.as_deref().unwrap_or("nobody");
    let what = match (&kept.owner, kept.keeps) {
        (Some(owner), _) => format!("the log of {owner}"),
        (None, Keeps::Log) => format!("the log of \"{name}\""),
        (None, Keeps::ReadModel) => format!("the read model of projection \"{name}\""),
    };
    let events = kept.events.map(|events| format!(" with {}", count(events, "event"))).unwrap_or_default();
    format!("schema {}: {what}{events}", kept.schema)
}

/// Bytes, for people.
fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
