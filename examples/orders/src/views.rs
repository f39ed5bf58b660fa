//! The read model of the orders, over the query API of Projection `orders`.

use std::time::Duration;

use anyhow::Context;
use headwater_api::{Credentials, Problem};
use headwater_core::{Error, Result};
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use serde_json::{Map, Value};

use crate::order::MAX_ITEMS;

/// A query that waits for a token is answered, or given up by the server, before this.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The header that carries the place which a row reflects.
const TOKEN: &str = "headwater-token";

/// The tables of the projection.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    http: reqwest::Client,
    credentials: Credentials,
    projection: Url,
}

impl Views {
    /// The views behind the query API at `server`: `HOST:PORT`, or a URL. It is shown `credentials`.
    ///
    /// # Errors
    /// When `server` is neither, or a token would go there in plain text.
    pub(crate) fn new(server: &str, credentials: Credentials) -> anyhow::Result<Self> {
        let url = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        credentials.check_for(&url)?;
        let projection = Url::parse(&url)
            .and_then(|url| url.join("/v1/projections/orders/"))
            .with_context(|| format!("--query-server: {server:?} is no address such as 127.0.0.1:8080"))?;
        let http =
            reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("an HTTP client")?;
        Ok(Self { http, credentials, projection })
    }

    /// The order `order_id` with its lines, at least as new as `min_token`.
    ///
    /// # Errors
    /// What the query API says: `NotFound`, `DeadlineExceeded` when the token is not reached in time; `Unavailable` without an answer.
    pub(crate) async fn order(&self, order_id: &str, min_token: Option<&str>) -> Result<Map<String, Value>> {
        let (mut order, token) = self.get(&["orders", order_id], &[], min_token).await?;
        // The lines must not be older than the order: they wait for the token that it came with.
        let limit = MAX_ITEMS.to_string();
        let lines = [("order_id", order_id), ("order_by", "line"), ("limit", &limit)];
        let (mut lines, _) = self.get(&["order_items"], &lines, token.as_deref()).await?;
        let lines = lines.remove("rows").ok_or_else(|| Error::internal("the query API gave no rows"))?;
        order.insert("order_items".to_owned(), lines);
        Ok(order)
    }

    /// An answer's object, and its token.
    async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        min_token: Option<&str>,
    ) -> Result<(Map<String, Value>, Option<String>)> {
        let mut url = self.projection.clone();
        url.path_segments_mut()
            .map_err(|()| Error::internal("the query API's address has no path"))?
            .pop_if_empty()
            .extend(path);
        if !query.is_empty() || min_token.is_some() {
            url.query_pairs_mut()
                .extend_pairs(query)
                .extend_pairs(min_token.map(|token| ("min_token", token)));
        }
        let failed = |error: reqwest::Error| {
            if error.is_decode() {
                return Error::internal(format!("{} is no query API: {error}", self.projection));
            }
            Error::unavailable(format!("no answer from the query API at {}: {error}", self.projection))
        };
        let mut request = self.http.get(url);
        if let Some(token) = self.credentials.authorization()? {
            request = request.header(AUTHORIZATION, token);
        }
        let answer = request.send().await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(answer.json::<Problem>().await.map_err(failed)?.into_error());
        }
        let token = answer.headers().get(TOKEN).and_then(|token| token.to_str().ok()).map(str::to_owned);
        Ok((answer.json().await.map_err(failed)?, token))
    }
}
