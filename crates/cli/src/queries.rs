//! The client of the query API.

use std::time::Duration;

use anyhow::{Context, Result};
use headwater_api::Problem;
use headwater_core::Error;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::Address;

/// The header that carries how far a read model is.
pub(crate) const TOKEN_HEADER: &str = "headwater-token";
/// The header that counts events that are set aside.
pub(crate) const PARKED_HEADER: &str = "headwater-parked";

/// Time travel folds a whole log; anything else answers much sooner, or with 504 by itself.
const TIMEOUT: Duration = Duration::from_mins(10);

/// A query API.
pub(crate) struct Queries {
    http: reqwest::Client,
    address: Address,
}

impl Queries {
    pub(crate) fn new(address: &Address) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(TIMEOUT)
            .build()
            .context("make an HTTP client")?;
        Ok(Self { http, address: address.clone() })
    }

    /// The URL of the path made of `segments`, which are encoded here.
    pub(crate) fn url<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Result<Url> {
        let segments: Vec<&str> = segments.into_iter().collect();
        if let Some(dots) = segments.iter().find(|segment| matches!(**segment, "." | "..")) {
            return Err(Error::invalid(
                "path",
                format!("\"{dots}\" cannot stand in the path of a URL: a row whose key it is is found by a filter, `query --where`"),
            )
            .into());
        }
        let mut url: Url = self.address.url().parse().context("the query server's address")?;
        url.path_segments_mut()
            .map_err(|()| Error::invalid("query-server", format!("{} takes no path", self.address)))?
            .extend(segments);
        Ok(url)
    }

    /// Gets `url`; an answer that is a problem is its error.
    pub(crate) async fn get(&self, url: Url) -> Result<Response> {
        self.send(self.http.get(url)).await
    }

    /// Gets the JSON at `url`.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        self.read(self.get(url).await?).await
    }

    /// Gets the text at `url`.
    pub(crate) async fn get_text(&self, url: Url) -> Result<String> {
        Ok(self.get(url).await?.text().await.map_err(|error| self.unreachable(&error))?)
    }

    /// Posts `body` to `url` and reads the JSON that it answers.
    pub(crate) async fn post_json<T: DeserializeOwned>(&self, url: Url, body: &impl Serialize) -> Result<T> {
        self.read(self.send(self.http.post(url).json(body)).await?).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        Err(refusal(status, &text, &self.address).into())
    }

    /// The JSON of an answer.
    pub(crate) async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} did not answer as the query API does", self.address))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Error {
        let mut why = String::new();
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        Error::unavailable(format!("no answer from the query API at {}: {why}", self.address))
    }
}

/// The error that a refusal says.
fn refusal(status: StatusCode, text: &str, address: &Address) -> Error {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => problem.into_error(),
        Err(_) => Error::failed_precondition(format!(
            "{address} answered {status} and no problem+json; is it the query API?"
        )),
    }
}
