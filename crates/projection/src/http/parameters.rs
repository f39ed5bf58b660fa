//! Reading a query's URL: path segments and parameters, each decoded once.

use std::time::Duration;

use axum::http::{HeaderMap, Uri};
use headwater_core::{Error, Result, Token};
use headwater_resources::projection::QUERY_PARAMETERS;
use headwater_resources::shared;
use headwater_view::{Cell, ColumnType, Key, Order, TableSchema};

use super::MIN_TOKEN_HEADER;
use crate::convert::parse_text;
use crate::plan::names;

/// Rows of a page that says no limit.
const DEFAULT_LIMIT: usize = 100;
/// Rows of a page at most.
const MAX_LIMIT: usize = 1_000;
/// How long a query waits that says nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a query waits at most.
const MAX_TIMEOUT: Duration = Duration::from_mins(2);

/// A query's parameters, before the table is known.
#[derive(Debug)]
pub(super) struct Parameters {
    pub(super) min_token: Option<Token>,
    pub(super) as_of: Option<String>,
    pub(super) timeout: Duration,
    limit: Option<usize>,
    pub(super) after: Option<String>,
    order_by: Vec<String>,
    /// All others, which must be columns.
    columns: Vec<(String, String)>,
}

impl Parameters {
    /// Reads the query string and the header that stands for a parameter.
    pub(super) fn read(uri: &Uri, headers: &HeaderMap) -> Result<Self> {
        let mut parameters = Self {
            min_token: None,
            as_of: None,
            timeout: DEFAULT_TIMEOUT,
            limit: None,
            after: None,
            order_by: Vec::new(),
            columns: Vec::new(),
        };
        if let Some(header) = headers.get(MIN_TOKEN_HEADER) {
            let text = header.to_str().map_err(|_| Error::invalid(MIN_TOKEN_HEADER, "not a token"))?;
            parameters.min_token = Some(token(MIN_TOKEN_HEADER, text)?);
        }
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in pairs(uri.query().unwrap_or_default())? {
            if seen.contains(&name) {
                return Err(Error::invalid(name, "it is there twice; give it once"));
            }
            match name.as_str() {
                "min_token" => parameters.min_token = Some(token(&name, &value)?),
                "as_of" => parameters.as_of = Some(value),
                "timeout" => parameters.timeout = timeout(&value)?,
                "limit" => parameters.limit = Some(limit(&value)?),
                "after" => parameters.after = Some(value),
                "order_by" => parameters.order_by = value.split(',').map(str::to_owned).collect(),
                _ => parameters.columns.push((name.clone(), value)),
            }
            seen.push(name);
        }
        if parameters.as_of.is_some() && parameters.min_token.is_some() {
            return Err(Error::invalid("as_of", "it names a place by itself; leave min_token out"));
        }
        Ok(parameters)
    }

    /// Rows of a page at most.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// The rows that are wanted.
    pub(super) fn filter(&self, schema: &TableSchema) -> Result<Vec<(usize, Cell)>> {
        self.columns
            .iter()
            .map(|(name, value)| {
                let column = column(schema, name)?;
                let column_type = schema.columns[column].column_type;
                if column_type == ColumnType::Json {
                    return Err(Error::invalid(name.clone(), "a column of type Json cannot be filtered on"));
                }
                Ok((column, parse_text(value, column_type).map_err(|why| Error::invalid(name.clone(), why))?))
            })
            .collect()
    }

    /// The order that is wanted.
    pub(super) fn order(&self, schema: &TableSchema) -> Result<Vec<Order>> {
        self.order_by
            .iter()
            .map(|text| {
                let (name, descending) =
                    text.strip_prefix('-').map_or((text.as_str(), false), |name| (name, true));
                let column = column(schema, name).map_err(|error| match error {
                    Error::Invalid { message, .. } => Error::invalid("order_by", message),
                    other => other,
                })?;
                if schema.columns[column].column_type == ColumnType::Json {
                    return Err(Error::invalid(
                        "order_by",
                        format!("\"{name}\" is of type Json, which has no order"),
                    ));
                }
                Ok(Order { column, descending })
            })
            .collect()
    }

    /// Makes sure that nothing was asked for that is about several rows.
    pub(super) fn of_one_row(&self) -> Result<()> {
        let other = self
            .columns
            .first()
            .map(|(name, _)| name.as_str())
            .or_else(|| self.order_by.first().map(|_| "order_by"));
        let other = other.or_else(|| self.after.as_ref().map(|_| "after"));
        let other = other.or_else(|| self.limit.map(|_| "limit"));
        match other {
            Some(name) => {
                Err(Error::invalid(name, "a key names one row; only min_token, timeout and as_of go with it"))
            }
            None => Ok(()),
        }
    }
}

fn column(schema: &TableSchema, name: &str) -> Result<usize> {
    schema.column(name).ok_or_else(|| {
        Error::invalid(
            name,
            format!(
                "table \"{}\" has no such column, and there is no such parameter; the columns are {}, the parameters {}",
                schema.name,
                names(schema.columns.iter().map(|column| column.name.as_str())),
                names(QUERY_PARAMETERS)
            ),
        )
    })
}

fn token(field: &str, text: &str) -> Result<Token> {
    text.parse().map_err(|error| match error {
        Error::Invalid { message, .. } => Error::invalid(field, message),
        other => other,
    })
}

fn timeout(text: &str) -> Result<Duration> {
    let wanted =
        text.parse::<shared::Duration>().map_err(|error| Error::invalid("timeout", error.to_string()))?.get();
    if wanted > MAX_TIMEOUT {
        return Err(Error::invalid("timeout", format!("at most {} s are waited", MAX_TIMEOUT.as_secs())));
    }
    Ok(wanted)
}

fn limit(text: &str) -> Result<usize> {
    text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
        Error::invalid(
            "limit",
            format!("{text:?} is no limit; give 1 to {MAX_LIMIT}, and read on with `after`"),
        )
    })
}

/// The pairs of a query string.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
        })
        .collect()
}

/// The decoded segments of a path after the first `skip`.
pub(super) fn segments(path: &str, skip: usize) -> Result<Vec<String>> {
    path.split('/').skip(skip + 1).map(decode).collect()
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Result<String> {
    let wrong = || Error::invalid("url", format!("{text:?} is not percent-encoded UTF-8; encode '%' as %25"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let (digits, after) = rest.split_first_chunk::<2>().ok_or_else(wrong)?;
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(wrong);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The key that path segments name.
pub(super) fn key(schema: &TableSchema, segments: &[String]) -> Result<Key> {
    let key_names: Vec<&str> =
        schema.key.iter().map(|column| schema.columns[*column].name.as_str()).collect();
    if segments.len() != key_names.len() {
        return Err(Error::invalid(
            "key",
            format!(
                "{} segment(s) in the path, and the key of table \"{}\" has {}: {}; encode '/' within a segment as %2F",
                segments.len(),
                schema.name,
                key_names.len(),
                names(key_names.iter().copied())
            ),
        ));
    }
    let cells = schema.key.iter().zip(segments).map(|(column, text)| {
        let column = &schema.columns[*column];
        parse_text(text, column.column_type).map_err(|why| Error::invalid(column.name.clone(), why))
    });
    Ok(Key::new(cells.collect::<Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_apart() {
        assert_eq!(segments("/v1/projections/a/b/x%2Fy/%C3%A9", 4).unwrap(), ["x/y", "\u{e9}"]);
        assert_eq!(segments("/v1/projections/a/b/x+y", 4).unwrap(), ["x+y"], "a plus is a plus in a path");
        assert!(segments("/v1/projections/a/b/%zz", 4).is_err());
        assert!(segments("/v1/projections/a/b/%ff", 4).is_err());
        assert_eq!(
            pairs("a=1+2&b=%26&c").unwrap(),
            [("a".into(), "1 2".into()), ("b".into(), "&".into()), ("c".into(), String::new())]
        );
    }

    #[test]
    fn wrong_parameters_are_named() {
        fn check(query: &str, field: &str, part: &str) {
            let uri: Uri = format!("/v1/projections/p/t?{query}").parse().unwrap();
            match Parameters::read(&uri, &HeaderMap::new()) {
                Err(Error::Invalid { field: found, message }) => {
                    assert_eq!(found, field);
                    assert!(message.contains(part), "{message}");
                }
                other => panic!("{query} gave {other:?}"),
            }
        }
        check("limit=0", "limit", "1 to 1000");
        check("limit=many", "limit", "1 to 1000");
        check("timeout=5", "timeout", "no length of time");
        check("timeout=5h", "timeout", "at most 120 s");
        check("min_token=x", "min_token", "not a token");
        check("a=1&a=2", "a", "twice");
    }
}
