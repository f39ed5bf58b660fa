//! Plays a `.http` file: sends its requests in order, and holds the answers to what the file expects.
//!
//! ```text
//! demo.http ──script──▶ requests ──fill variables──▶ HTTP ──▶ answer ──▶ expectations, captures
//!                                                     ▲                    │
//!                                                     └── again, within ◀──┘
//! ```

mod answer;
mod expectation;
mod fault;
mod script;
mod variables;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use answer::Answer;
use expectation::Expectation;
pub(crate) use fault::Fault;
use script::{Body, Request, Script};
pub(crate) use variables::{Variables, is_name};

/// Without `@within`, a refused connection is tried again for this long: a program may be starting.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries, at first; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// One answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What happens while a script is played.
#[derive(Debug)]
pub(crate) enum Progress<'a> {
    /// A request was answered for good.
    Answered { title: &'a str, name: Option<&'a str>, method: &'a str, url: &'a str, status: u16, tries: u32 },
    /// What was expected of it, and what came instead where it does not hold.
    Expected { request: &'a str, expected: &'a str, instead: Option<&'a str> },
}

/// How a script ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Score {
    /// Expectations that held.
    pub(crate) held: u32,
    /// Those that did not.
    pub(crate) failed: u32,
}

/// A script, ready to be played.
pub(crate) struct Player {
    script: Script,
    variables: Variables,
    folder: std::path::PathBuf,
    http: reqwest::Client,
}

/// A request with its variables filled in.
struct Filled {
    method: reqwest::Method,
    url: reqwest::Url,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    expectations: Vec<Expectation>,
}

impl Player {
    /// Reads `text`, the file at `path`, in which `variables` are set already.
    ///
    /// # Errors
    /// All faults of the file.
    pub(crate) fn new(text: &str, path: &Path, variables: Variables) -> Result<Self, Vec<Fault>> {
        let script = script::parse(text, variables.names())?;
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).build();
        let http =
            http.map_err(|error| vec![Fault::new(1, format!("no HTTP client can be made: {error}"))])?;
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { script, variables, folder, http })
    }

    /// Plays it to the end, or to the first request whose expectations do not hold.
    ///
    /// # Errors
    /// When a request cannot be made or gets no answer.
    pub(crate) async fn play(&mut self, mut show: impl FnMut(Progress<'_>) -> Result<()>) -> Result<Score> {
        let mut score = Score::default();
        for request in std::mem::take(&mut self.script.requests) {
            for (name, value) in &request.variables {
                let value = self.variables.fill(value).map_err(anyhow::Error::msg)?;
                self.variables.set(name, value);
            }
            if request.method.is_empty() {
                continue;
            }
            let label = format!("line {}, {}", request.line, request.label());
            if !self.request(&request, &mut score, &mut show).await.with_context(|| label)? {
                break;
            }
        }
        Ok(score)
    }

    /// Whether all expectations held.
    async fn request(
        &mut self,
        request: &Request,
        score: &mut Score,
        show: &mut impl FnMut(Progress<'_>) -> Result<()>,
    ) -> Result<bool> {
        let filled = self.fill(request)?;
        let (answer, tries) = self.answer(&filled, request.within).await?;
        let label = request.label();
        show(Progress::Answered {
            title: label,
            name: request.name.as_deref(),
            method: &request.method,
            url: filled.url.as_str(),
            status: answer.status,
            tries,
        })?;
        let mut held = true;
        for expectation in &filled.expectations {
            let instead = expectation.check(&answer).err();
            show(Progress::Expected {
                request: label,
                expected: &expectation.text,
                instead: instead.as_deref(),
            })?;
            held &= instead.is_none();
            *(if instead.is_none() { &mut score.held } else { &mut score.failed }) += 1;
        }
        if filled.expectations.is_empty() && answer.status >= 400 {
            let body = variables::to_text(&answer.body);
            let instead = format!("{} {body}", answer.status);
            show(Progress::Expected {
                request: label,
                expected: "a status below 400",
                instead: Some(&instead),
            })?;
            score.failed += 1;
            return Ok(false);
        }
        if held {
            for (name, place) in &request.captures {
                let Some(value) = place.of(&answer) else {
                    let expected = format!("something to capture as {name}");
                    show(Progress::Expected {
                        request: label,
                        expected: &expected,
                        instead: Some("nothing is there"),
                    })?;
                    score.failed += 1;
                    return Ok(false);
                };
                self.variables.set(name, variables::to_text(&value));
            }
        }
        if let Some(name) = &request.name {
            self.variables.keep(name, answer);
        }
        Ok(held)
    }

    fn fill(&self, request: &Request) -> Result<Filled> {
        let fill = |text: &str| self.variables.fill(text).map_err(anyhow::Error::msg);
        let url = fill(&request.url)?;
        let body = match &request.body {
            None => None,
            Some(Body::Text(text)) => Some(fill(text)?.into_bytes()),
            Some(Body::File(path)) => {
                let path = self.folder.join(path);
                Some(std::fs::read(&path).with_context(|| format!("read {}", path.display()))?)
            }
        };
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            headers.push((name.clone(), fill(value)?));
        }
        let mut expectations = Vec::new();
        for text in &request.expectations {
            let expectation = Expectation::parse(&fill(text)?).map_err(anyhow::Error::msg);
            expectations.push(expectation.with_context(|| format!("@expect {text}"))?);
        }
        let method = reqwest::Method::from_bytes(request.method.as_bytes()).context("the method")?;
        let url = url.parse().with_context(|| format!("{url:?} is no URL"))?;
        Ok(Filled { method, url, headers, body, expectations })
    }

    /// Sends `filled` until everything that is expected holds, for at most `within`; the last answer is the one that counts.
    async fn answer(&self, filled: &Filled, within: Option<Duration>) -> Result<(Answer, u32)> {
        let begin = Instant::now();
        let mut pause = FIRST_PAUSE;
        for tries in 1.. {
            let left = |limit: Duration| begin.elapsed() < limit;
            let outcome = self.send(filled).await;
            match outcome {
                Ok(answer) => {
                    let holds =
                        filled.expectations.iter().all(|expectation| expectation.check(&answer).is_ok());
                    if holds || !within.is_some_and(left) {
                        return Ok((answer, tries));
                    }
                }
                Err(error) => {
                    let refused = error.is_connect() && left(within.unwrap_or(CONNECT_WITHIN));
                    if !refused && !within.is_some_and(left) {
                        let url = &filled.url;
                        let why = root_cause(&error);
                        let took = begin.elapsed().as_secs_f64();
                        anyhow::bail!("{} {url}: no answer after {took:.1} s: {why}", filled.method);
                    }
                }
            }
            // The last try is made when the time is up.
            let limit = within.unwrap_or(CONNECT_WITHIN);
            tokio::time::sleep(pause.min(limit.saturating_sub(begin.elapsed()))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        unreachable!("the loop above has no end but its returns")
    }

    async fn send(&self, filled: &Filled) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(filled.method.clone(), filled.url.clone());
        for (name, value) in &filled.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &filled.body {
            request = request.body(body.clone());
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let body = response.bytes().await?;
        let body = match serde_json::from_slice(&body) {
            Ok(json) => json,
            Err(_) if body.is_empty() => Value::Null,
            Err(_) => String::from_utf8_lossy(&body).into_owned().into(),
        };
        Ok(Answer { status, headers, body })
    }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
