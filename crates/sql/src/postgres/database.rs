//! Connections to one schema of a database, and what its errors mean to our callers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use headwater_core::{BackendFault, Error, Result};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection};

use super::pool::{ACQUIRE, Pool};

/// A transaction of a client that is silent for so long has been forgotten by it, and lets go of what it holds: between the statements
/// of ours is less than a second.
const ABANDONED: &str = "20s";

/// Where the tables of one log or view are.
#[derive(Debug, Clone)]
pub struct Database {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?…`, as libpq has it.
    pub url: String,
    /// The schema.
    pub schema: String,
    /// Connections at most.
    pub max_connections: u32,
    /// How connections are protected. `None`: as the URL says (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`), where that is nothing, by TLS
    /// if the server has it.
    pub tls: Option<DatabaseTls>,
}

/// TLS of the connections to a database. Certificates and keys are in PEM.
#[derive(Clone)]
pub enum DatabaseTls {
    /// Plain text.
    Disable,
    /// The server's certificate is checked.
    Verify {
        /// Also whether it is of the host that is connected to.
        host: bool,
        /// The authorities that are trusted. `None`: those of the system.
        ca: Option<Vec<u8>>,
        /// A certificate and its key, to show to the server.
        identity: Option<(Vec<u8>, Vec<u8>)>,
    },
}

impl fmt::Debug for DatabaseTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable => f.write_str("Disable"),
            Self::Verify { host, .. } => f.debug_struct("Verify").field("host", host).finish_non_exhaustive(),
        }
    }
}

impl DatabaseTls {
    /// Whatever the URL says.
    fn set(&self, options: PgConnectOptions) -> PgConnectOptions {
        let Self::Verify { host, ca, identity } = self else { return options.ssl_mode(PgSslMode::Disable) };
        let mode = if *host { PgSslMode::VerifyFull } else { PgSslMode::VerifyCa };
        let mut options = options.ssl_mode(mode);
        if let Some(ca) = ca {
            options = options.ssl_root_cert_from_pem(ca.clone());
        }
        if let Some((certificate, key)) = identity {
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        }
        options
    }
}

impl Database {
    /// The tables of the log of the event stream `name`, in the schema that is theirs by default.
    pub fn of_stream(url: impl Into<String>, name: &str) -> Self {
        Self {
            url: url.into(),
            schema: format!("hw_{}", name.replace('-', "_")),
            max_connections: 20,
            tls: None,
        }
    }

    /// The tables of the read model of the projection `name`, in the schema that is theirs by default.
    pub fn of_projection(url: impl Into<String>, name: &str) -> Self {
        // Workers write one after the other; the rest is for queries.
        Self {
            url: url.into(),
            schema: format!("hw_{}_view", name.replace('-', "_")),
            max_connections: 8,
            tls: None,
        }
    }

    /// The tables of the log of the saga `name`.
    pub fn of_saga(url: impl Into<String>, name: &str) -> Self {
        Self { max_connections: 8, ..Self::of_stream(url, &format!("saga-{name}")) }
    }

    /// Whether the URL and the schema can be such.
    ///
    /// # Errors
    /// `Invalid`, by `field` for the URL, without telling what it keeps secret.
    pub fn check(&self, field: &str) -> Result<()> {
        self.options().map(drop).map_err(|error| match error {
            Error::Invalid { field: wrong, message } if wrong == "url" => Error::invalid(field, message),
            other => other,
        })
    }

    /// Connects, so that a wrong URL is known at once.
    pub(crate) async fn connect(&self) -> Result<Pool> {
        let options = self.options()?;
        let database = options.get_database().unwrap_or_else(|| options.get_username()).to_owned();
        let place = format!(
            "schema {} of database {database} at {}:{}",
            self.schema,
            options.get_host(),
            options.get_port()
        );
        // The pool would try a server that is not there again and again, and say only that it took too long.
        let failed = |error: sqlx::Error| explain("connecting to", &place, &error);
        let connection = tokio::time::timeout(ACQUIRE, options.connect()).await;
        let connection = connection.map_err(|_| silence(ACQUIRE)).flatten().map_err(failed)?;
        connection.close().await.map_err(failed)?;
        Pool::connect(options, self.max_connections, place.clone()).await.map_err(failed)
    }

    fn options(&self) -> Result<PgConnectOptions> {
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
        // What the parser does not know it logs, with its value.
        let query = self.url.split_once('?').map(|(_, query)| query).unwrap_or_default();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let name = parameter.split('=').next().unwrap_or_default();
            if !PARAMETERS.contains(&name) {
                return Err(invalid(format!(
                    "it has a parameter {name:?}, and those that count are {}",
                    PARAMETERS.join(", ")
                )));
            }
        }
        // The parser's words may hold parts of the URL, and so of the password.
        let options = PgConnectOptions::from_str(&self.url)
            .map_err(|_| invalid("it cannot be read".to_owned()))?
            .application_name("headwater")
            .options([
                ("search_path", self.schema.as_str()),
                ("idle_in_transaction_session_timeout", ABANDONED),
            ]);
        Ok(match &self.tls {
            Some(tls) => tls.set(options),
            None => options,
        })
    }
}

/// The parameters of a URL that are followed.
const PARAMETERS: [&str; 10] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
];

/// Whether it is the name of a schema that we make.
pub(crate) fn is_identifier(schema: &str) -> bool {
    schema.len() <= 63
        && schema.starts_with(|first: char| first.is_ascii_lowercase())
        && schema.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The SQLSTATE of an error that the database told.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}

/// A process that was stopped in mid-transaction, and wakes: see [`ABANDONED`]. The session is over.
const WAS_ABANDONED: &str = "25P03";

/// Whether the transaction was rolled back because of others, or of its own silence, and may succeed when it is tried again.
pub(crate) fn is_rolled_back(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | WAS_ABANDONED))
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

/// Whether the connection is of no more use, and others that are as old may be of none.
pub(crate) fn is_lost(error: &sqlx::Error) -> bool {
    match code(error) {
        Some(code) => code.starts_with("08") || code.starts_with("57P") || code == WAS_ABANDONED,
        None => matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)),
    }
}

/// That no answer has come for so long.
pub(crate) fn silence(time: Duration) -> sqlx::Error {
    let message = format!("no answer within {time:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, message))
}

pub(crate) fn explain(doing: &str, place: &str, error: &sqlx::Error) -> Error {
    let what = format!("{doing} {place}: {error}");
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::PoolClosed => Error::Cancelled,
            sqlx::Error::PoolTimedOut => Error::unavailable(format!(
                "{doing} {place}: no connection within {ACQUIRE:?}: the database does not answer, or all connections are in use"
            )),
            sqlx::Error::Tls(_) => Error::unavailable(format!(
                "{what}; {}: see that the server serves TLS by a certificate of its host and of a trusted authority, or say otherwise in database.tls or the URL",
                BackendFault::Tls.words()
            )),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
                Error::unavailable(format!("{what}; see that the database runs and can be reached"))
            }
            _ => Error::internal(format!("{what}; please report this")),
        };
    };
    match code.as_str() {
        "28P01" | "28000" => {
            let look = BackendFault::Credentials.words();
            Error::failed_precondition(format!("{what}; {look}: correct user and password of its URL"))
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
        WAS_ABANDONED => Error::unavailable(what),
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
        let database = |url: &str, schema: &str| Database {
            url: url.into(),
            schema: schema.into(),
            max_connections: 1,
            tls: None,
        };
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
