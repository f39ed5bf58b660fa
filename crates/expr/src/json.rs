//! JSON with exact numbers, in both directions.

use std::borrow::Cow;
use std::fmt::Write;

use hifijson::num::LexWrite;
use hifijson::str::LexAlloc;
use hifijson::token::Lex;
use hifijson::{Error, Expect, SliceLexer};

use crate::decimal;
use crate::value::{Map, Value, fields};

/// As serde_json's: deep enough for data, and safe for a stack of any thread.
const MAX_DEPTH: usize = 128;

/// What is wrong with a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset} of the JSON: {message}")]
pub struct JsonError {
    /// Where, in bytes from the start. 0 when a value was not read from text.
    pub offset: usize,
    /// What.
    pub message: String,
}

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As JSON numbers, with all their digits: `59.70`.
    Exact,
    /// As JSON strings, for readers that would make floats of them: `"59.70"`.
    Text,
}

pub(crate) fn read(bytes: &[u8]) -> Result<Value<'_>, JsonError> {
    let mut lexer = SliceLexer::new(bytes);
    let value = lexer.exactly_one(Lex::ws_peek, |next, lexer| value(MAX_DEPTH, next, lexer));
    value.map_err(|problem| JsonError {
        offset: bytes.len() - lexer.as_slice().len(),
        message: match problem {
            Problem::Json(Error::Depth) => format!("nested deeper than {MAX_DEPTH}"),
            Problem::Json(Error::Token(Expect::Eof)) => "something follows the value".to_owned(),
            Problem::Json(Error::Token(expected)) => format!("{expected} expected"),
            Problem::Json(error) => error.to_string(),
            Problem::Inexact(number) => inexact(&number),
        },
    })
}

fn inexact(number: &str) -> String {
    let mut shown: String = number.chars().take(60).collect();
    if shown.len() < number.len() {
        shown.push('…');
    }
    format!(
        "the number {shown} does not fit in an exact decimal (28 digits, at most 28 after the point); write it as a string"
    )
}

enum Problem {
    Json(Error),
    Inexact(String),
}

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Problem::Json(error.into())
    }
}

fn value<'a>(depth: usize, next: u8, lexer: &mut SliceLexer<'a>) -> Result<Value<'a>, Problem> {
    Ok(match next {
        b'"' => Value::Text(lexer.discarded().str_string()?),
        b'0'..=b'9' | b'-' => {
            let (text, _) = lexer.num_string().validated()?;
            Value::Number(decimal::parse(text).ok_or_else(|| Problem::Inexact(text.to_owned()))?)
        }
        b'{' => {
            let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
            let mut entries: Vec<(Cow<'a, str>, Value<'a>)> = Vec::new();
            lexer.discarded().seq(b'}', Lex::ws_peek, |next, lexer| {
                lexer.expect(|_| Some(next), b'"').ok_or(Expect::String)?;
                let key = lexer.str_string()?;
                lexer.expect(Lex::ws_peek, b':').ok_or(Expect::Colon)?;
                let next = lexer.ws_peek().ok_or(Expect::Value)?;
                entries.push((key, value(depth, next, lexer)?));
                Ok::<_, Problem>(())
            })?;
            Value::Map(Map::from(entries))
        }
        b'[' => {
            let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
            let mut elements = Vec::new();
            lexer.discarded().seq(b']', Lex::ws_peek, |next, lexer| {
                elements.push(value(depth, next, lexer)?);
                Ok::<_, Problem>(())
            })?;
            Value::List(elements.into())
        }
        b'a'..=b'z' => match lexer.null_or_bool().ok_or(Expect::Value)? {
            Some(value) => Value::Bool(value),
            None => Value::Null,
        },
        _ => return Err(Expect::Value.into()),
    })
}

pub(crate) fn from_serde(value: &serde_json::Value) -> Result<Value<'_>, JsonError> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            let text = number.to_string();
            let exact = decimal::parse(&text);
            Value::Number(exact.ok_or_else(|| JsonError { offset: 0, message: inexact(&text) })?)
        }
        Json::String(text) => Value::Text(Cow::Borrowed(text)),
        Json::Array(elements) => Value::List(elements.iter().map(from_serde).collect::<Result<_, _>>()?),
        Json::Object(entries) => {
            let entries =
                entries.iter().map(|(key, value)| Ok((Cow::Borrowed(key.as_str()), from_serde(value)?)));
            Value::Map(entries.collect::<Result<_, JsonError>>()?)
        }
    })
}

pub(crate) fn write(value: &Value<'_>, numbers: Numbers, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            // Writing to a String cannot fail.
            let _ = match numbers {
                Numbers::Exact => write!(out, "{number}"),
                Numbers::Text => write!(out, "\"{number}\""),
            };
        }
        Value::Text(_) | Value::Timestamp(_) | Value::Duration(_) => {
            write_text(&value.to_text().unwrap_or_default(), out);
        }
        Value::List(elements) => {
            out.push('[');
            for (at, element) in elements.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(element, numbers, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            write_fields(map.iter().map(|(key, value)| (key, Cow::Borrowed(value))), numbers, out);
        }
        Value::Object(object) => {
            write_fields(fields(*object).map(|(name, value)| (name, Cow::Owned(value))), numbers, out);
        }
    }
}

fn write_fields<'v, 'a: 'v>(
    fields: impl Iterator<Item = (&'v str, Cow<'v, Value<'a>>)>,
    numbers: Numbers,
    out: &mut String,
) {
    out.push('{');
    for (at, (name, value)) in fields.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write(&value, numbers, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut plain_from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[plain_from..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain_from = at + 1;
    }
    out.push_str(&text[plain_from..]);
    out.push('"');
}
