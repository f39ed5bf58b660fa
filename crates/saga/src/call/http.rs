//! HTTP requests with JSON.

use std::cmp::Reverse;

use bytes::Bytes;
use headwater_resources::saga::{FRAMING_HEADERS, HttpMethod};
use headwater_resources::shared::{ClientTls, TlsMode};
use http::header::{self, HeaderName, HeaderValue};
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::Full;
use tonic::body::Body;

use super::answers::{self, Answered, MAX_BODY};
use super::connections::{Connections, Protocol};
use super::{Answer, Call, HeaderValue as Value, HttpRequest, Response, Surroundings, Trace};

/// The shortest word within a Secret's value that is taken out of answers by itself. A shorter one might stand there by chance.
const MIN_SECRET: usize = 8;

pub(super) fn what(request: &HttpRequest) -> String {
    // What follows the path may be long, and is not needed to know where it went.
    format!("{} {}", method(request.method), request.url.split(['?', '#']).next().unwrap_or_default())
}

pub(super) async fn send(
    connections: &Connections,
    surroundings: &dyn Surroundings,
    call: &Call,
    request: &HttpRequest,
) -> Answer {
    let answer = attempt(connections, surroundings, call, request).await;
    answer.unwrap_or_else(|answer| answer.about(what(request)))
}

/// Either way an answer; `Err` is one that the participant did not give.
async fn attempt(
    connections: &Connections,
    surroundings: &dyn Surroundings,
    call: &Call,
    request: &HttpRequest,
) -> Result<Answer, Answer> {
    let uri = uri(&request.url, request.tls.as_ref()).map_err(Answer::failure)?;
    let (headers, secrets) = headers(surroundings, call, request)?;
    let (client, address) = connections.client(Protocol::Http, &uri, request.tls.as_ref())?;

    let body = request
        .body
        .as_ref()
        .map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.as_str().as_bytes()));
    let mut message = http::Request::new(Body::new(Full::new(body)));
    *message.method_mut() = method(request.method);
    *message.uri_mut() = uri;
    *message.headers_mut() = headers;

    let fault = |fault: String| match &address {
        Some(address) => format!("at {address}: {fault}"),
        None => fault,
    };
    let answer = client.request(message).await.map_err(|error| {
        let fault = fault(answers::causes(&error));
        if error.is_connect() { answers::broken(&error, fault) } else { Answer::unanswered(fault) }
    })?;
    let (head, body) = answer.into_parts();
    let body = answers::read(body).await.map_err(|error| {
        let fault = fault(format!(
            "answered {}, but not to its end: {}",
            named(head.status),
            answers::causes(&error)
        ));
        Answer::unanswered(fault)
    })?;
    Ok(judge(head.status, &head.headers, body.as_deref(), &secrets))
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>, secrets: &Secrets) -> Answer {
    let (text, note) = match body.map(std::str::from_utf8) {
        None => (None, format!(" (its body of more than {} KiB is not kept)", MAX_BODY >> 10)),
        Some(Err(_)) => (None, " (its body is not text and not kept)".to_owned()),
        Some(Ok(text)) => match secrets.hide(text) {
            text if secrets.are_escaped_in(&text) => {
                (None, " (its body repeats a Secret and is not kept)".to_owned())
            }
            text => (Some(text), String::new()),
        },
    };
    let detail = match headers.get(header::LOCATION) {
        Some(location) if status.is_redirection() => {
            let location = answers::short(&secrets.hide(&String::from_utf8_lossy(location.as_bytes())));
            Some(format!(
                "redirects are not followed, write the URL that answers itself (it points to {location})"
            ))
        }
        _ => text.as_deref().and_then(answers::detail),
    };
    let reason = match detail {
        Some(detail) => format!("{}: {detail}", named(status)),
        None => named(status),
    };
    if matches!(status.as_u16(), 408 | 425 | 429 | 500..=599) {
        return Answer::unanswered(reason);
    }
    let mut headers = answers::headers(headers, |_| false);
    for value in headers.values_mut() {
        *value = secrets.hide(value);
    }
    let body = text.as_deref().and_then(answers::body);
    let response = Response {
        summary: format!("{}{note}", named(status)),
        value: Answered { status: status.as_u16(), headers, body }.into_json(),
    };
    if status.is_success() {
        Answer::Success(response)
    } else {
        Answer::Failure { reason, response: Some(response) }
    }
}

fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

/// The URL to send to, or why there is none. It never changes for a call, so a fault in it cannot pass.
fn uri(url: &str, tls: Option<&ClientTls>) -> Result<Uri, String> {
    // What a template's own words may hold beside ASCII; its values are encoded already.
    let encoded: String = url
        .chars()
        .map(|it| if it.is_ascii_graphic() { it.to_string() } else { answers::header_text(&it.to_string()) })
        .collect();
    let uri: Uri = encoded.parse().map_err(|error| format!("that is no URL: {error}"))?;
    let secure = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err("that is no URL of http:// or https://".to_owned()),
    };
    match tls.map(|tls| tls.mode) {
        Some(TlsMode::Disable) if secure => {
            return Err(
                "the URL says https and tls.mode says Disable: write http://, or another mode".to_owned()
            );
        }
        Some(TlsMode::VerifyCA | TlsMode::VerifyFull) if !secure => {
            return Err(
                "the URL says http and tls asks for TLS: write https://, or the mode Disable".to_owned()
            );
        }
        _ => {}
    }
    if uri.authority().is_none_or(|it| it.as_str().contains('@') || it.host().is_empty()) {
        return Err(
            "the URL needs a host, and no user: send credentials in a header with valueFrom".to_owned()
        );
    }
    // Between here and there somebody may resolve them, and a value from an event would choose another path.
    if uri
        .path()
        .split('/')
        .any(|it| matches!(it.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | ".."))
    {
        return Err("the URL's path has a segment \".\" or \"..\", which would lead elsewhere".to_owned());
    }
    Ok(uri)
}

/// The headers to send, and the secrets among them.
fn headers(
    surroundings: &dyn Surroundings,
    call: &Call,
    request: &HttpRequest,
) -> Result<(HeaderMap, Secrets), Answer> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("headwater-saga/", env!("CARGO_PKG_VERSION"))),
    );
    if request.body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in trace(&call.trace) {
        headers.insert(name, value);
    }
    let mut secrets = Secrets::default();
    for (name, value) in &request.headers {
        let of = |fault: &str| format!("the header {name} {fault}");
        let known = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Answer::failure(of("has a name that no header can have")))?;
        if known == IDEMPOTENCY_KEY || FRAMING_HEADERS.contains(&known.as_str()) {
            return Err(Answer::failure(of("is set by Headwater itself: remove it from the action")));
        }
        let value = match value {
            Value::Text(text) => HeaderValue::from_str(text)
                .map_err(|_| Answer::failure(of("has a value with characters that no header can hold")))?,
            Value::Secret(key) => {
                let from = format!("takes key \"{}\" of Secret \"{}\"", key.key, key.name);
                let bytes = surroundings
                    .secret(key)
                    .map_err(|error| Answer::unanswered(of(&format!("{from}: {error}"))))?;
                let mut value = HeaderValue::from_bytes(bytes.trim_ascii()).map_err(|_| {
                    Answer::unanswered(of(&format!("{from}, whose value no header can hold")))
                })?;
                value.set_sensitive(true);
                secrets.add(bytes.trim_ascii());
                value
            }
        };
        headers.insert(known, value);
    }
    headers.insert(IDEMPOTENCY_KEY, ascii(&call.key));
    Ok((headers, secrets))
}

/// What makes a request count once, however often it is sent.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What the call belongs to, as headers.
pub(super) fn trace(trace: &Trace) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    // A trace context that cannot travel is left out: it is no reason not to call.
    let context = trace.traceparent.as_ref().and_then(|it| HeaderValue::from_str(it).ok());
    [
        (HeaderName::from_static("correlation-id"), Some(ascii(&trace.correlation_id))),
        (HeaderName::from_static("causation-id"), Some(ascii(&trace.causation_id))),
        (HeaderName::from_static("traceparent"), context),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.filter(|it| !it.is_empty()).map(|value| (name, value)))
}

/// Text as a header, percent-encoded where it must be: an instance's name may be any text.
pub(super) fn ascii(text: &str) -> HeaderValue {
    HeaderValue::try_from(answers::header_text(text)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The Secrets that a request carries, and their parts, longest first. A participant that sends back what it got must not bring them
/// into a history.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn add(&mut self, value: &[u8]) {
        let value = String::from_utf8_lossy(value);
        // What follows a scheme, as in `Bearer …`, is as secret as the whole.
        let credentials = value.split_once(char::is_whitespace).map(|(_, credentials)| credentials.trim());
        let words = value.split_whitespace().filter(|it| it.len() >= MIN_SECRET);
        let parts = [&*value].into_iter().chain(credentials).chain(words);
        self.0.extend(parts.filter(|it| !it.is_empty()).map(str::to_owned));
        self.0.sort_by_key(|it| Reverse(it.len()));
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "(secret)"))
    }

    /// Whether `text` spells one of them with the escapes of JSON: `"` and `\\` always do, and `/` or any letter may.
    fn are_escaped_in(&self, text: &str) -> bool {
        if self.0.is_empty() || !text.contains('\\') {
            return false;
        }
        let plain = unescaped(text);
        self.0.iter().any(|secret| plain.contains(secret.as_str()) && !text.contains(secret.as_str()))
    }
}

/// The UTF-16 that escapes such as `ud83d\ude00` spell, and what follows them: two units may be one character.
fn code_units(mut escaped: &str) -> (Vec<u16>, &str) {
    let (mut units, mut after) = (Vec::new(), escaped);
    while let Some(digits) = escaped.strip_prefix('u').and_then(|it| it.get(..4))
        && let Ok(unit) = u16::from_str_radix(digits, 16)
    {
        units.push(unit);
        after = &escaped[5..];
        let Some(next) = after.strip_prefix('\\') else { break };
        escaped = next;
    }
    (units, after)
}

/// A text without the escapes of JSON, whether it is JSON or not.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let (units, after) = code_units(escaped);
        if units.is_empty() {
            // What is escaped stands for itself; what would not has no place in a header.
            plain.extend(escaped.chars().next());
            rest = escaped.get(escaped.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
        } else {
            plain.extend(char::decode_utf16(units).map(|it| it.unwrap_or(char::REPLACEMENT_CHARACTER)));
            rest = after;
        }
    }
    plain.push_str(rest);
    plain
}
