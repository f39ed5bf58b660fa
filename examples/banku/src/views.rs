//! What the projection `accounts` has seen, over its query API.

use std::time::Duration;

use anyhow::{Context, anyhow};
use headwater_api::{Credentials, Problem};
use headwater_core::{Error, RetryPolicy, Token};
use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Long enough for a `headwater dev` that is being restarted.
const RETRY: RetryPolicy = RetryPolicy {
    name: "query",
    attempts: 25,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(1),
};

/// A query that waits for a token is answered, or given up by the server, before this.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The tables of the projection.
#[derive(Debug, Clone)]
pub(crate) struct Views {
    http: reqwest::Client,
    credentials: Credentials,
    projection: Url,
}

/// A row of table `accounts`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct AccountRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) balance: String,
}

#[derive(Deserialize)]
struct IncomingRow {
    amount: String,
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
            .and_then(|url| url.join("/v1/projections/accounts/"))
            .with_context(|| format!("--query-server: {server:?} is no address such as 127.0.0.1:8080"))?;
        let http =
            reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().context("an HTTP client")?;
        Ok(Self { http, credentials, projection })
    }

    /// What others have transferred to `account`, as far as the projection has seen; with `min_token`, at least as far as that.
    ///
    /// # Errors
    /// When the projection cannot be asked.
    pub(crate) async fn incoming(&self, account: &str, min_token: Option<&Token>) -> anyhow::Result<u128> {
        let Some(row) = self.row::<IncomingRow>("incoming", account, min_token).await? else { return Ok(0) };
        Decimal::from_str_exact(&row.amount)
            .ok()
            .filter(Decimal::is_integer)
            .and_then(|amount| amount.to_u128())
            .with_context(|| {
                format!("table incoming has {} for account {account}: no whole number", row.amount)
            })
    }

    /// The row of `account`.
    ///
    /// # Errors
    /// When the projection cannot be asked.
    pub(crate) async fn account(
        &self,
        account: &str,
        min_token: Option<&Token>,
    ) -> anyhow::Result<Option<AccountRow>> {
        self.row("accounts", account, min_token).await
    }

    async fn row<R: DeserializeOwned>(
        &self,
        table: &str,
        key: &str,
        min_token: Option<&Token>,
    ) -> anyhow::Result<Option<R>> {
        // A path cannot hold these, and no account is called so.
        if matches!(key, "." | "..") {
            return Ok(None);
        }
        let mut url = self.projection.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("the query API's address has no path"))?
            .pop_if_empty()
            .push(table)
            .push(key);
        if let Some(token) = min_token {
            url.query_pairs_mut().append_pair("min_token", &token.to_string());
        }
        let mut attempt = 1;
        loop {
            let error = match self.get(&url).await {
                Ok(row) => return Ok(Some(row)),
                Err(Error::NotFound { .. }) => return Ok(None),
                Err(error @ Error::Unavailable { .. }) => error,
                Err(error) => return Err(error.into()),
            };
            let Some(delay) = RETRY.delay(attempt) else { return Err(error.into()) };
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn get<R: DeserializeOwned>(&self, url: &Url) -> headwater_core::Result<R> {
        let failed = |error: reqwest::Error| {
            if error.is_decode() {
                return Error::internal(format!("{} is no query API: {error}", self.projection));
            }
            Error::unavailable(format!("no answer from the query API at {}: {error}", self.projection))
        };
        let mut request = self.http.get(url.clone());
        if let Some(token) = self.credentials.authorization()? {
            request = request.header(AUTHORIZATION, token);
        }
        let answer = request.send().await.map_err(failed)?;
        if answer.status() == StatusCode::OK {
            return answer.json().await.map_err(failed);
        }
        Err(answer.json::<Problem>().await.map_err(failed)?.into_error())
    }
}
