use std::io;

use headwater_resources::manifest::Manifests;
use headwater_server::{Change, Event, Notice, Ready, Severity};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::commands::query::{Row, cell};
use crate::console::{self, Colour, Console};
use crate::play::Progress;
use crate::procfile::Said;

/// Names of programs and kinds of lines stand before a line, in a column of at least this width.
const LABEL_WIDTH: usize = 8;

/// Prints what happens.
pub(crate) struct Screen<'a> {
    console: &'a Console,
    /// Of the column before each line.
    width: usize,
    programs: Vec<String>,
}

/// What the command itself adds to the server's notices.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Process { name: &'a str, line: &'a str },
    Exited { name: &'a str, code: Option<i32>, signal: Option<i32> },
    Request { title: &'a str, name: Option<&'a str>, method: &'a str, url: &'a str, status: u16, tries: u32 },
    Expectation { request: &'a str, expected: &'a str, found: Option<&'a str>, held: bool },
    Table { projection: &'a str, table: &'a str, rows: &'a [Row], more: bool },
    Demo { held: u32, failed: u32 },
    Stopped,
}

impl<'a> Screen<'a> {
    /// For the output of `programs` among others.
    pub(crate) fn new<'p>(console: &'a Console, programs: impl IntoIterator<Item = &'p str>) -> Self {
        let programs: Vec<String> = programs.into_iter().map(str::to_owned).collect();
        let longest = programs.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Self { console, width: longest.max(LABEL_WIDTH), programs }
    }

    fn labelled(&self, colour: Colour, label: &str, text: &str) -> io::Result<()> {
        let width = self.width;
        let label = self.console.paint(colour, &format!("{label:<width$}"));
        self.console.line(&format!("{label} │ {}", self.console.fit(text, width + 3)))
    }

    /// Shows `faults`, and gives their number in words; warnings do not count.
    pub(crate) fn faults(&self, faults: &[Notice]) -> io::Result<String> {
        faults.iter().try_for_each(|fault| self.notice(fault))?;
        let stands_in_the_way =
            |fault: &&Notice| matches!(fault, Notice::Fault { severity: Severity::Error, .. });
        Ok(console::count(faults.iter().filter(stands_in_the_way).count() as u64, "fault"))
    }

    /// What stands in the manifests without effect or is probably not what was meant.
    pub(crate) fn remarks(&self, manifests: &Manifests) -> io::Result<()> {
        let ignored = manifests.ignored.iter().map(Notice::from);
        ignored.chain(manifests.warnings().map(Notice::from)).try_for_each(|notice| self.notice(&notice))
    }

    /// Something that the server tells.
    pub(crate) fn notice(&self, notice: &Notice) -> io::Result<()> {
        if self.console.is_json() {
            return self.console.json(notice);
        }
        match notice {
            Notice::Ready(ready) => self.banner(ready),
            Notice::Note { message } => self.labelled(Colour::Dim, "note", &printable(message)),
            Notice::Ignored { file, resource } => self.labelled(
                Colour::Dim,
                "note",
                &format!("{resource} ({file}) is of no kind that runs here: ignored"),
            ),
            Notice::Fault { file, line, severity, message } => {
                let (colour, word) = match severity {
                    Severity::Error => (Colour::Red, "fault"),
                    Severity::Warning => (Colour::Yellow, "warning"),
                };
                let place = line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"));
                self.labelled(colour, word, &format!("{place}: {message}"))
            }
            Notice::Changed { resource, change, message } => {
                let (colour, word) = match change {
                    Change::Added => (Colour::Green, "added"),
                    Change::Changed => (Colour::Green, "changed"),
                    Change::Removed => (Colour::Yellow, "removed"),
                    Change::Refused => (Colour::Red, "refused"),
                };
                self.labelled(colour, word, &format!("{resource}: {message}"))
            }
            Notice::Rollout { projection, revision, message, .. } => self.labelled(
                Colour::Green,
                "rollout",
                &format!("{projection} revision {revision}: {message}"),
            ),
            Notice::Event(event) => self.labelled(Colour::Cyan, "event", &event_text(event)),
            Notice::Step { saga, instance, what, step, text } => {
                let text = format!("{saga} {instance}  {what} {step}  {text}");
                self.labelled(Colour::Bold, "step", &printable(&text))
            }
            Notice::Row { projection, table, change, key, row } => {
                let columns = row.as_ref().map_or_else(String::new, columns);
                let text = format!("{projection}/{table} {key}  {change}  {columns}");
                self.labelled(Colour::Yellow, "row", &printable(&text))
            }
        }
    }

    /// What serves where, and what to do with it.
    fn banner(&self, ready: &Ready) -> io::Result<()> {
        let console = self.console;
        let data = ready.data_dir.display();
        console.line(&format!("ready in {} ms, data in {data}\n", ready.startup_ms))?;
        let streams = ready
            .streams
            .iter()
            .map(|stream| [stream.name.clone(), stream.url.clone(), stream.partitions.to_string()]);
        console.table(&["event stream", "gRPC and HTTP", "partitions"], streams)?;
        console.line("")?;
        if !ready.projections.is_empty() {
            let tables = ready.projections.iter().flat_map(|projection| {
                projection.tables.iter().map(|table| {
                    let url = format!("{}/v1/projections/{}/{table}", ready.query, projection.name);
                    [projection.name.clone(), projection.stream.clone(), table.clone(), url]
                })
            });
            console.table(&["projection", "event stream", "table", "query"], tables)?;
            console.line("")?;
        }
        if !ready.sagas.is_empty() {
            let sagas = ready.sagas.iter().map(|saga| {
                let url = format!("{}/v1/sagas/{}/instances", ready.query, saga.name);
                [saga.name.clone(), saga.stream.clone(), url]
            });
            console.table(&["saga", "event stream", "instances"], sagas)?;
            console.line("")?;
        }
        for (what, command) in suggestions(ready) {
            console.line(&console.paint(Colour::Dim, &format!("# {what}")))?;
            console.line(&command)?;
        }
        console.line("")
    }

    /// Something that a program of the Procfile says.
    pub(crate) fn said(&self, said: &Said) -> io::Result<()> {
        let (name, text) = match said {
            Said::Line { name, line } if self.console.is_json() => {
                return self.console.json(&Line::Process { name, line });
            }
            Said::Ended { name, code, signal } if self.console.is_json() => {
                return self.console.json(&Line::Exited { name, code: *code, signal: *signal });
            }
            Said::Line { name, line } => (name, line.clone()),
            Said::Ended { name, code: Some(0), .. } => (name, self.console.paint(Colour::Dim, "has ended")),
            Said::Ended { name, .. } => {
                (name, self.console.paint(Colour::Red, &format!("has ended: {}", said.fate())))
            }
        };
        let index = self.programs.iter().position(|program| program == name).unwrap_or(0);
        self.labelled(Colour::Nth(index), name, &text)
    }

    /// What the demo has come to.
    pub(crate) fn progress(&self, progress: &Progress<'_>) -> io::Result<()> {
        match *progress {
            Progress::Answered { title, name, method, url, status, tries } => {
                if self.console.is_json() {
                    return self.console.json(&Line::Request { title, name, method, url, status, tries });
                }
                let again = if tries > 1 { format!(" after {tries} tries") } else { String::new() };
                let request = self.console.paint(Colour::Dim, &format!("{method} {url} → {status}{again}"));
                self.labelled(Colour::Bold, "demo", format!("{title}  {request}").trim_start())
            }
            Progress::Expected { request, expected, instead } => {
                if self.console.is_json() {
                    let held = instead.is_none();
                    return self.console.json(&Line::Expectation { request, expected, found: instead, held });
                }
                let (expected, instead) = (printable(expected), instead.map(printable));
                let text = match instead {
                    None => self.console.paint(Colour::Green, &format!("  ✓ {expected}")),
                    Some(found) => {
                        self.console.paint(Colour::Red, &format!("  ✗ {expected}, but found {found}"))
                    }
                };
                self.labelled(Colour::Bold, "", &text)
            }
        }
    }

    /// A read model at the end; `more`: there are more rows than these.
    pub(crate) fn table(&self, projection: &str, table: &str, rows: &[Row], more: bool) -> io::Result<()> {
        if self.console.is_json() {
            return self.console.json(&Line::Table { projection, table, rows, more });
        }
        let name = format!("{projection}/{table}");
        self.console.line(&format!("\n{}", self.console.paint(Colour::Cyan, &name)))?;
        let Some(first) = rows.first() else { return self.console.line("no rows") };
        let headings: Vec<&str> = first.keys().map(String::as_str).collect();
        let cells = rows.iter().map(|row| row.values().map(|value| cell(value)).collect::<Vec<_>>());
        self.console.table(&headings, cells)?;
        if more {
            self.console.line(&format!("and more: headwater query {name}"))?;
        }
        Ok(())
    }

    /// The demo is over.
    pub(crate) fn score(&self, held: u32, failed: u32) -> io::Result<()> {
        if self.console.is_json() {
            return self.console.json(&Line::Demo { held, failed });
        }
        let text = format!("\ndemo: {held} of {} expectations held", held + failed);
        self.console.line(&self.console.paint(if failed == 0 { Colour::Green } else { Colour::Red }, &text))
    }

    /// Everything has ended.
    pub(crate) fn stopped(&self) -> io::Result<()> {
        if self.console.is_json() {
            return self.console.json(&Line::Stopped);
        }
        self.console.line("stopped")
    }
}

/// Commands to copy.
fn suggestions(ready: &Ready) -> Vec<(&'static str, String)> {
    let mut commands = Vec::new();
    if let Some(stream) = ready.streams.first() {
        let url = &stream.url;
        commands.push((
            "store an event, read what is stored",
            format!(
                "curl -s {url}/v1/streams/test-1/events -H 'Content-Type: application/json' -d '{{\"events\": [{{\"type\": \"Tested\", \"data\": {{}}}}]}}'\ncurl -s {url}/v1/events"
            ),
        ));
    }
    if let Some((projection, table)) =
        ready.projections.iter().find_map(|projection| Some((projection, projection.tables.first()?)))
    {
        commands.push((
            "query a read model",
            format!("curl -s {}/v1/projections/{}/{table}", ready.query, projection.name),
        ));
    }
    commands
}

fn event_text(event: &Event) -> String {
    let Event { stream, stream_id, event_type, version, partition, position, data } = event;
    let data = data.as_ref().map_or("", |data| data.get());
    printable(&format!("{stream} {partition}/{position}  {stream_id} {version}  {event_type}  {data}"))
}

/// What came from outside must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn columns(row: &Map<String, Value>) -> String {
    let cells = row.iter().map(|(column, value)| match value {
        Value::Null => format!("{column}=-"),
        Value::String(text) => format!("{column}={text}"),
        other => format!("{column}={other}"),
    });
    cells.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_does_not_steer_the_terminal() {
        let row: Map<String, Value> =
            [("name".to_owned(), Value::from("a\x1b[2Jb\r\n\u{9b}c"))].into_iter().collect();
        assert_eq!(printable(&columns(&row)), "name=a [2Jb   c");
    }
}
