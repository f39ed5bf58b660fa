use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use headwater_core::{Error, Result};
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::connection::{explain, open_reader};

/// A few read connections to one file, used on blocking threads. Who comes when all are in use waits.
#[derive(Debug, Clone)]
pub(crate) struct Readers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    cache_kib: u32,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// At most `most` connections, opened when they are first needed.
    pub(crate) fn new(path: &Path, most: usize, cache_kib: u32) -> Self {
        Self(Arc::new(Pool {
            path: path.to_owned(),
            cache_kib,
            turns: Arc::new(Semaphore::new(most)),
            idle: Mutex::default(),
        }))
    }

    /// Runs `read` on a connection; `what` names it in errors. When the caller gives up, `read` still runs to its end.
    pub(crate) async fn run<T, F>(&self, what: &'static str, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Path) -> Result<T, ReadError> + Send + 'static,
    {
        let turn = Arc::clone(&self.0.turns).acquire_owned().await.map_err(|_| Error::Cancelled)?;
        let pool = Arc::clone(&self.0);
        let task = tokio::task::spawn_blocking(move || {
            let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => pool.open()?,
            };
            let result = read(&connection, &pool.path);
            if !pool.turns.is_closed() {
                pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            drop(turn);
            result.map_err(|cause| match cause {
                ReadError::Sqlite(cause) => explain(what, &pool.path, cause),
                ReadError::Other(cause) => cause,
            })
        });
        task.await
            .unwrap_or_else(|cause| Err(Error::internal(format!("{what}: {cause}; please report this"))))
    }

    /// Refuses further reads as `Cancelled` and closes the idle connections.
    pub(crate) fn close(&self) {
        self.0.turns.close();
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Pool {
    fn open(&self) -> Result<Connection> {
        let connection = open_reader(&self.path)?;
        connection
            .pragma_update(None, "cache_size", -i64::from(self.cache_kib))
            .map_err(|cause| explain("opening", &self.path, cause))?;
        Ok(connection)
    }
}

/// Why a read failed: SQLite said so, or what it gave makes no sense.
pub(crate) enum ReadError {
    Sqlite(rusqlite::Error),
    Other(Error),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
