//! What is kept of an answer: never more than its history can hold, and exactly as it came.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use rustix::io::Errno;
use serde::Serialize;

use super::Answer;
use crate::json::Json;

/// Bytes of an answer's body that are kept. An event holds 1 MiB, and expressions hold all of a history in memory.
pub(super) const MAX_BODY: usize = 256 << 10;

/// Characters of a participant's own words in a reason: people read it in a list.
const MAX_DETAIL: usize = 200;

/// What an answer is to expressions.
#[derive(Serialize)]
pub(super) struct Answered<'a, S> {
    pub(super) status: S,
    pub(super) headers: BTreeMap<&'a str, String>,
    pub(super) body: Option<Json>,
}

impl<S: Serialize> Answered<'_, S> {
    pub(super) fn into_json(self) -> Json {
        // Text and JSON have a JSON form.
        serde_json::to_string(&self).and_then(Json::parse).unwrap_or_else(|_| Json::text(""))
    }
}

/// Reads a body to its end; `None` when it is larger than what is kept.
pub(super) async fn read(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut read = BytesMut::new();
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Ok(None);
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if read.len() + data.len() > MAX_BODY {
            return Ok(None);
        }
        read.extend_from_slice(&data);
    }
    Ok(Some(read.freeze()))
}

/// A body as JSON, or its text as JSON's text. `None` when it is empty or neither.
pub(super) fn body(text: &str) -> Option<Json> {
    if text.trim().is_empty() {
        return None;
    }
    if text.len() <= MAX_BODY
        && let Ok(json) = Json::parse(text)
        && json.fits_within_others()
        && json.value().is_ok()
    {
        return Some(json);
    }
    let json = Json::text(text);
    (json.as_str().len() <= MAX_BODY).then_some(json)
}

/// The headers with small letters; those of one name as one, and none that `skip` says.
pub(super) fn headers(headers: &HeaderMap, skip: impl Fn(&str) -> bool) -> BTreeMap<&str, String> {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !skip(name.as_str())) {
        let text = String::from_utf8_lossy(value.as_bytes());
        known
            .entry(name.as_str())
            .and_modify(|it| *it = format!("{it}, {text}"))
            .or_insert(text.into_owned());
    }
    known
}

/// What a body says in words: a problem's detail or the like, or its text.
pub(super) fn detail(text: &str) -> Option<String> {
    let words = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(object)) => ["detail", "title", "message", "reason", "error"]
            .iter()
            .find_map(|name| match object.get(*name)? {
                serde_json::Value::Object(inner) => inner.get("message")?.as_str().map(str::to_owned),
                value => value.as_str().map(str::to_owned),
            })?,
        Ok(serde_json::Value::String(text)) => text,
        Ok(_) => return None,
        Err(_) => text.to_owned(),
    };
    Some(short(&words)).filter(|words| !words.is_empty())
}

/// A participant's words on one line, cut.
pub(super) fn short(text: &str) -> String {
    let mut words = text.split(|it: char| it.is_whitespace() || it.is_control()).filter(|it| !it.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        if line.len() > 4 * MAX_DETAIL {
            break;
        }
        let _ = write!(line, " {word}");
    }
    match line.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The answer to a request that came to no answer because of `error`, which `fault` describes.
pub(super) fn broken(error: &(dyn Error + 'static), fault: String) -> Answer {
    if is_our_lack(error) { Answer::NotTried { reason: fault } } else { Answer::unanswered(fault) }
}

/// Whether this process could make no socket: it has as many files or as much memory as it may have.
fn is_our_lack(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        if let Some(code) = code {
            return [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
                .iter()
                .any(|lack| lack.raw_os_error() == code);
        }
        next = error.source();
    }
    false
}

/// An error and what caused it, each said once.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let this = error.to_string();
        // hyper's first words are of its own parts.
        if !this.starts_with("client error (") && !text.contains(&this) {
            let _ = write!(text, "{}{this}", if text.is_empty() { "" } else { ": " });
        }
        next = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

/// Text as it can travel in a header: what is not a visible character of ASCII is percent-encoded.
pub(super) fn header_text(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
