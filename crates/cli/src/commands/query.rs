use std::io::IsTerminal;

use anyhow::{Context, Result};
use headwater_core::{Error, Token};
use indexmap::IndexMap;
use indicatif::ProgressBar;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::arguments::QueryServer;
use crate::console::Console;
use crate::failure::Failure;
use crate::queries::{PARKED_HEADER, Queries, TOKEN_HEADER};
use crate::start::{self, Past};

/// How long the server lets a travel into the past go on before it says how far it is.
const TRAVEL_LOOK: &str = "1s";

/// Read rows of a read model.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  headwater query orders/orders
  headwater query orders/orders/7f1c0a52 --output json
  headwater query orders/orders --where status=Approved --order-by amount --limit 10
  headwater query accounts/accounts/a-1 --min-token \"$TOKEN\"    # wait for your own write
  headwater query orders/orders --as-of 2026-01-31T12:00:00Z    # as it was")]
pub(crate) struct Arguments {
    /// PROJECTION/TABLE, or PROJECTION/TABLE/KEY for one row; a key of several columns has several parts.
    #[arg(value_name = "PROJECTION/TABLE[/KEY…]", value_parser = place)]
    place: Place,

    /// A part of the key, where it has a slash in it; may be repeated.
    #[arg(long = "key", value_name = "VALUE")]
    keys: Vec<String>,

    /// Only rows whose column has this value; may be repeated, all must hold.
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition)]
    conditions: Vec<(String, String)>,

    /// The column to order by; `-COLUMN` from greatest to least.
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    order_by: Option<String>,

    /// Rows at most.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,

    /// Read on after the page before, which names this.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,

    /// Wait until the read model has come to this token, which an append gave.
    #[arg(long, value_name = "TOKEN", conflicts_with = "as_of")]
    min_token: Option<Token>,

    /// How long to wait for the token.
    #[arg(long, value_name = "TIME", default_value = "10s", requires = "min_token")]
    timeout: String,

    /// The rows as they were at a token or a time, by folding the events again.
    #[arg(long, value_name = "TOKEN|TIME", value_parser = start::parse_past)]
    as_of: Option<Past>,

    #[command(flatten)]
    pub(crate) server: QueryServer,
}

impl Arguments {
    /// The projection that is read.
    pub(crate) fn projection(&self) -> &str {
        &self.place.projection
    }
}

/// A table, or a row of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    projection: String,
    table: String,
    keys: Vec<String>,
}

fn place(text: &str) -> Result<Place, String> {
    let mut parts = text.split('/').map(str::to_owned);
    match (parts.next(), parts.next(), parts.collect::<Vec<_>>()) {
        (Some(projection), Some(table), keys)
            if !projection.is_empty() && !table.is_empty() && keys.iter().all(|key| !key.is_empty()) =>
        {
            Ok(Place { projection, table, keys })
        }
        _ => Err("give PROJECTION/TABLE or PROJECTION/TABLE/KEY, for example orders/orders".to_owned()),
    }
}

fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("give COLUMN=VALUE, for example status=Approved".to_owned()),
    }
}

/// A row by column, each value as it came: no number is read, so none loses a digit.
pub(crate) type Row = IndexMap<String, Box<RawValue>>;

/// A page of rows, as the query API has it.
#[derive(Debug, Serialize, Deserialize)]
struct Page {
    rows: Vec<Row>,
    next: Option<String>,
    token: String,
}

pub(crate) async fn run(arguments: Arguments, console: &Console) -> Result<()> {
    let queries = arguments.server.connect()?;
    let Place { projection, table, keys } = &arguments.place;
    let keys: Vec<&str> = keys.iter().chain(&arguments.keys).map(String::as_str).collect();
    let segments = ["v1", "projections", projection, table].into_iter().chain(keys.iter().copied());
    let mut url = queries.url(segments)?;
    if let Some(token) = &arguments.min_token {
        let token = token.to_string();
        url.query_pairs_mut().append_pair("min_token", &token).append_pair("timeout", &arguments.timeout);
    }
    if let Some(past) = &arguments.as_of {
        let text = match past {
            Past::Token(token) => token.to_string(),
            Past::Time(time) => time.to_string(),
        };
        url.query_pairs_mut().append_pair("as_of", &text).append_pair("timeout", TRAVEL_LOOK);
    }
    let whole = arguments.conditions.is_empty()
        && arguments.order_by.is_none()
        && arguments.limit.is_none()
        && arguments.after.is_none();
    let what = || format!("query {projection}/{table}");
    if !keys.is_empty() {
        if !whole {
            let message = "a key names one row: --where, --order-by, --limit and --after are for tables";
            return Err(Failure::invalid(message).into());
        }
        return row(&queries, url, console).await.with_context(what);
    }
    for (column, value) in &arguments.conditions {
        url.query_pairs_mut().append_pair(column, value);
    }
    let limit = arguments.limit.map(|limit| limit.to_string());
    for (name, value) in [("order_by", &arguments.order_by), ("limit", &limit), ("after", &arguments.after)] {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(name, value);
        }
    }
    rows(&queries, url, console).await.with_context(what)
}

/// Asks for `url`; a travel into the past that is under way is asked for again until it has arrived.
async fn ask(queries: &Queries, url: Url) -> Result<http::Response<String>> {
    let travels = url.query_pairs().any(|(name, _)| name == "as_of");
    let progress = if travels && std::io::stderr().is_terminal() {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::hidden()
    };
    loop {
        match queries.get(url.clone()).await {
            Err(error) if travels => match error.downcast_ref() {
                Some(Error::DeadlineExceeded { message, .. }) => progress.set_message(message.clone()),
                _ => return Err(error),
            },
            answer => {
                progress.finish_and_clear();
                return answer;
            }
        }
    }
}

async fn row(queries: &Queries, url: Url, console: &Console) -> Result<()> {
    let response = ask(queries, url).await?;
    warn_of_parked(&response);
    let token = header(&response, TOKEN_HEADER);
    let row: Row = queries.read(&response)?;
    if console.is_json() {
        console.json(&row)?;
    } else {
        let lines = row.iter().map(|(column, value)| [column.clone(), cell(value)]);
        console.table(&["column", "value"], lines)?;
        if let Some(token) = token {
            eprintln!("as of {token}");
        }
    }
    Ok(())
}

async fn rows(queries: &Queries, url: Url, console: &Console) -> Result<()> {
    let response = ask(queries, url).await?;
    warn_of_parked(&response);
    let page: Page = queries.read(&response)?;
    if console.is_json() {
        return Ok(console.json(&page)?);
    }
    match page.rows.first() {
        None => eprintln!("no rows"),
        Some(first) => {
            let headings: Vec<&str> = first.keys().map(String::as_str).collect();
            console.table(
                &headings,
                page.rows.iter().map(|row| row.values().map(|value| cell(value)).collect::<Vec<_>>()),
            )?;
        }
    }
    eprintln!("as of {}", page.token);
    if let Some(next) = page.next {
        eprintln!("there are more rows: --after {next}");
    }
    Ok(())
}

fn header(response: &http::Response<String>, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

fn warn_of_parked(response: &http::Response<String>) {
    if let Some(parked) = header(response, PARKED_HEADER) {
        eprintln!(
            "warning: {parked} of the events up to here are set aside; `headwater projections parked` lists them"
        );
    }
}

/// A value as a person reads it.
pub(crate) fn cell(value: &RawValue) -> String {
    match value.get() {
        "null" => "-".to_owned(),
        // What is no text stands there as it came.
        text => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_table_or_a_row() {
        #[track_caller]
        fn check(text: &str, expected: Option<(&str, &str, &[&str])>) {
            let found = place(text).ok();
            let found = found.as_ref().map(|place| {
                (
                    place.projection.as_str(),
                    place.table.as_str(),
                    place.keys.iter().map(String::as_str).collect(),
                )
            });
            assert_eq!(
                found,
                expected.map(|(projection, table, keys)| (projection, table, keys.to_vec())),
                "{text}"
            );
        }
        check("orders/orders", Some(("orders", "orders", &[])));
        check("orders/items/o-1/2", Some(("orders", "items", &["o-1", "2"])));
        check("orders", None);
        check("orders/", None);
        check("orders/items/", None);
    }

    #[test]
    fn a_cell_has_every_digit() {
        for (json, text) in [
            (r#""a \"text\"""#, "a \"text\""),
            ("null", "-"),
            ("true", "true"),
            (
                r#"{"amount":12345678901234567890.1234,"z":0.10}"#,
                r#"{"amount":12345678901234567890.1234,"z":0.10}"#,
            ),
        ] {
            assert_eq!(cell(&RawValue::from_string(json.to_owned()).unwrap()), text);
        }
    }

    #[test]
    fn a_condition_is_a_column_and_a_value() {
        assert_eq!(condition("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(condition("a="), Ok(("a".to_owned(), String::new())));
        assert!(condition("=b").is_err());
        assert!(condition("a").is_err());
    }
}
