//! Connections to one schema of a database, and what its errors mean to our callers.

use std::str::FromStr;
use std::time::Duration;

use headwater_core::{Error, Result};
use headwater_log::Backoff;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

/// How long a connection is waited for, when all are in use or the server does not answer.
const ACQUIRE: Duration = Duration::from_secs(5);

/// Tries of a transaction that the database rolled back because of others: beyond this, they do not let it through.
pub(crate) const TRIES: u32 = 10;

/// Where the tables of one log or view are.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`, as libpq has it.
    pub url: String,
    /// The schema.
    pub schema: String,
    /// Connections at most.
    pub max_connections: u32,
}

/// Connections whose names are those of one schema.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub(crate) connections: PgPool,
    /// Where that is, for messages; no password.
    pub(crate) place: String,
}

impl Database {
    /// The tables of the log of the event stream `name`, in the schema that is theirs by default.
    pub fn of_stream(url: impl Into<String>, name: &str) -> Self {
        Self { url: url.into(), schema: format!("hw_{}", name.replace('-', "_")), max_connections: 20 }
    }

    /// The tables of the read model of the projection `name`, in the schema that is theirs by default.
    pub fn of_projection(url: impl Into<String>, name: &str) -> Self {
        // Workers write one after the other; the rest is for queries.
        Self { url: url.into(), schema: format!("hw_{}_view", name.replace('-', "_")), max_connections: 8 }
    }

    /// Connects, so that a wrong URL is known at once.
    pub(crate) async fn connect(&self) -> Result<Pool> {
        let invalid = |why: String| {
            Error::invalid(
                "url",
                format!("not the URL of a database: {why}; give postgres://USER:PASSWORD@HOST:PORT/DATABASE"),
            )
        };
        if !(self.url.starts_with("postgres://") || self.url.starts_with("postgresql://")) {
            return Err(invalid("it does not begin with postgres://".to_owned()));
        }
        if !is_identifier(&self.schema) {
            return Err(Error::invalid(
                "schema",
                format!(
                    "{:?} is no schema: give small letters, digits and _, and a letter first",
                    self.schema
                ),
            ));
        }
        // The parser's words may hold parts of the URL, and so of the password.
        let options = PgConnectOptions::from_str(&self.url)
            .map_err(|_| invalid("it cannot be read".to_owned()))?
            .application_name("headwater")
            .options([("search_path", self.schema.as_str())]);
        let database = options.get_database().unwrap_or_else(|| options.get_username()).to_owned();
        let place = format!(
            "schema {} of database {database} at {}:{}",
            self.schema,
            options.get_host(),
            options.get_port()
        );
        // The pool would try a server that is not there again and again, and say only that it took too long.
        let failed = |error: sqlx::Error| explain("connecting to", &place, &error);
        options.connect().await.map_err(failed)?.close().await.map_err(failed)?;
        let connections = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(failed)?;
        Ok(Pool { connections, place })
    }
}

fn is_identifier(schema: &str) -> bool {
    schema.len() <= 63
        && schema.starts_with(|first: char| first.is_ascii_lowercase())
        && schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl Pool {
    /// Does `work`, again where the database has rolled it back because of others, a limited number of times.
    pub(crate) async fn retry<T, F>(&self, name: &'static str, work: impl Fn() -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        repeat(name, is_rolled_back, work).await
    }

    /// Does `work`, which does no harm when it is done twice, again also where the connection was lost: those that were kept while the
    /// server was started again are.
    pub(crate) async fn read<T, F>(&self, name: &'static str, work: impl Fn() -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        repeat(name, |error| is_rolled_back(error) || is_ambiguous(error), work).await
    }

    /// What `error` means to our callers.
    pub(crate) fn explain(&self, doing: &str, error: &sqlx::Error) -> Error {
        explain(doing, &self.place, error)
    }
}

async fn repeat<T, F>(
    name: &'static str,
    may_pass: impl Fn(&sqlx::Error) -> bool,
    work: impl Fn() -> F,
) -> sqlx::Result<T>
where
    F: Future<Output = sqlx::Result<T>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
    let mut attempt = 1;
    loop {
        match work().await {
            Err(error) if attempt < TRIES && may_pass(&error) => {
                tracing::debug!(transaction = name, attempt, %error, "trying again");
                tokio::time::sleep(backoff.pause()).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// The SQLSTATE of an error that the database told.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// Whether the transaction was rolled back because of others, and may succeed when it is tried again.
pub(crate) fn is_rolled_back(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01"))
}

/// Whether it is unknown what became of a transaction that ended with `error`, its last statement having been sent.
pub(crate) fn is_ambiguous(error: &sqlx::Error) -> bool {
    match code(error) {
        // 40003: said to be unknown. Class 08: the connection. 57P: the server ends.
        Some(code) => code == "40003" || code.starts_with("08") || code.starts_with("57P"),
        None => {
            !matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::RowNotFound)
        }
    }
}

fn explain(doing: &str, place: &str, error: &sqlx::Error) -> Error {
    let what = format!("{doing} {place}: {error}");
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::PoolClosed => Error::Cancelled,
            sqlx::Error::PoolTimedOut => Error::unavailable(format!(
                "{doing} {place}: no connection within {ACQUIRE:?}: the database does not answer, or all connections are in use"
            )),
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => {
                Error::unavailable(format!("{what}; see that the database runs and can be reached"))
            }
            _ => Error::internal(format!("{what}; please report this")),
        };
    };
    match code.as_str() {
        "28P01" | "28000" => {
            Error::failed_precondition(format!("{what}; correct user and password of its URL"))
        }
        "3D000" => Error::failed_precondition(format!("{what}; create it, or correct its URL")),
        "42501" => Error::failed_precondition(format!(
            "{what}; let the user create the schema (GRANT CREATE ON DATABASE), or create it and let the user own it"
        )),
        "25006" => Error::unavailable(format!(
            "{what}; give the URL of the database that takes writes, not of a follower"
        )),
        "53300" => Error::unavailable(format!("{what}; allow for more connections there, or for fewer here")),
        "2BP01" => Error::failed_precondition(format!(
            "{what}; something of yours depends on it, drop that or base it on the tables' plain names"
        )),
        code if code.starts_with("53") => Error::exhausted(format!("{what}; make room there")),
        code if code.starts_with("40") || code.starts_with("08") || code.starts_with("57") => {
            Error::unavailable(what)
        }
        _ => Error::internal(format!("{what} ({code}); please report this")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_url_or_schema_is_refused_without_telling_the_password() {
        let database =
            |url: &str, schema: &str| Database { url: url.into(), schema: schema.into(), max_connections: 1 };
        for (url, schema, field) in [
            ("mysql://u:secret@h/d", "hw", "url"),
            ("postgres://u:sec%ret@h:port/d", "hw", "url"),
            ("postgres://u:secret@h/d", "Hw", "schema"),
            ("postgres://u:secret@h/d", "", "schema"),
            ("postgres://u:secret@h/d", "a;drop", "schema"),
        ] {
            match database(url, schema).connect().await {
                Err(Error::Invalid { field: wrong, message }) => {
                    assert_eq!(wrong, field, "{url}");
                    assert!(!message.contains("sec"), "{message}");
                }
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_stream_has_a_schema_of_its_own() {
        assert_eq!(Database::of_stream("postgres://h", "orders-eu").schema, "hw_orders_eu");
    }
}
