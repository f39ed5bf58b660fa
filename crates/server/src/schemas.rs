//! What is kept in the schemas of a database, for a person who cleans up.

use headwater_core::{Error, Result};
use headwater_sql::{Database, RemoveAs};
pub use headwater_sql::{Keeps, KeptSchema};

/// What is kept in the database at `url`.
///
/// # Errors
/// `Invalid` for what is no URL of a database; else as the database.
pub async fn list(url: &str) -> Result<Vec<KeptSchema>> {
    Box::pin(headwater_sql::list(&at(url, "public")?)).await
}

/// What `schema` of the database at `url` holds.
///
/// # Errors
/// `Invalid` for what is no URL or schema; `NotFound` when it holds nothing of ours; else as the database.
pub async fn find(url: &str, schema: &str) -> Result<KeptSchema> {
    headwater_sql::find(&at(url, schema)?).await?.ok_or_else(|| nothing(schema))
}

/// Removes what `schema` of the database at `url` holds, whoever's it is.
///
/// # Errors
/// As [`find`]; `FailedPrecondition`, and nothing is changed, when a process uses it, or something of somebody else's depends on it.
pub async fn drop(url: &str, schema: &str) -> Result<KeptSchema> {
    headwater_sql::remove(&at(url, schema)?, &RemoveAs::Person).await?.ok_or_else(|| nothing(schema))
}

fn at(url: &str, schema: &str) -> Result<Database> {
    let database = Database { url: url.to_owned(), schema: schema.to_owned(), max_connections: 1, tls: None };
    database.check("database")?;
    Ok(database)
}

fn nothing(schema: &str) -> Error {
    Error::not_found(format!(
        "schema {schema:?} holds nothing of Headwater's, or is not there: `headwater schemas list` shows those that do"
    ))
}
