//! The client of the query API.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use headwater_api::{Credentials, Problem};
use headwater_core::Error;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use reqwest::Url;
use rustls::RootCertStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::address::Address;

/// The header that carries how far a read model is.
pub(crate) const TOKEN_HEADER: &str = "headwater-token";
/// The header that counts events that are set aside.
pub(crate) const PARKED_HEADER: &str = "headwater-parked";

/// Time travel folds a whole log; anything else answers much sooner, or with 504 by itself.
const TIMEOUT: Duration = Duration::from_mins(10);

/// Connecting takes milliseconds on a healthy network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A query API.
pub(crate) struct Queries {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: Address,
    credentials: Credentials,
}

impl Queries {
    /// The one at `address`, which is shown `credentials`.
    pub(crate) fn new(address: &Address, credentials: Credentials) -> Result<Self> {
        credentials.check_for(address.url())?;
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.enforce_http(false);
        let tls = if address.is_tls() {
            credentials.tls(&[])?
        } else {
            // It is not used, and trusts nobody.
            headwater_api::tls::builder()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .wrap_connector(tcp);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, address: address.clone(), credentials })
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
    pub(crate) async fn get(&self, url: Url) -> Result<Response<String>> {
        self.send(Method::GET, url, Bytes::new()).await
    }

    /// Gets the JSON at `url`.
    pub(crate) async fn get_json<T: DeserializeOwned>(&self, url: Url) -> Result<T> {
        self.read(&self.get(url).await?)
    }

    /// Gets the text at `url`.
    pub(crate) async fn get_text(&self, url: Url) -> Result<String> {
        Ok(self.get(url).await?.into_body())
    }

    /// Posts `body` to `url` and reads the JSON that it answers.
    pub(crate) async fn post_json<T: DeserializeOwned>(&self, url: Url, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).context("write the request as JSON")?;
        self.read(&self.send(Method::POST, url, body.into()).await?)
    }

    async fn send(&self, method: Method, url: Url, body: Bytes) -> Result<Response<String>> {
        let mut request = Request::builder().method(method).uri(url.as_str());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = self.credentials.authorization()? {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Full::new(body)).context("make a request")?;
        let answer = async {
            let (parts, body) =
                self.http.request(request).await.map_err(|error| self.unreachable(&error))?.into_parts();
            let body = body.collect().await.map_err(|error| self.unreachable(&error))?.to_bytes();
            Ok::<_, Error>((parts, String::from_utf8_lossy(&body).into_owned()))
        };
        let late =
            |_| Error::unavailable(format!("no answer from the query API at {} in time", self.address));
        let (parts, text) = tokio::time::timeout(TIMEOUT, answer).await.map_err(late)??;
        if parts.status.is_success() {
            return Ok(Response::from_parts(parts, text));
        }
        Err(refusal(parts.status, &text, &self.address).into())
    }

    /// The JSON of an answer.
    pub(crate) fn read<T: DeserializeOwned>(&self, response: &Response<String>) -> Result<T> {
        serde_json::from_str(response.body())
            .with_context(|| format!("{} did not answer as the query API does", self.address))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> Error {
        let mut why = String::new();
        let mut cause = Some(error);
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
