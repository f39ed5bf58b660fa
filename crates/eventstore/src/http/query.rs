use std::borrow::Cow;
use std::str::FromStr;

use axum::extract::Query;
use axum::http::Uri;
use headwater_api::convert;
use headwater_core::{Error, Result, Token};
use headwater_log::{Filter, StartFrom};
use jiff::Timestamp;

/// The parameters of a request, all of them known.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query of `uri`, in which only `known` may be, and only `type` more than once.
    ///
    /// # Errors
    /// `Invalid` that names the parameter.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|rejection| Error::invalid("query", rejection.body_text()))?;
        // The decoder puts U+FFFD where bytes are no UTF-8.
        let meant = uri.query().is_some_and(|query| query.to_ascii_uppercase().contains("%EF%BF%BD"));
        for (index, (name, value)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Error::invalid(
                    name,
                    format!("there is no such parameter here; there are {known}"),
                ));
            }
            if name != "type" && pairs[..index].iter().any(|(before, _)| before == name) {
                return Err(Error::invalid(name, "it is there twice; give it once"));
            }
            if !meant && value.contains('\u{FFFD}') {
                return Err(Error::invalid(name, "it is not UTF-8; send UTF-8, percent-encoded"));
            }
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name`; `example` says what one looks like.
    pub(super) fn parse<T: FromStr>(&self, name: &str, example: &str) -> Result<Option<T>> {
        self.get(name)
            .map(|value| {
                value.parse().map_err(|_| Error::invalid(name, format!("{value:?} is none; give {example}")))
            })
            .transpose()
    }

    /// The value of `name` among `choices`; the first when it is not there.
    pub(super) fn choose<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T> {
        let Some(value) = self.get(name) else { return Ok(choices[0].1) };
        choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen).ok_or_else(|| {
            let choices: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            Error::invalid(name, format!("{value:?} is none; give {}", choices.join(" or ")))
        })
    }

    /// `limit`: 1 to `most`.
    pub(super) fn limit(&self, default: usize, most: usize) -> Result<usize> {
        match self.parse("limit", &format!("1 to {most}"))? {
            None => Ok(default),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(limit) => {
                Err(Error::invalid("limit", format!("{limit} is out of bounds; give 1 to {most}")))
            }
        }
    }

    /// `upcast`.
    pub(super) fn upcast(&self) -> Result<bool> {
        self.choose("upcast", &[("false", false), ("true", true)])
    }

    /// `type` and `prefix`.
    pub(super) fn filter(&self) -> Result<Filter> {
        let types = self.0.iter().filter(|(name, _)| name == "type").map(|(_, value)| value.as_str());
        convert::filter_from(types, self.get("prefix")).map_err(|error| match error {
            Error::Invalid { field, message } => {
                let field = if field.starts_with("types") { Cow::Borrowed("type") } else { "prefix".into() };
                Error::invalid(field, message)
            }
            other => other,
        })
    }

    /// `from`: where to begin.
    pub(super) fn start(&self) -> Result<StartFrom> {
        self.get("from").map_or(Ok(StartFrom::Beginning), |text| start_from("from", text))
    }
}

/// Where to begin: `beginning`, `end`, a time, or a token.
pub(super) fn start_from(field: &str, text: &str) -> Result<StartFrom> {
    match text {
        "beginning" => Ok(StartFrom::Beginning),
        "end" => Ok(StartFrom::End),
        // No token has a colon, and every time has.
        _ if text.contains(':') => text.parse::<Timestamp>().map(StartFrom::Time).map_err(|error| {
            Error::invalid(
                field,
                format!("{text:?} is no time: {error}; give one such as 2026-01-31T12:00:00Z"),
            )
        }),
        _ => text.parse::<Token>().map(StartFrom::After).map_err(|error| match error {
            Error::Invalid { message, .. } => Error::invalid(
                field,
                format!("{message}; or give beginning, end, or a time such as 2026-01-31T12:00:00Z"),
            ),
            other => other,
        }),
    }
}
