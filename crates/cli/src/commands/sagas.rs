use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use headwater_core::Error;
use headwater_saga::{Definition, mermaid};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::arguments::QueryServer;
use crate::commands::validate;
use crate::console::{Colour, Console, one_line};
use crate::dev::Screen;
use crate::failure::Failure;
use crate::queries::Queries;

/// Show and administer sagas: their instances, what happened to each, and what is to be done about it.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Examples:
  headwater sagas list
  headwater sagas list place-order --state needs-attention
  headwater sagas show place-order order-1
  headwater sagas retry place-order order-1
  headwater sagas skip place-order order-1 --step ship --reason 'shipped by hand'
  headwater sagas abort place-order order-1 --reason 'the customer called'
  headwater sagas not-started place-order
  headwater sagas graph place-order --directory examples/orders"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All sagas and how they stand; or the instances of one.
    #[command(after_help = "\
Examples:
  headwater sagas list
  headwater sagas list place-order
  headwater sagas list place-order --state completed --state compensated --limit 10")]
    List(List),
    /// One instance: what happened to it, and what comes next.
    #[command(after_help = "\
Examples:
  headwater sagas show place-order order-1
  headwater sagas show place-order order-1 --output json | jq .history")]
    Show(Named),
    /// Try now what waits or is stuck: one step, or all that the instance is at.
    #[command(after_help = "\
Examples:
  headwater sagas retry place-order order-1
  headwater sagas retry place-order order-1 --step ship --reason 'the dock is open again'")]
    Retry(OfStep),
    /// Try everything now that waits or is stuck, and take back that a person has to look.
    #[command(after_help = "\
Examples:
  headwater sagas resume place-order order-1")]
    Resume(OfInstance),
    /// Undo everything that was done. Only before the pivot.
    #[command(after_help = "\
Examples:
  headwater sagas abort place-order order-1 --reason 'the customer called'")]
    Abort(OfInstance),
    /// Take a step as done, or as undone, because somebody saw to it.
    #[command(after_help = "\
Examples:
  headwater sagas skip place-order order-1 --step ship --reason 'shipped by hand'")]
    Skip(OfStep),
    /// Events that should have started an instance and could not, and why.
    #[command(after_help = "\
Examples:
  headwater sagas not-started place-order
  headwater sagas not-started place-order --output json | jq .events")]
    NotStarted {
        /// The saga's name.
        saga: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        server: QueryServer,
    },
    /// The definition as a flow chart, in the language of Mermaid.
    #[command(after_help = "\
Examples:
  headwater sagas graph place-order
  headwater sagas graph place-order --directory examples/orders > place-order.mmd")]
    Graph {
        /// The saga's name.
        saga: String,
        /// Of the manifests there, and not of a server.
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
        #[command(flatten)]
        server: QueryServer,
    },
}

impl Arguments {
    /// Which saga, and where it is asked; `None`: it is about all, or about manifests.
    pub(crate) fn saga_mut(&mut self) -> Option<(&str, &mut QueryServer)> {
        Some(match &mut self.command {
            Command::List(List { saga, server, .. }) => (saga.as_deref()?, server),
            Command::Show(named)
            | Command::Retry(OfStep { instance: OfInstance { named, .. }, .. })
            | Command::Resume(OfInstance { named, .. })
            | Command::Abort(OfInstance { named, .. })
            | Command::Skip(OfStep { instance: OfInstance { named, .. }, .. }) => {
                (&named.saga, &mut named.server)
            }
            Command::NotStarted { saga, server, .. } | Command::Graph { saga, server, .. } => (saga, server),
        })
    }
}

#[derive(Debug, Args)]
struct List {
    /// Instances of this saga; those that have not ended, unless --state says otherwise.
    saga: Option<String>,
    /// Only instances in this state; may be repeated.
    #[arg(long = "state", value_enum, value_name = "STATE", requires = "saga")]
    states: Vec<State>,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    server: QueryServer,
}

#[derive(Debug, Args)]
struct Page {
    /// Only after where another list ended, which said so.
    #[arg(long, value_name = "PLACE", requires = "saga")]
    after: Option<String>,
    /// Entries at most.
    #[arg(long, value_name = "NUMBER", requires = "saga", value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: Option<u64>,
}

impl Page {
    /// Asks for it in `url`.
    fn add_to(&self, url: &mut reqwest::Url) {
        if let Some(limit) = self.limit {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        if let Some(after) = &self.after {
            url.query_pairs_mut().append_pair("after", after);
        }
    }
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    /// It goes forward.
    Running,
    /// It is being undone.
    Compensating,
    /// A person has to look.
    NeedsAttention,
    /// All steps are done.
    Completed,
    /// All that was done has been undone.
    Compensated,
}

impl State {
    const fn as_str(self) -> &'static str {
        use headwater_saga::State as Known;
        match self {
            Self::Running => Known::Running,
            Self::Compensating => Known::Compensating,
            Self::NeedsAttention => Known::NeedsAttention,
            Self::Completed => Known::Completed,
            Self::Compensated => Known::Compensated,
        }
        .as_str()
    }
}

#[derive(Debug, Args)]
struct Named {
    /// The saga's name.
    saga: String,
    /// The instance's name.
    instance: String,
    #[command(flatten)]
    server: QueryServer,
}

#[derive(Debug, Args)]
struct OfInstance {
    #[command(flatten)]
    named: Named,
    /// Why, for the instance's history.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct OfStep {
    #[command(flatten)]
    instance: OfInstance,
    /// Which step, where the instance is at several.
    #[arg(long, value_name = "STEP")]
    step: Option<String>,
}

/// What the API says of a saga; what is not named here is shown as JSON only.
#[derive(Debug, Deserialize)]
struct Status {
    name: String,
    running: u64,
    compensating: u64,
    needs_attention: u64,
    /// Not said by servers of before.
    completed: Option<u64>,
    compensated: Option<u64>,
    oldest_running_seconds: Option<u64>,
    message: Option<String>,
    coordinates: bool,
    coordinated_by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    instance: String,
    state: String,
    at: Vec<String>,
    reason: Option<String>,
    started_at: String,
    changed_at: String,
}

#[derive(Debug, Deserialize)]
struct Instance {
    #[serde(flatten)]
    summary: Summary,
    saga: String,
    definition: String,
    event: Cause,
    history: Vec<Line>,
    next: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Cause {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    stream_id: String,
    time: String,
}

#[derive(Debug, Deserialize)]
struct NotStarted {
    event: Cause,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Line {
    time: String,
    what: String,
    step: Option<String>,
    direction: Option<String>,
    text: String,
    key: Option<String>,
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    match arguments.command {
        Command::List(list) => {
            let queries = list.server.connect()?;
            match &list.saga {
                None => sagas(&queries, console).await,
                Some(saga) => instances(&queries, saga, &list, console).await,
            }
        }
        Command::Show(named) => {
            let queries = named.server.connect()?;
            print(queries.get_json(named.url(&queries, None)?).await?, console)
        }
        Command::Retry(it) => command("retry", &it.instance, it.step.as_deref(), console).await,
        Command::Resume(it) => command("resume", &it, None, console).await,
        Command::Abort(it) => command("abort", &it, None, console).await,
        Command::Skip(it) => command("skip", &it.instance, it.step.as_deref(), console).await,
        Command::NotStarted { saga, page, server } => {
            not_started(&server.connect()?, &saga, &page, console).await
        }
        Command::Graph { saga, directory: Some(directory), .. } => {
            draw(&saga, &offline(&saga, &directory, console)?, console)
        }
        Command::Graph { saga, directory: None, server } => {
            let queries = server.connect()?;
            let chart = queries.get_text(queries.url(["v1", "sagas", &saga, "graph"])?).await?;
            draw(&saga, &chart, console)
        }
    }
}

impl Named {
    fn url(&self, queries: &Queries, command: Option<&str>) -> Result<reqwest::Url> {
        queries.url(["v1", "sagas", &self.saga, "instances", &self.instance].into_iter().chain(command))
    }
}

fn count(number: Option<u64>) -> String {
    number.map(|it| it.to_string()).unwrap_or_default()
}

fn age(seconds: u64) -> String {
    format!("{:#}", SignedDuration::from_secs(seconds.cast_signed()))
}

async fn sagas(queries: &Queries, console: &Console) -> Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        sagas: Vec<Value>,
    }
    let answer: Answer = queries.get_json(queries.url(["v1", "sagas"])?).await?;
    if console.is_json() {
        return answer.sagas.iter().try_for_each(|status| Ok(console.json(status)?));
    }
    let mut rows = Vec::new();
    for status in answer.sagas {
        let status: Status = serde_json::from_value(status).context("the status of a saga")?;
        rows.push([
            status.name,
            status.running.to_string(),
            status.compensating.to_string(),
            status.needs_attention.to_string(),
            count(status.completed),
            count(status.compensated),
            status.oldest_running_seconds.map(age).unwrap_or_default(),
            match (status.coordinates, status.coordinated_by) {
                (true, _) => "this process".to_owned(),
                (false, Some(other)) => other,
                (false, None) => "nobody".to_owned(),
            },
            status.message.unwrap_or_default(),
        ]);
    }
    let columns = [
        "name",
        "running",
        "compensating",
        "needs attention",
        "completed",
        "compensated",
        "oldest",
        "coordinated by",
        "message",
    ];
    Ok(console.table(&columns, rows)?)
}

async fn instances(queries: &Queries, saga: &str, list: &List, console: &Console) -> Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        instances: Vec<Summary>,
        next: Option<String>,
    }
    let mut url = queries.url(["v1", "sagas", saga, "instances"])?;
    for state in &list.states {
        url.query_pairs_mut().append_pair("state", state.as_str());
    }
    list.page.add_to(&mut url);
    let answer: Value = queries.get_json(url).await?;
    if console.is_json() {
        return Ok(console.json(&answer)?);
    }
    let answer: Answer = serde_json::from_value(answer).context("the instances")?;
    if answer.instances.is_empty() && answer.next.is_none() {
        return Ok(console.line("there is no such instance")?);
    }
    let rows = answer.instances.into_iter().map(|it| {
        [it.instance, it.state, it.at.join(", "), it.started_at, it.changed_at, it.reason.unwrap_or_default()]
    });
    console.table(&["instance", "state", "at", "started at", "changed at", "reason"], rows)?;
    say_more(answer.next.as_deref());
    Ok(())
}

async fn not_started(queries: &Queries, saga: &str, page: &Page, console: &Console) -> Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        events: Vec<NotStarted>,
        next: Option<String>,
    }
    let mut url = queries.url(["v1", "sagas", saga, "not-started"])?;
    page.add_to(&mut url);
    let answer: Value = queries.get_json(url).await?;
    if console.is_json() {
        return Ok(console.json(&answer)?);
    }
    let answer: Answer = serde_json::from_value(answer).context("the events")?;
    if answer.events.is_empty() {
        return Ok(console.line("every event that should start an instance did")?);
    }
    let rows = answer
        .events
        .into_iter()
        .map(|it| [it.event.time, it.event.event_type, it.event.stream_id, it.event.id, it.reason]);
    console.table(&["time", "type", "stream id", "event", "reason"], rows)?;
    say_more(answer.next.as_deref());
    Ok(())
}

fn say_more(next: Option<&str>) {
    if let Some(next) = next {
        eprintln!("there may be more: --after {next}");
    }
}

async fn command(command: &str, of: &OfInstance, step: Option<&str>, console: &Console) -> Result<()> {
    let queries = of.named.server.connect()?;
    let said: Map<String, Value> = [("step", step), ("reason", of.reason.as_deref())]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    let instance =
        queries.post_json(of.named.url(&queries, Some(command))?, &said).await.with_context(|| {
            format!("{command} instance \"{}\" of saga \"{}\"", of.named.instance, of.named.saga)
        })?;
    print(instance, console)
}

fn print(instance: Value, console: &Console) -> Result<()> {
    if console.is_json() {
        return Ok(console.json(&instance)?);
    }
    let instance: Instance = serde_json::from_value(instance).context("the instance")?;
    Ok(console.line(&timeline(instance, console))?)
}

/// What happened, in order, and what comes next.
fn timeline(instance: Instance, console: &Console) -> String {
    let Instance { summary, saga, definition, event, history, next } = instance;
    let facts = [
        ("instance", Some(summary.instance)),
        ("saga", Some(saga)),
        ("state", Some(summary.state)),
        ("reason", summary.reason),
        ("started by", Some(format!("{} {} of \"{}\"", event.event_type, event.id, event.stream_id))),
        ("started at", Some(summary.started_at)),
        ("definition", Some(definition)),
    ];
    let mut lines: Vec<String> = facts
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name:<12}{}", one_line(&value?))))
        .collect();
    let rows = history.into_iter().map(|line| {
        let step = match (line.step, line.direction.as_deref()) {
            (Some(step), Some("undo")) => format!("{step} (undo)"),
            (step, _) => step.unwrap_or_default(),
        };
        [line.time, line.what, step, line.text, line.key.unwrap_or_default()]
    });
    lines.push(String::new());
    lines.push(console.aligned(&["time", "what", "step", "text", "key"], rows));
    if !next.is_empty() {
        lines.push(String::new());
        lines.push(console.paint(Colour::Bold, "NEXT"));
        lines.extend(next.iter().map(|next| one_line(next)));
    }
    lines.join("\n")
}

/// The chart of a saga whose manifest is in `directory`.
fn offline(saga: &str, directory: &Path, console: &Console) -> Result<String> {
    let screen = Screen::new(console, []);
    let manifests = validate::load(&[directory.to_owned()], &screen)?.manifests;
    let known = |name: Option<&str>, wanted: &str| name == Some(wanted);
    let found = manifests.sagas.iter().find(|it| known(it.metadata.name.as_deref(), saga));
    let Some(found) = found else {
        let names: Vec<String> = manifests
            .sagas
            .iter()
            .filter_map(|it| Some(format!("\"{}\"", it.metadata.name.as_deref()?)))
            .collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let message = format!("{} has no saga \"{saga}\"; there is {names}", directory.display());
        return Err(Error::not_found(message).into());
    };
    let stream = &found.spec.stream_ref.name;
    let declared = manifests.event_streams.iter().find(|it| {
        known(it.metadata.name.as_deref(), stream) && it.metadata.namespace == found.metadata.namespace
    });
    let declared = declared.ok_or_else(|| {
        let message = format!("saga \"{saga}\" is over EventStream \"{stream}\", which is not there");
        Failure::invalid(message).hint("give a directory that has both")
    })?;
    Ok(mermaid(&Definition::new(&found.spec, &declared.spec), saga))
}

fn draw(saga: &str, chart: &str, console: &Console) -> Result<()> {
    if console.is_json() {
        return Ok(console.json(&json!({ "saga": saga, "mermaid": chart }))?);
    }
    Ok(console.line(chart.trim_end())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Format;

    #[test]
    fn a_timeline_says_what_happened_and_what_comes_next() {
        let instance = json!({
            "instance": "order-1", "state": "compensating", "at": ["reserve (undo)"], "reason": "no\nmoney",
            "started_at": "2026-01-01T00:00:00Z", "changed_at": "2026-01-01T00:00:02Z", "definition": "v1:00",
            "saga": "place-order",
            "event": {"id": "6c26", "type": "OrderCreated", "stream_id": "order-1", "partition": 0, "position": 1, "time": "2026-01-01T00:00:00Z"},
            "history": [
                {"time": "2026-01-01T00:00:00Z", "what": "Started", "text": "OrderCreated 6c26"},
                {"time": "2026-01-01T00:00:02Z", "what": "StepBegun", "step": "reserve", "direction": "undo", "text": "DELETE http://stock", "key": "a/b"},
            ],
            "next": ["undo reserve: sent, or about to be"],
        });
        let console = Console::new(Format::Table, false, false);
        assert_eq!(
            timeline(serde_json::from_value(instance).unwrap(), &console),
            "\
instance    order-1
saga        place-order
state       compensating
reason      no␣money
started by  OrderCreated 6c26 of \"order-1\"
started at  2026-01-01T00:00:00Z
definition  v1:00

TIME                   WHAT        STEP             TEXT                  KEY
2026-01-01T00:00:00Z   Started                      OrderCreated 6c26
2026-01-01T00:00:02Z   StepBegun   reserve (undo)   DELETE http://stock   a/b

NEXT
undo reserve: sent, or about to be"
        );
    }

    #[test]
    fn states_are_called_as_the_server_calls_them() {
        for state in State::value_variants() {
            let value = state.to_possible_value().unwrap();
            assert_eq!(value.get_name(), state.as_str());
        }
        assert_eq!(State::value_variants().len(), headwater_saga::State::ALL.len());
    }
}
