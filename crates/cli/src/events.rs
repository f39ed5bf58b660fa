//! Events on standard output: a line each, as they come.

use anyhow::Result;
use headwater_api::model::EventBody;
use headwater_core::RecordedEvent;

use crate::console::{Colour, Console, json_line};

/// Prints events. Widths grow with what comes, so that a long read need not be held to line up.
pub(crate) struct Printer<'a> {
    console: &'a Console,
    widths: [usize; 4],
    begun: bool,
}

const HEADINGS: [&str; 4] = ["POSITION", "STREAM ID", "VERSION", "TYPE"];
/// Of a time to the millisecond.
const TIME_WIDTH: usize = 24;

impl<'a> Printer<'a> {
    pub(crate) fn new(console: &'a Console) -> Self {
        Self { console, widths: HEADINGS.map(str::len), begun: false }
    }

    /// Makes room for `events`, which are printed next.
    fn fit(&mut self, events: &[RecordedEvent]) {
        for event in events {
            for (width, cell) in self.widths.iter_mut().zip(cells(event)) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    /// Prints `events`.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn print(&mut self, events: &[RecordedEvent]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::with_capacity(events.len() + 1);
        if self.console.is_json() {
            for event in events {
                lines.push(json_line(&EventBody::new(event)?)?);
            }
        } else {
            self.fit(events);
            if !self.begun {
                self.begun = true;
                let head = self.row(&HEADINGS.map(str::to_owned), "RECORDED AT", "DATA");
                lines.push(self.console.paint(Colour::Bold, &head));
            }
            for event in events {
                let time = format!("{:.3}", event.recorded_at);
                let line = self.row(&cells(event), &time, &data_text(event));
                lines.push(self.console.fit(&line, 0).into_owned());
            }
        }
        // At once: a terminal or a pipe takes one write more easily than a thousand.
        Ok(self.console.line(&lines.join("\n"))?)
    }

    fn row(&self, cells: &[String; 4], time: &str, data: &str) -> String {
        let [place, stream_id, version, event_type] = cells;
        let [a, b, c, d] = self.widths;
        format!(
            "{place:<a$}   {stream_id:<b$}   {version:<c$}   {event_type:<d$}   {time:<TIME_WIDTH$}   {data}"
        )
    }
}

fn cells(event: &RecordedEvent) -> [String; 4] {
    [
        format!("{}/{}", event.partition, event.position),
        event.stream_id.to_string(),
        event.version.to_string(),
        event.event_type.to_string(),
    ]
}

/// The data on one line.
fn data_text(event: &RecordedEvent) -> String {
    if !event.is_json() {
        return format!("{} bytes of {}", event.data.len(), event.content_type);
    }
    String::from_utf8_lossy(&event.data).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
