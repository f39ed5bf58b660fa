//! What is wrong with an expression or a template, where, and what to do.

use std::fmt;
use std::ops::Range;

/// One fault of an expression or template, found when it is compiled.
///
/// `Display` gives the message with its column, for a source of one line the column is enough to find the place:
/// `column 7: unknown variable `evnt`; did you mean `event`?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong and what to do about it, in one sentence without the place.
    pub message: String,
    /// The bytes of the source that are meant. Empty at the end of the source when something is missing there.
    pub range: Range<usize>,
    /// The line in the source, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl Fault {
    /// A fault at `range` of `source`. A range outside of the source is cut to it.
    pub(crate) fn new(source: &str, range: Range<usize>, message: impl Into<String>) -> Fault {
        let start = floor_char_boundary(source, range.start);
        let end = floor_char_boundary(source, range.end).max(start);
        let before = &source[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Fault {
            message: message.into(),
            range: start..end,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 1 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "column {}: {}", self.column, self.message)
    }
}

impl std::error::Error for Fault {}

fn floor_char_boundary(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// `; did you mean `x`?` when one of `known` is close to `name`, else the list of them when it is short, else nothing.
pub(crate) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    let best = known
        .iter()
        .map(|candidate| {
            (strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase()), *candidate)
        })
        .min();
    match best {
        Some((distance, candidate)) if distance <= name.chars().count() / 3 => {
            format!("; did you mean `{candidate}`?")
        }
        _ if !known.is_empty() && known.len() <= 12 => {
            known.sort_unstable();
            format!("; there is `{}`", known.join("`, `"))
        }
        _ => String::new(),
    }
}
