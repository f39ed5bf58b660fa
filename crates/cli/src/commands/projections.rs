use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args, Subcommand};
use headwater_core::StreamId;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arguments::QueryServer;
use crate::console::{self, Console};
use crate::failure::Failure;
use crate::queries::Queries;
use crate::start;

/// How often a build that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Show and administer projections: their revisions, and events that are parked.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Examples:
  headwater projections list
  headwater projections show orders
  headwater projections rebuild orders --wait
  headwater projections parked orders
  headwater projections replay orders order-1
  headwater projections skip orders --event 6c26ee4b-9a4c-4a58-a1f5-3a8b6f1ac7e2"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All projections: what serves, how far it is, what is being built.
    List {
        #[command(flatten)]
        server: QueryServer,
    },
    #[command(flatten)]
    OfOne(OfOne),
}

/// What is asked or decided of one projection.
#[derive(Debug, Subcommand)]
pub(crate) enum OfOne {
    /// One projection: its revisions, partition by partition, and what stands in the way.
    Show(Named),
    /// Build what the manifest says once more, beside what serves.
    Rebuild {
        #[command(flatten)]
        named: Named,
        /// Wait until the new revision serves, and show how far it is.
        #[arg(long)]
        wait: bool,
    },
    /// Have the revision that was built serve.
    Promote(Named),
    /// Have the previous revision serve again.
    Rollback(Named),
    /// Have the worker that is asked stop folding, until it is resumed or started again; others take over what it folded, and queries go on.
    Pause(Named),
    /// Fold events again.
    Resume(Named),
    /// Events that are set aside, by stream id, and why.
    Parked {
        #[command(flatten)]
        named: Named,
        /// Those of this revision. Default: the one that serves, or else the one that is built.
        #[arg(long, value_name = "NUMBER")]
        revision: Option<u32>,
        /// Only after this stream id.
        #[arg(long, value_name = "STREAM_ID", value_parser = start::stream_id)]
        after: Option<StreamId>,
        /// Stream ids at most.
        #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Fold parked events again, after what stood in the way is gone.
    #[command(override_usage = "headwater projections replay [OPTIONS] <PROJECTION> <STREAM_ID|--all>")]
    #[command(group(ArgGroup::new("what").required(true).args(["stream_id", "all"])))]
    Replay {
        #[command(flatten)]
        named: Named,
        /// Those of this stream id.
        #[arg(value_parser = start::stream_id)]
        stream_id: Option<StreamId>,
        /// Those of all stream ids.
        #[arg(long)]
        all: bool,
    },
    /// Leave events out for good, in later revisions too.
    #[command(
        override_usage = "headwater projections skip [OPTIONS] <PROJECTION> <STREAM_ID [--all]|--event <UUID>>"
    )]
    #[command(group(ArgGroup::new("what").required(true).args(["stream_id", "event"])))]
    Skip {
        #[command(flatten)]
        named: Named,
        /// The first parked event of this stream id.
        #[arg(value_parser = start::stream_id)]
        stream_id: Option<StreamId>,
        /// All parked events of the stream id.
        #[arg(long, requires = "stream_id")]
        all: bool,
        /// This event, which is parked or halts a partition.
        #[arg(long, value_name = "UUID")]
        event: Option<Uuid>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The projection's name.
    pub(crate) projection: String,

    #[command(flatten)]
    pub(crate) server: QueryServer,
}

impl OfOne {
    /// Which projection, and where it is asked.
    pub(crate) fn named_mut(&mut self) -> &mut Named {
        match self {
            Self::Show(named)
            | Self::Rebuild { named, .. }
            | Self::Promote(named)
            | Self::Rollback(named)
            | Self::Pause(named)
            | Self::Resume(named)
            | Self::Parked { named, .. }
            | Self::Replay { named, .. }
            | Self::Skip { named, .. } => named,
        }
    }
}

/// What the administration API says of a projection; what is not named here is shown as JSON only.
#[derive(Debug, Deserialize)]
struct Status {
    name: String,
    state: String,
    active: Option<Revision>,
    candidate: Option<Revision>,
    previous: Option<Revision>,
    rollout: String,
    message: Option<String>,
    lag: Option<Lag>,
    parked: u64,
}

#[derive(Debug, Deserialize)]
struct Revision {
    #[serde(rename = "revision")]
    number: String,
    created_at: String,
    percent: Option<u8>,
    lag: Option<Lag>,
    parked: u64,
    skipped: u64,
    partitions: Vec<PartitionStatus>,
}

impl Revision {
    /// A partition that a failing rule has halted.
    fn halted(&self) -> Option<&PartitionStatus> {
        self.partitions.iter().find(|partition| partition.state == "Halted")
    }
}

#[derive(Debug, Deserialize)]
struct Lag {
    events: String,
}

#[derive(Debug, Deserialize)]
struct PartitionStatus {
    partition: u16,
    position: String,
    head: Option<String>,
    state: String,
    worker: Option<String>,
    parked: u64,
    message: Option<String>,
    failure: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Parked {
    streams: Vec<ParkedStream>,
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ParkedStream {
    stream_id: String,
    partition: u16,
    reason: String,
    since: String,
    count: u64,
    events: Vec<ParkedEvent>,
}

#[derive(Debug, Deserialize)]
struct ParkedEvent {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    position: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Release {
    revision: String,
    stream_id: String,
    folded: u64,
    skipped: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Value>,
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    match arguments.command {
        Command::List { server } => list(&server.connect()?, console).await,
        Command::OfOne(command) => run_one(command, console).await,
    }
}

pub(crate) async fn run_one(command: OfOne, console: &Console) -> Result<()> {
    match command {
        OfOne::Show(named) => Admin::of(&named, console)?.show().await,
        OfOne::Rebuild { named, wait } => {
            let admin = Admin::of(&named, console)?;
            if !wait {
                return admin.command("rebuild").await;
            }
            let before = admin.status().await?;
            admin.post("rebuild").await?;
            admin.wait(before).await
        }
        OfOne::Promote(named) => Admin::of(&named, console)?.command("promote").await,
        OfOne::Rollback(named) => Admin::of(&named, console)?.command("rollback").await,
        OfOne::Pause(named) => Admin::of(&named, console)?.command("pause").await,
        OfOne::Resume(named) => Admin::of(&named, console)?.command("resume").await,
        OfOne::Parked { named, revision, after, limit } => {
            Admin::of(&named, console)?.parked(revision, after.as_ref(), limit).await
        }
        OfOne::Replay { named, stream_id, all } => {
            let what = match stream_id {
                Some(stream_id) => json!({"stream_id": stream_id.as_str()}),
                None => json!({"all": all}),
            };
            let released = Admin::of(&named, console)?.release("replay", &what).await?;
            all_folded(&released)
        }
        OfOne::Skip { named, stream_id, all, event } => {
            let what = match (stream_id, event) {
                (Some(stream_id), _) => json!({"stream_id": stream_id.as_str(), "all": all}),
                (None, event) => json!({"event_id": event}),
            };
            Admin::of(&named, console)?.release("skip", &what).await.map(drop)
        }
    }
}

async fn list(queries: &Queries, console: &Console) -> Result<()> {
    #[derive(Deserialize)]
    struct List {
        projections: Vec<Value>,
    }
    let list: List = queries.get_json(queries.url(["v1", "admin", "projections"])?).await?;
    if console.is_json() {
        return list.projections.iter().try_for_each(|status| Ok(console.json(status)?));
    }
    let mut rows = Vec::new();
    for status in list.projections {
        let status: Status = serde_json::from_value(status).context("the status of a projection")?;
        let halted = status.active.as_ref().and_then(Revision::halted).is_some();
        rows.push([
            status.name,
            if halted { "Halted".to_owned() } else { status.state },
            status.active.map_or_else(|| "-".to_owned(), |active| active.number),
            lag_text(status.lag.as_ref()),
            status.rollout,
            status.parked.to_string(),
        ]);
    }
    Ok(console.table(&["name", "state", "revision", "lag", "rollout", "parked"], rows)?)
}

/// One projection's administration.
struct Admin<'a> {
    queries: Queries,
    projection: &'a str,
    console: &'a Console,
}

impl<'a> Admin<'a> {
    fn of(named: &'a Named, console: &'a Console) -> Result<Self> {
        Ok(Self { queries: named.server.connect()?, projection: &named.projection, console })
    }

    fn url(&self, rest: Option<&str>) -> Result<reqwest::Url> {
        self.queries.url(["v1", "admin", "projections", self.projection].into_iter().chain(rest))
    }

    async fn status(&self) -> Result<Status> {
        let status: Value = self.queries.get_json(self.url(None)?).await?;
        serde_json::from_value(status).context("the status of the projection")
    }

    async fn show(&self) -> Result<()> {
        let status: Value = self.queries.get_json(self.url(None)?).await?;
        self.print(status)
    }

    async fn command(&self, command: &str) -> Result<()> {
        let status = self.post(command).await?;
        self.print(status)
    }

    /// The status after `command`.
    async fn post(&self, command: &str) -> Result<Value> {
        self.queries
            .post_json(self.url(Some(command))?, &json!({}))
            .await
            .with_context(|| format!("{command} projection \"{}\"", self.projection))
    }

    fn print(&self, status: Value) -> Result<()> {
        if self.console.is_json() {
            return Ok(self.console.json(&status)?);
        }
        let status: Status = serde_json::from_value(status).context("the status of the projection")?;
        let mut facts = vec![
            ["name".to_owned(), status.name],
            ["state".to_owned(), status.state],
            ["rollout".to_owned(), status.rollout],
            ["lag".to_owned(), lag_text(status.lag.as_ref())],
        ];
        facts.extend(status.message.map(|message| ["message".to_owned(), message]));
        for [name, value] in facts {
            self.console.line(&format!("{name:<9}{value}"))?;
        }
        let (mut revisions, mut partitions) = (Vec::new(), Vec::new());
        let roles =
            [("active", status.active), ("candidate", status.candidate), ("previous", status.previous)];
        for (role, revision) in roles.into_iter().filter_map(|(role, revision)| Some((role, revision?))) {
            for partition in &revision.partitions {
                partitions.push(partition.row(&revision.number));
            }
            revisions.push([
                revision.number,
                role.to_owned(),
                revision.percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
                lag_text(revision.lag.as_ref()),
                revision.parked.to_string(),
                revision.skipped.to_string(),
                revision.created_at,
            ]);
        }
        self.console.line("")?;
        let headings = ["revision", "role", "built", "lag", "parked", "skipped", "created at"];
        self.console.table(&headings, revisions)?;
        self.console.line("")?;
        let headings = ["revision", "partition", "position", "head", "state", "worker", "parked", "message"];
        Ok(self.console.table(&headings, partitions)?)
    }

    /// Until another revision serves than `before`, or waits for a person.
    async fn wait(&self, before: Status) -> Result<()> {
        let before = before.active.map(|active| active.number);
        let bar = progress();
        loop {
            let status = self.status().await?;
            let serving = status.active.as_ref().map(|active| active.number.clone());
            if serving != before && serving.is_some() {
                bar.finish_and_clear();
                return self.show().await;
            }
            match status.rollout.as_str() {
                "AwaitingPromotion" => {
                    bar.finish_and_clear();
                    eprintln!("built; `headwater projections promote {}` has it serve", self.projection);
                    return self.show().await;
                }
                "Blocked" => {
                    let why = status.message.unwrap_or_else(|| "see `projections show`".to_owned());
                    let message = format!("rebuild projection \"{}\": it is blocked: {why}", self.projection);
                    return Err(Failure::failed(message).into());
                }
                _ => {}
            }
            if let Some(halted) = status.candidate.as_ref().and_then(Revision::halted) {
                let why = halted.failure.as_ref().map_or_else(|| "a rule failed".to_owned(), failure_text);
                let message = format!(
                    "rebuild projection \"{}\": its partition {} has halted: {why}; correct the projection, or skip the event",
                    self.projection, halted.partition
                );
                return Err(Failure::failed(message).into());
            }
            if let Some(percent) = status.candidate.and_then(|candidate| candidate.percent) {
                bar.set_position(u64::from(percent));
            }
            bar.set_message(status.rollout);
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn parked(&self, revision: Option<u32>, after: Option<&StreamId>, limit: u64) -> Result<()> {
        let mut url = self.url(Some("parked"))?;
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(revision) = revision {
            url.query_pairs_mut().append_pair("revision", &revision.to_string());
        }
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after.as_str());
        }
        let parked: Value = self.queries.get_json(url).await?;
        if self.console.is_json() {
            return Ok(self.console.json(&parked)?);
        }
        let parked: Parked = serde_json::from_value(parked).context("the parked events")?;
        if parked.streams.is_empty() {
            return Ok(self.console.line("nothing is parked")?);
        }
        let rows = parked.streams.iter().map(|stream| {
            let first = stream.events.first();
            [
                stream.stream_id.clone(),
                stream.count.to_string(),
                first.map_or_else(String::new, |event| format!("{}/{}", stream.partition, event.position)),
                first.map_or_else(String::new, |event| event.event_type.clone()),
                first.map_or_else(String::new, |event| event.id.clone()),
                stream.since.clone(),
                stream.reason.clone(),
            ]
        });
        let headings = ["stream id", "events", "first at", "type", "event id", "since", "reason"];
        self.console.table(&headings, rows)?;
        if let Some(next) = parked.next {
            eprintln!("there are more: --after {next}");
        }
        Ok(())
    }

    async fn release(&self, command: &str, what: &Value) -> Result<Vec<Release>> {
        #[derive(Deserialize)]
        struct Answer {
            released: Vec<Release>,
        }
        let answer: Answer = self
            .queries
            .post_json(self.url(Some(command))?, what)
            .await
            .with_context(|| format!("{command} parked events of projection \"{}\"", self.projection))?;
        if self.console.is_json() {
            answer.released.iter().try_for_each(|release| self.console.json(release))?;
            return Ok(answer.released);
        }
        if answer.released.is_empty() {
            self.console.line("done")?;
            return Ok(answer.released);
        }
        let rows = answer.released.iter().map(|release| {
            [
                release.stream_id.clone(),
                release.revision.clone(),
                release.folded.to_string(),
                release.skipped.to_string(),
                release.remaining.to_string(),
                release.failure.as_ref().map_or_else(String::new, failure_text),
            ]
        });
        let headings = ["stream id", "revision", "folded", "skipped", "still parked", "why"];
        self.console.table(&headings, rows)?;
        Ok(answer.released)
    }
}

/// Fails when something is parked still.
fn all_folded(released: &[Release]) -> Result<()> {
    // Two revisions may have the same one parked.
    let failed = released.iter().filter(|release| release.failure.is_some());
    let failed = failed.map(|release| &release.stream_id).collect::<BTreeSet<_>>().len() as u64;
    if failed == 0 {
        return Ok(());
    }
    let failed = console::count(failed, "stream id");
    Err(Failure::conflict(format!(
        "{failed} could not be folded: the same fault, or another, stands in the way"
    ))
    .hint("correct the projection or skip what cannot be folded, then replay again")
    .into())
}

impl PartitionStatus {
    fn row(&self, revision: &str) -> [String; 8] {
        let failure = self.failure.as_ref().map(failure_text);
        [
            revision.to_owned(),
            self.partition.to_string(),
            self.position.clone(),
            self.head.clone().unwrap_or_else(|| "-".to_owned()),
            self.state.clone(),
            self.worker.clone().unwrap_or_else(|| "-".to_owned()),
            self.parked.to_string(),
            failure.or_else(|| self.message.clone()).unwrap_or_default(),
        ]
    }
}

/// Why an event could not be folded, and where.
fn failure_text(failure: &Value) -> String {
    let text = |name: &str| failure[name].as_str().unwrap_or_default();
    format!("{}: {} (event {} of {})", text("place"), text("message"), text("event_id"), text("stream_id"))
}

fn lag_text(lag: Option<&Lag>) -> String {
    lag.map_or_else(
        || "-".to_owned(),
        |lag| match lag.events.parse() {
            Ok(events) => console::count(events, "event"),
            Err(_) => lag.events.clone(),
        },
    )
}

/// On standard error, where that is a terminal.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100);
    match ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
