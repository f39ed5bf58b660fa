//! The HTTP API as a stranger would use it: plain JSON, none of our types.

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// A client of one event stream's HTTP API and of the query API.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    stream: String,
    queries: String,
}

/// The answer to an append.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// The stream id.
    pub stream_id: String,
    /// Version of the last event.
    pub version: u64,
    /// Partition.
    pub partition: u16,
    /// Position of the last event, a number in text.
    pub position: String,
    /// The place after it.
    pub token: String,
}

/// An event as it is read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// The event's id.
    pub id: String,
    /// The stream id.
    pub stream_id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The number within the stream id.
    pub version: u64,
    /// Partition.
    pub partition: u16,
    /// The number within the partition, in text.
    pub position: String,
    /// When it was stored.
    pub recorded_at: jiff::Timestamp,
    /// The payload.
    pub data: Value,
}

impl Event {
    /// The position as a number.
    ///
    /// # Errors
    /// When it is none.
    pub fn position(&self) -> Result<u64> {
        self.position.parse().with_context(|| format!("position {:?}", self.position))
    }
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Event>,
    next: String,
}

#[derive(Deserialize)]
struct StreamPage {
    events: Vec<Event>,
}

/// What an append came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It is durable.
    Stored(Stored),
    /// The server refused it.
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The problem document.
        problem: Value,
    },
    /// No answer came: it may be stored.
    Unknown,
}

impl Http {
    /// For the event stream at `stream` and the queries at `queries`.
    pub fn new(stream: &str, queries: &str) -> Self {
        Self {
            client: reqwest::Client::new(),
            stream: stream.trim_end_matches('/').to_owned(),
            queries: queries.trim_end_matches('/').to_owned(),
        }
    }

    /// The same, and no answer after `time` is none.
    #[must_use]
    pub fn within(self, time: std::time::Duration) -> Self {
        // Nothing that is set here can be wrong.
        let client = reqwest::Client::builder().timeout(time).build().unwrap_or_default();
        Self { client, ..self }
    }

    /// Appends one event and says what came of it.
    ///
    /// # Errors
    /// When the server answers something that is no answer to an append.
    pub async fn append(
        &self,
        stream_id: &str,
        expected: &Value,
        id: &str,
        event_type: &str,
        data: &Value,
    ) -> Result<Outcome> {
        self.append_all(stream_id, expected, &[id], event_type, data).await
    }

    /// The same for several events that differ in nothing but their ids.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub async fn append_all(
        &self,
        stream_id: &str,
        expected: &Value,
        ids: &[impl AsRef<str>],
        event_type: &str,
        data: &Value,
    ) -> Result<Outcome> {
        let event = |id: &str| json!({"id": id, "type": event_type, "data": data});
        let events: Vec<Value> = ids.iter().map(|id| event(id.as_ref())).collect();
        let body = json!({"expected": expected, "events": events});
        let url = format!("{}/v1/streams/{stream_id}/events", self.stream);
        let Ok(response) = self.client.post(url).json(&body).send().await else {
            return Ok(Outcome::Unknown);
        };
        let status = response.status();
        let Ok(bytes) = response.bytes().await else { return Ok(Outcome::Unknown) };
        if status == StatusCode::CREATED {
            return Ok(Outcome::Stored(
                serde_json::from_slice(&bytes)
                    .with_context(|| String::from_utf8_lossy(&bytes).into_owned())?,
            ));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(Outcome::Unknown);
        }
        Ok(Outcome::Refused {
            status,
            problem: serde_json::from_slice(&bytes)
                .with_context(|| format!("{status}: {}", String::from_utf8_lossy(&bytes)))?,
        })
    }

    /// All events of the stream, and the token at the end.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub async fn all_events(&self) -> Result<(Vec<Event>, String)> {
        let mut events = Vec::new();
        let mut from = String::new();
        loop {
            let page: Page = self.json(&self.page_url(&from, 1_000)).await?;
            let Page { events: page, next } = page;
            if page.is_empty() {
                return Ok((events, next));
            }
            events.extend(page);
            from = next;
        }
    }

    fn page_url(&self, from: &str, limit: usize) -> String {
        let from = if from.is_empty() { String::new() } else { format!("&from={from}") };
        format!("{}/v1/events?limit={limit}{from}", self.stream)
    }

    /// The next events of all partitions from a token on, or from the beginning when it is empty; and the token after them. Nothing where
    /// there is no answer.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub async fn page(&self, from: &str, limit: usize) -> Result<Option<(Vec<Event>, String)>> {
        let page: Option<Page> = self.json_if_answered(&self.page_url(from, limit)).await?;
        Ok(page.map(|page| (page.events, page.next)))
    }

    /// The first events of a stream id `forwards`, or the last ones `backwards`. Nothing where there is no answer.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub async fn stream(&self, stream_id: &str, limit: usize, direction: &str) -> Result<Option<Vec<Event>>> {
        let url =
            format!("{}/v1/streams/{stream_id}/events?limit={limit}&direction={direction}", self.stream);
        let page: Option<StreamPage> = self.json_if_answered(&url).await?;
        Ok(page.map(|page| page.events))
    }

    /// All rows of a table of a projection that has seen `token`.
    ///
    /// # Errors
    /// When the server does not answer as it should.
    pub async fn rows(&self, projection: &str, table: &str, token: &str) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut after = String::new();
        loop {
            let url = format!(
                "{}/v1/projections/{projection}/{table}?limit=500&min_token={token}&timeout=30s{after}",
                self.queries
            );
            let page: Value = self.json(&url).await?;
            let Some(page_rows) = page["rows"].as_array() else { bail!("no rows in {page}") };
            rows.extend(page_rows.iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(rows),
            }
        }
    }

    /// The JSON at `url`.
    ///
    /// # Errors
    /// When the answer is no success, or no such JSON.
    pub async fn json<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<T> {
        let (status, bytes) = self.get(url).await.with_context(|| format!("GET {url}"))?;
        parse(url, status, &bytes)
    }

    /// The JSON at `url`; nothing where there is no answer, or one that says that the server cannot answer now.
    ///
    /// # Errors
    /// When it answers something else.
    pub async fn json_if_answered<T: for<'de> Deserialize<'de>>(&self, url: &str) -> Result<Option<T>> {
        match self.get(url).await {
            Err(_) | Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => Ok(None),
            Ok((status, bytes)) => parse(url, status, &bytes).map(Some),
        }
    }

    async fn get(&self, url: &str) -> reqwest::Result<(StatusCode, Vec<u8>)> {
        let response = self.client.get(url).send().await?;
        let status = response.status();
        Ok((status, response.bytes().await?.to_vec()))
    }
}

fn parse<T: for<'de> Deserialize<'de>>(url: &str, status: StatusCode, bytes: &[u8]) -> Result<T> {
    if !status.is_success() {
        bail!("GET {url} answered {status}: {}", String::from_utf8_lossy(bytes));
    }
    serde_json::from_slice(bytes)
        .with_context(|| format!("GET {url} answered {}", String::from_utf8_lossy(bytes)))
}
