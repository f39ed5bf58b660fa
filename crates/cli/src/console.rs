//! Standard output: tables for people, JSON for programs, colours only on a terminal.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// What standard output is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people: aligned, with colours on a terminal.
    #[default]
    Table,
    /// For programs: one JSON document, or one a line where there are many.
    Json,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    /// It worked.
    Green,
    /// It failed.
    Red,
    /// Look here.
    Yellow,
    /// A name.
    Cyan,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// One of a palette, for things that have to be told apart.
    Nth(usize),
}

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    format: Format,
    terminal: bool,
    colour: bool,
    to_the_end: bool,
}

/// `value` as JSON in one line, also where it holds JSON as somebody else wrote it.
pub(crate) fn json_line(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    // Between the quotes of JSON there is no line break: these stand between its words.
    Ok(if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text })
}

impl Console {
    /// Writes as `format`; `terminal`: standard output is one; `plain`: without colours all the same.
    pub(crate) const fn new(format: Format, terminal: bool, plain: bool) -> Self {
        Self {
            format,
            terminal,
            colour: terminal && !plain && matches!(format, Format::Table),
            to_the_end: false,
        }
    }

    /// For a command whose exit code says how it went: a reader that has gone away (`| head`) does not end it, and what it
    /// prints from then on is lost.
    pub(crate) const fn to_the_end(self) -> Self {
        Self { to_the_end: true, ..self }
    }

    /// Whether a program reads it.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// `text` in `colour`, where colours are shown.
    pub(crate) fn paint(&self, colour: Colour, text: &str) -> String {
        const PALETTE: [u8; 6] = [36, 35, 34, 33, 32, 31];
        if !self.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Green => "32".to_owned(),
            Colour::Red => "31".to_owned(),
            Colour::Yellow => "33".to_owned(),
            Colour::Cyan => "36".to_owned(),
            Colour::Bold => "1".to_owned(),
            Colour::Dim => "2".to_owned(),
            Colour::Nth(index) => PALETTE[index % PALETTE.len()].to_string(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// `text`, cut to what is left of a terminal's line after `used` columns; elsewhere nothing is cut. Painted text is left
    /// as it is.
    pub(crate) fn fit<'t>(&self, text: &'t str, used: usize) -> Cow<'t, str> {
        let Some(width) = self.terminal.then(|| Table::new().width()).flatten() else { return text.into() };
        let room = usize::from(width).saturating_sub(used);
        if room < 20 || text.contains('\x1b') || text.chars().count() <= room {
            return text.into();
        }
        text.chars().take(room - 1).chain(['…']).collect::<String>().into()
    }

    /// Prints a line.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.write(&mut out, text)
    }

    fn write(&self, out: &mut impl Write, text: &str) -> io::Result<()> {
        let mut write = || {
            out.write_all(text.as_bytes())?;
            out.write_all(b"\n")?;
            out.flush()
        };
        match write() {
            Err(error) if self.to_the_end && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }

    /// Prints `value` as one line of JSON.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn json(&self, value: &impl Serialize) -> io::Result<()> {
        self.line(&json_line(value)?)
    }

    /// Prints rows under headings, aligned, without lines between them.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub(crate) fn table<R: IntoIterator<Item = String>>(
        &self,
        headings: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) -> io::Result<()> {
        self.line(&self.aligned(headings, rows))
    }

    /// The text of [`table`](Self::table).
    pub(crate) fn aligned<R: IntoIterator<Item = String>>(
        &self,
        headings: &[&str],
        rows: impl IntoIterator<Item = R>,
    ) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
        for row in rows {
            table.add_row(row.into_iter().map(|cell| one_line(&cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let mut lines = table.lines();
        let head = lines.next().map(|line| self.paint(Colour::Bold, line.trim_end()));
        let rest = lines.map(|line| line.trim_end().to_owned());
        head.into_iter().chain(rest).collect::<Vec<_>>().join("\n")
    }
}

/// A cell stays on its line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '␣' } else { c }).collect()
}

/// `count` things, in words that agree with the number.
pub(crate) fn count(count: u64, thing: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let console = Console::new(Format::Table, false, false);
        let rows = [["order-1", "Approved", "12.50"], ["order-1000", "Pending", "a\nb"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            console.aligned(&["id", "status", "amount"], rows),
            "ID           STATUS     AMOUNT\n\
             order-1      Approved   12.50\n\
             order-1000   Pending    a␣b"
        );
    }

    #[test]
    fn colours_are_for_terminals_only() {
        let painted = |terminal, plain, format| {
            Console::new(format, terminal, plain).paint(Colour::Red, "x").contains('\x1b')
        };
        assert!(painted(true, false, Format::Table));
        assert!(!painted(false, false, Format::Table));
        assert!(!painted(true, true, Format::Table));
        assert!(!painted(true, false, Format::Json));
    }

    #[test]
    fn a_verdict_outlives_its_reader() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let console = Console::new(Format::Table, false, false);
        assert_eq!(console.write(&mut Gone, "x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(console.to_the_end().write(&mut Gone, "x").is_ok());
    }

    #[test]
    fn counts_read_well() {
        for (number, text) in
            [(0, "0 events"), (1, "1 event"), (999, "999 events"), (1_234_567, "1,234,567 events")]
        {
            assert_eq!(count(number, "event"), text);
        }
    }
}
