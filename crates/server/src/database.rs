//! Where a manifest says that a database is, and how connections to it are protected.

use headwater_core::{Error, Result};
use headwater_resources::EventStreamSpec;
use headwater_resources::shared::ClientTls;
use headwater_sql::{Database, DatabaseTls};

use crate::chosen::url_in;
use crate::load::Loaded;
use crate::tls_files::TlsFiles;

/// A database, whatever is to be kept there.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseAddress {
    pub(crate) url: String,
    /// What says so.
    pub(crate) field: &'static str,
    /// Of a follower, for reads.
    pub(crate) read_url: Option<String>,
    pub(crate) tls: Option<DatabaseTls>,
}

impl From<&str> for DatabaseAddress {
    /// What a flag says: TLS is in the URL.
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), field: "database", read_url: None, tls: None }
    }
}

impl DatabaseAddress {
    /// What the flag `--database` says, in place of what the manifest of the EventStream does.
    pub(crate) fn instead_of(spec: &EventStreamSpec, url: &str) -> Self {
        let declares_tls = spec.database.as_ref().is_some_and(|database| database.tls.is_some());
        if declares_tls && !url.contains("sslmode=") {
            tracing::warn!(
                "spec.database.tls is of the database that the manifest names; --database says another, and nothing of TLS: add \
                 ?sslmode=verify-full&sslrootcert=PATH to its URL if it is to be checked"
            );
        }
        url.into()
    }

    /// The database that the manifest of the EventStream `name` names.
    ///
    /// # Errors
    /// `Invalid` when it names none, or what it names is not there.
    pub(crate) fn of_stream(name: &str, spec: &EventStreamSpec, loaded: &Loaded) -> Result<Self> {
        let database = spec.database.as_ref().ok_or_else(|| {
            Error::invalid(
                "database",
                format!("the manifest of EventStream \"{name}\" names no database: add spec.database, or give --database URL or --data-dir PATH"),
            )
        })?;
        let url = url_in(&database.url_secret_ref, "database.urlSecretRef", loaded)?;
        let read_url = database.read_url_secret_ref.as_ref();
        let read_url = read_url.map(|of| url_in(of, "database.readURLSecretRef", loaded)).transpose()?;
        let tls = database.tls.as_ref().map(|tls| database_tls(tls, loaded)).transpose()?;
        Ok(Self { url, field: "database.urlSecretRef", read_url, tls })
    }

    /// `database` at this address.
    pub(crate) fn at(&self, database: impl FnOnce(&str) -> Database) -> Database {
        Database { tls: self.tls.clone(), ..database(&self.url) }
    }
}

fn database_tls(tls: &ClientTls, loaded: &Loaded) -> Result<DatabaseTls> {
    let files = TlsFiles::read(tls, "database.tls", loaded)?;
    if let Some(files) = &files {
        // The driver reads them when it connects, and says what is wrong with them as if it were the server's.
        let identity = files.identity.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
        headwater_api::tls::configuration(files.host, files.ca.as_deref(), identity)
            .map_err(|fault| Error::invalid("database.tls", fault))?;
    }
    Ok(match files {
        None => DatabaseTls::Disable,
        Some(TlsFiles { host, ca, identity }) => DatabaseTls::Verify { host, ca, identity },
    })
}
