//! The functions: their names, what they take, what they give.

use crate::types::Type;

pub(crate) mod number;
mod run;
mod text;
mod time;

pub(crate) use run::{call, pattern, with_article};

/// A function that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    // Conversions.
    Bool,
    Dyn,
    Number,
    Int,
    Uint,
    Text,
    Timestamp,
    Duration,
    TypeOf,
    // Numbers.
    Abs,
    Ceil,
    Floor,
    Round,
    Max,
    Min,
    // Text.
    CharAt,
    Contains,
    EndsWith,
    IndexOf,
    Join,
    LastIndexOf,
    LowerAscii,
    Matches,
    Replace,
    Reverse,
    Split,
    StartsWith,
    Substring,
    Trim,
    UpperAscii,
    // Collections.
    IsSorted,
    Size,
    Sum,
    // Time.
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    FullYear,
    Hours,
    Milliseconds,
    Minutes,
    Month,
    Seconds,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// `f(a, b)`
    Global,
    /// `a.f(b)`
    Method,
    /// Both.
    Either,
}

/// What a parameter takes: one or more of these.
mod takes {
    pub(super) const BOOL: u16 = 1;
    pub(super) const NUMBER: u16 = 2;
    pub(super) const TEXT: u16 = 4;
    pub(super) const TIMESTAMP: u16 = 8;
    pub(super) const DURATION: u16 = 16;
    pub(super) const LIST: u16 = 32;
    pub(super) const MAP: u16 = 64;
    pub(super) const ANY: u16 = u16::MAX;
}
use takes::{ANY, BOOL, DURATION, LIST, MAP, NUMBER, TEXT, TIMESTAMP};

/// A way to call a function.
#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) function: Function,
    pub(crate) name: &'static str,
    style: Style,
    /// The target of a method is the first.
    parameters: &'static [u16],
    /// How many of the parameters must be there.
    required: usize,
    /// Whether the last parameter may be repeated.
    variadic: bool,
    result: fn(&[Type]) -> Type,
    /// How it is written, for messages.
    pub(crate) usage: &'static str,
}

/// One row of the table.
const fn row(
    function: Function,
    name: &'static str,
    style: Style,
    parameters: &'static [u16],
    required: usize,
    result: fn(&[Type]) -> Type,
    usage: &'static str,
) -> Signature {
    Signature { function, name, style, parameters, required, variadic: false, result, usage }
}

fn bool(_: &[Type]) -> Type {
    Type::Bool
}
fn number(_: &[Type]) -> Type {
    Type::Number
}
fn text(_: &[Type]) -> Type {
    Type::Text
}
fn timestamp(_: &[Type]) -> Type {
    Type::Timestamp
}
fn duration(_: &[Type]) -> Type {
    Type::Duration
}
fn any(_: &[Type]) -> Type {
    Type::Any
}
fn texts(_: &[Type]) -> Type {
    Type::list(Type::Text)
}
/// Of `min` and `max`: the element of a list, or what all arguments are.
fn element(arguments: &[Type]) -> Type {
    match arguments {
        [list] => match list.non_null() {
            Type::List(element) => (**element).clone(),
            other => other.clone(),
        },
        several => several.iter().cloned().reduce(|known, next| known.join(&next)).unwrap_or(Type::Any),
    }
}

#[rustfmt::skip]
static TABLE: &[Signature] = {
    use Function as F;
    use Style::{Either, Global, Method};
    const TIME_OR_LENGTH: u16 = TIMESTAMP | DURATION;
    const SIZED: u16 = TEXT | LIST | MAP;
    &[
        row(F::Bool, "bool", Global, &[BOOL | TEXT], 1, bool, "bool(text)"),
        row(F::Dyn, "dyn", Global, &[ANY], 1, any, "dyn(value)"),
        row(F::Number, "decimal", Global, &[NUMBER | TEXT], 1, number, "decimal(text)"),
        row(F::Number, "double", Global, &[NUMBER | TEXT], 1, number, "double(text)"),
        row(F::Int, "int", Global, &[NUMBER | TEXT | TIMESTAMP], 1, number, "int(number, text or timestamp)"),
        row(F::Uint, "uint", Global, &[NUMBER | TEXT], 1, number, "uint(number or text)"),
        row(F::Text, "string", Global, &[BOOL | NUMBER | TEXT | TIMESTAMP | DURATION], 1, text, "string(value)"),
        row(F::Timestamp, "timestamp", Global, &[TEXT | NUMBER | TIMESTAMP], 1, timestamp, "timestamp('2026-01-31T12:00:00Z')"),
        row(F::Duration, "duration", Global, &[TEXT | DURATION], 1, duration, "duration('1h30m')"),
        row(F::TypeOf, "type", Global, &[ANY], 1, text, "type(value)"),

        row(F::Abs, "abs", Global, &[NUMBER], 1, number, "abs(number)"),
        row(F::Ceil, "ceil", Global, &[NUMBER], 1, number, "ceil(number)"),
        row(F::Floor, "floor", Global, &[NUMBER], 1, number, "floor(number)"),
        row(F::Round, "round", Global, &[NUMBER, NUMBER], 1, number, "round(number) or round(number, digits after the point)"),
        Signature { variadic: true, ..row(F::Max, "max", Either, &[ANY], 1, element, "max(a, b, …) or list.max()") },
        Signature { variadic: true, ..row(F::Min, "min", Either, &[ANY], 1, element, "min(a, b, …) or list.min()") },

        row(F::CharAt, "charAt", Method, &[TEXT, NUMBER], 2, text, "text.charAt(index)"),
        row(F::Contains, "contains", Either, &[TEXT, TEXT], 2, bool, "text.contains(part)"),
        row(F::EndsWith, "endsWith", Either, &[TEXT, TEXT], 2, bool, "text.endsWith(part)"),
        row(F::IndexOf, "indexOf", Method, &[TEXT | LIST, ANY, NUMBER], 2, number, "text.indexOf(part), text.indexOf(part, from) or list.indexOf(value)"),
        row(F::Join, "join", Method, &[LIST, TEXT], 1, text, "list.join() or list.join(separator)"),
        row(F::LastIndexOf, "lastIndexOf", Method, &[TEXT | LIST, ANY], 2, number, "text.lastIndexOf(part) or list.lastIndexOf(value)"),
        row(F::LowerAscii, "lowerAscii", Method, &[TEXT], 1, text, "text.lowerAscii()"),
        row(F::Matches, "matches", Either, &[TEXT, TEXT], 2, bool, "text.matches(pattern)"),
        row(F::Replace, "replace", Method, &[TEXT, TEXT, TEXT, NUMBER], 3, text, "text.replace(part, by) or text.replace(part, by, times)"),
        row(F::Reverse, "reverse", Method, &[TEXT], 1, text, "text.reverse()"),
        row(F::Split, "split", Method, &[TEXT, TEXT, NUMBER], 2, texts, "text.split(separator) or text.split(separator, parts)"),
        row(F::StartsWith, "startsWith", Either, &[TEXT, TEXT], 2, bool, "text.startsWith(part)"),
        row(F::Substring, "substring", Method, &[TEXT, NUMBER, NUMBER], 2, text, "text.substring(from) or text.substring(from, to)"),
        row(F::Trim, "trim", Method, &[TEXT], 1, text, "text.trim()"),
        row(F::UpperAscii, "upperAscii", Method, &[TEXT], 1, text, "text.upperAscii()"),

        row(F::IsSorted, "isSorted", Method, &[LIST], 1, bool, "list.isSorted()"),
        row(F::Size, "size", Either, &[SIZED], 1, number, "size(text, list or map)"),
        row(F::Sum, "sum", Method, &[LIST], 1, element, "list.sum()"),

        row(F::Date, "getDate", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getDate() or timestamp.getDate('+02:00')"),
        row(F::DayOfMonth, "getDayOfMonth", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getDayOfMonth()"),
        row(F::DayOfWeek, "getDayOfWeek", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getDayOfWeek()"),
        row(F::DayOfYear, "getDayOfYear", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getDayOfYear()"),
        row(F::FullYear, "getFullYear", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getFullYear()"),
        row(F::Hours, "getHours", Method, &[TIME_OR_LENGTH, TEXT], 1, number, "timestamp.getHours() or duration.getHours()"),
        row(F::Milliseconds, "getMilliseconds", Method, &[TIME_OR_LENGTH, TEXT], 1, number, "timestamp.getMilliseconds()"),
        row(F::Minutes, "getMinutes", Method, &[TIME_OR_LENGTH, TEXT], 1, number, "timestamp.getMinutes()"),
        row(F::Month, "getMonth", Method, &[TIMESTAMP, TEXT], 1, number, "timestamp.getMonth()"),
        row(F::Seconds, "getSeconds", Method, &[TIME_OR_LENGTH, TEXT], 1, number, "timestamp.getSeconds()"),
    ]
};

impl Signature {
    /// The function of this name.
    pub(crate) fn of(name: &str) -> Option<&'static Signature> {
        TABLE.iter().find(|signature| signature.name == name)
    }

    /// The names of all functions.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|signature| signature.name)
    }

    /// Whether it is called this way, with this many arguments, the target counted.
    pub(crate) fn takes(&self, method: bool, count: usize) -> bool {
        let style = match self.style {
            Style::Global => !method,
            Style::Method => method,
            Style::Either => true,
        };
        style && count >= self.required && (self.variadic || count <= self.parameters.len())
    }

    /// The first argument that can never be what its parameter takes.
    pub(crate) fn refused(&self, arguments: &[Type]) -> Option<usize> {
        let parameters = self.parameters.iter().chain(std::iter::repeat(&ANY));
        arguments.iter().zip(parameters).position(|(argument, takes)| class(argument) & takes == 0)
    }

    pub(crate) fn result(&self, arguments: &[Type]) -> Type {
        (self.result)(arguments)
    }

    /// What the parameter takes, for messages: `text or list`.
    pub(crate) fn takes_text(&self, parameter: usize) -> String {
        let takes = self.parameters.get(parameter).copied().unwrap_or(ANY);
        let names = [(BOOL, "bool"), (NUMBER, "number"), (TEXT, "text"), (TIMESTAMP, "timestamp")];
        let names = names.into_iter().chain([(DURATION, "duration"), (LIST, "list"), (MAP, "map")]);
        let names: Vec<_> = names.filter(|(class, _)| takes & class != 0).map(|(_, name)| name).collect();
        names.join(" or ")
    }
}

fn class(argument: &Type) -> u16 {
    match argument.non_null() {
        Type::Any | Type::Nullable(_) => ANY,
        Type::Null => 1 << 15,
        Type::Bool => BOOL,
        Type::Number => NUMBER,
        Type::Text => TEXT,
        Type::Timestamp => TIMESTAMP,
        Type::Duration => DURATION,
        Type::List(_) => LIST,
        Type::Map(_) | Type::Object(_) => MAP,
    }
}
