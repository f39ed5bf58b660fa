mod line;
mod load;

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, Result};
use bytes::Bytes;
use headwater_api::Client;
use headwater_core::{Append, EventType, Expected, Metadata, NewEvent, StreamId};
use serde_json::json;
use uuid::Uuid;

use crate::arguments::Server;
use crate::console::Console;
use crate::failure::Failure;
use crate::start;

/// Store an event, or with standard input many.
///
/// With a STREAM_ID one event is stored. Without, each line of standard input is an event:
///
///   {"stream_id": "order-1", "type": "OrderCreated", "data": {…}}
///
/// and may have "id" (a UUID), "metadata" (an object), "expected" ("any", "no_stream", "exists", or a version), "content_type"
/// and "schema_version". Events of one stream id are stored in the order of their lines; empty lines are passed over.
///
/// A load that stopped half-way is repeated with the --load that it names, and stores what is missing: the ids of events that have
/// none are made from the name of the load and the number of the line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater append order-1 --type OrderCreated --data '{\"order_id\": \"1\"}' --expected no-stream
  headwater append order-1 --type OrderApproved --data @approved.json --expected 1
  headwater append < events.jsonl
  headwater append --load 2026-01-import < events.jsonl")]
pub(crate) struct Arguments {
    /// The stream id to append to, for example order-1.
    #[arg(value_parser = start::stream_id, requires_all = ["event_type", "data"])]
    stream_id: Option<StreamId>,

    /// What happened, for example OrderCreated.
    #[arg(long = "type", value_name = "TYPE", value_parser = start::event_type, requires = "stream_id")]
    event_type: Option<EventType>,

    /// The event's data: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", requires = "stream_id")]
    data: Option<Source>,

    /// What the stream id must be like: `any`, `no-stream`, `exists`, or the version of its last event.
    #[arg(long, value_name = "EXPECTED", value_parser = expected, requires = "stream_id")]
    expected: Option<Expected>,

    /// The event's id; storing the same event under the same id again changes nothing. Made when not given.
    #[arg(long, value_name = "UUID", requires = "stream_id")]
    id: Option<Uuid>,

    /// A JSON object about the event: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON|@FILE|-", requires = "stream_id")]
    metadata: Option<Source>,

    /// Media type of the data.
    #[arg(long, value_name = "TYPE", default_value = NewEvent::JSON, requires = "stream_id")]
    content_type: String,

    /// The version of the data's shape. By default the one that the event stream declares for the type, or 1.
    #[arg(long, value_name = "NUMBER", requires = "stream_id")]
    schema_version: Option<u32>,

    /// The name of a load from standard input: repeating it with the same lines stores nothing twice.
    #[arg(long, value_name = "NAME", conflicts_with = "stream_id")]
    load: Option<String>,

    #[command(flatten)]
    server: Server,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Text(String),
    File(PathBuf),
    StandardInput,
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix('@') {
            _ if text == "-" => Self::StandardInput,
            Some(path) => Self::File(path.into()),
            None => Self::Text(text.to_owned()),
        })
    }
}

impl Source {
    fn read(&self) -> Result<Bytes> {
        Ok(match self {
            Self::Text(text) => text.clone().into(),
            Self::File(path) => {
                let read = std::fs::read(path);
                read.map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?.into()
            }
            Self::StandardInput => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes).context("read standard input")?;
                bytes.into()
            }
        })
    }
}

/// As the wire has it, and with the hyphens that arguments have.
fn expected(text: &str) -> Result<Expected, String> {
    headwater_api::expected::from_text(&text.replace('-', "_")).map_err(|error| error.to_string())
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let client = arguments.server.connect()?;
    match (&arguments.stream_id, &arguments.event_type, &arguments.data) {
        (Some(stream_id), Some(event_type), Some(data)) => {
            let append = Append {
                stream_id: stream_id.clone(),
                expected: arguments.expected.unwrap_or(Expected::Any),
                events: vec![NewEvent {
                    id: arguments.id.unwrap_or_else(Uuid::now_v7),
                    event_type: event_type.clone(),
                    schema_version: arguments.schema_version.into(),
                    content_type: arguments.content_type.clone(),
                    data: data.read().context("--data")?,
                    metadata: match &arguments.metadata {
                        Some(metadata) => Metadata::new(metadata.read().context("--metadata")?)?,
                        None => Metadata::empty(),
                    },
                }],
            };
            append_one(&client, &append, console).await.with_context(|| format!("append to \"{stream_id}\""))
        }
        _ if std::io::stdin().is_terminal() => Err(Failure::invalid(
            "append: there is no STREAM_ID, and no lines on standard input",
        )
        .hint("headwater append order-1 --type OrderCreated --data '{}', or headwater append < events.jsonl")
        .into()),
        _ => load::run(client, arguments.load, console).await,
    }
}

async fn append_one(client: &Client, append: &Append, console: &Console) -> Result<()> {
    append.check(&headwater_core::AppendLimits::default())?;
    let appended = client.append(append).await?;
    if console.is_json() {
        console.json(&json!({
            "stream_id": append.stream_id.as_str(),
            "id": append.events[0].id,
            "version": appended.version.get(),
            "partition": appended.partition.get(),
            "position": appended.position.to_string(),
            "token": appended.token(),
        }))?;
    } else {
        let headings = ["stream id", "version", "position", "token"];
        let place = format!("{}/{}", appended.partition, appended.position);
        let row =
            [append.stream_id.to_string(), appended.version.to_string(), place, appended.token().to_string()];
        console.table(&headings, [row])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use headwater_core::Version;

    use super::*;

    #[test]
    fn expectations_are_words_or_versions() {
        assert_eq!(expected("any"), Ok(Expected::Any));
        assert_eq!(expected("no-stream"), Ok(Expected::NoStream));
        assert_eq!(expected("no_stream"), Ok(Expected::NoStream));
        assert_eq!(expected("exists"), Ok(Expected::Exists));
        assert_eq!(expected("3"), Ok(Expected::Version(Version::new(3))));
        assert!(expected("-1").is_err());
        assert!(expected("new").unwrap_err().contains("give any, no_stream, exists, or a version"));
    }

    #[test]
    fn data_comes_from_the_argument_a_file_or_standard_input() {
        assert_eq!("{}".parse(), Ok(Source::Text("{}".to_owned())));
        assert_eq!("@a.json".parse(), Ok(Source::File("a.json".into())));
        assert_eq!("-".parse(), Ok(Source::StandardInput));
    }
}
