//! What the log and the view share of SQLite: opening a file, its format's number, and what its errors mean.
//!
//! ```text
//! log, view ──blocking──▶ Connection: WAL, waits for other writers, cached statements
//! ```

use std::path::Path;
use std::time::Duration;

use headwater_core::{Error, Result};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

/// How long a statement waits for another process's transaction before it is refused.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Statements kept prepared on each connection: more than one store's distinct statements, so that none is evicted in a loop.
const PREPARED_STATEMENTS: usize = 256;

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synchronous {
    /// At the commit: it survives power loss.
    Full,
    /// At the next checkpoint of the write-ahead log: power loss may take the last commits back, each as a whole.
    Normal,
}

impl Synchronous {
    /// Sets how the connection's next transactions commit.
    pub(crate) fn set(self, connection: &Connection) -> rusqlite::Result<()> {
        let level = match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", level)
    }
}

/// What a file holds, written in its header, so that one is not taken for another, nor a newer for an older.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    /// The header's `application_id`.
    pub(crate) application_id: i32,
    /// What it is, for messages.
    pub(crate) what: &'static str,
    /// Scripts by version: the first makes version 1 of nothing, the second version 2 of version 1.
    pub(crate) migrations: &'static [&'static str],
}

/// Opens the file for writing, makes it if it is not there, and brings it to the newest version of `format`.
///
/// # Errors
/// `Corrupt` when the file is no SQLite database, is of another format or of a newer version; `Unavailable`, `Exhausted`.
pub(crate) fn open(path: &Path, synchronous: Synchronous, format: Format) -> Result<Connection> {
    let doing = "opening";
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| explain(doing, path, error))?;
    prepare(&connection).map_err(|error| explain(doing, path, error))?;
    // Before anything is changed: a file that is not ours stays as it is.
    recognise(&connection, path, format)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(|error| explain(doing, path, error))?;
    synchronous.set(&connection).map_err(|error| explain(doing, path, error))?;
    // On macOS a plain sync does not reach the disk. Elsewhere these say nothing.
    connection.pragma_update(None, "fullfsync", true).map_err(|error| explain(doing, path, error))?;
    connection
        .pragma_update(None, "checkpoint_fullfsync", true)
        .map_err(|error| explain(doing, path, error))?;
    migrate(&mut connection, path, format)?;
    Ok(connection)
}

/// Opens a file that is there, for reading alone.
///
/// # Errors
/// As [`open`].
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        prepare(&connection)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error| explain("opening", path, error))
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
    connection.pragma_update(None, "foreign_keys", true)
}

/// The version of the file's format; 0: it is empty.
fn recognise(connection: &Connection, path: &Path, format: Format) -> Result<usize> {
    let explain = |error| explain("opening", path, error);
    let number =
        |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(explain);
    let (application_id, version) = (number("application_id")?, number("user_version")?);
    let is_new = connection
        .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
        .optional()
        .map_err(explain)?
        .is_none();
    if is_new && application_id == 0 && version == 0 {
        return Ok(0);
    }
    if application_id != i64::from(format.application_id) {
        return Err(Error::corrupt(format!(
            "opening \"{}\" as {}: it is another database; nothing was changed: choose another data directory",
            path.display(),
            format.what
        )));
    }
    let newest = format.migrations.len();
    usize::try_from(version).ok().filter(|version| (1..=newest).contains(version)).ok_or_else(|| {
        Error::corrupt(format!(
            "opening \"{}\" as {}: it was made by a newer Headwater (format {version}, this one knows {newest}); nothing was \
             changed: run that newer version, or choose another data directory",
            path.display(),
            format.what
        ))
    })
}

fn migrate(connection: &mut Connection, path: &Path, format: Format) -> Result<()> {
    let explain = |error| explain("opening", path, error);
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(explain)?;
    let version = recognise(&transaction, path, format)?;
    if version == format.migrations.len() {
        return Ok(());
    }
    for migration in &format.migrations[version..] {
        transaction.execute_batch(migration).map_err(explain)?;
    }
    transaction.pragma_update(None, "application_id", format.application_id).map_err(explain)?;
    transaction.pragma_update(None, "user_version", format.migrations.len() as i64).map_err(explain)?;
    transaction.commit().map_err(explain)
}

/// What was found in the file contradicts itself.
pub(crate) fn damaged(path: &Path, what: &str) -> Error {
    Error::corrupt(format!(
        "\"{path}\" is damaged: {what}; stop, keep a copy of it and of the files beside it, then restore a backup, or try \
         `sqlite3 {path} .recover`",
        path = path.display()
    ))
}

/// What SQLite's error means for the caller: `doing` says what was attempted on the file.
#[allow(clippy::needless_pass_by_value, reason = "it ends an error's way, in `map_err`")]
pub(crate) fn explain(doing: &str, path: &Path, error: rusqlite::Error) -> Error {
    let message = |remedy: &str| format!("{doing} \"{}\": {error}{remedy}", path.display());
    match error.sqlite_error_code() {
        None if matches!(
            error,
            rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            damaged(path, &format!("{doing}: {error}"))
        }
        Some(ErrorCode::DiskFull) => Error::exhausted(message("; make room on the disk, then repeat")),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::unavailable(message("; another process holds the file, end it or wait"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            damaged(path, &format!("{doing}: {error}"))
        }
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::unavailable(message("; check that the directory exists and may be written"))
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::OperationInterrupted) => {
            Error::unavailable(message(""))
        }
        _ => Error::internal(message("")),
    }
}
