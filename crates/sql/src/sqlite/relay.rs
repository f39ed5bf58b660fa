use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use headwater_bus::{BrokerReference, Checkpoint, RelayState, superseded};
use headwater_core::{Error, Partition, Position, Result};
use headwater_log::Epoch;
use rusqlite::{Connection, OptionalExtension, params};

use crate::connection::{self, Format, Synchronous, explain};

/// The kind of file that holds a relay's checkpoints: "HWRL".
const FORMAT: Format = Format {
    application_id: 0x4857_524c,
    what: "a relay's checkpoints",
    migrations: &[include_str!("relay/0001.sql")],
};

/// How far a log in a file has been relayed to a bus: in a file of its own, which is synced now and then. What a power loss takes back is
/// relayed again.
pub struct SqliteRelayState {
    kept: Arc<Kept>,
}

struct Kept {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteRelayState {
    /// Opens the file at `path`, making it when it is not there; its directory must be.
    ///
    /// # Errors
    /// `Corrupt` when it is something else, damaged, or a newer Headwater's; `Unavailable` when it cannot be read or written.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        blocking(move || {
            let connection = connection::open(&path, Synchronous::Normal, FORMAT)?;
            Ok(Self { kept: Arc::new(Kept { path, connection: Mutex::new(connection) }) })
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let kept = Arc::clone(&self.kept);
        blocking(move || {
            // Each statement is a transaction: whoever panicked left whole ones.
            let connection = kept.connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).map_err(|error| explain(doing, &kept.path, error))
        })
        .await
    }

    fn path(&self) -> &Path {
        &self.kept.path
    }
}

#[async_trait]
impl RelayState for SqliteRelayState {
    async fn load(&self, partition: Partition, epoch: Epoch) -> Result<Checkpoint> {
        let found: Option<(i64, Option<String>)> = self
            .with("reading the relay's checkpoint in", move |connection| {
                connection
                    .prepare_cached(include_str!("relay/load.sql"))?
                    .query_row(params![partition.get(), epoch.0 as i64], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()
            })
            .await?;
        let (position, reference) = found.ok_or_else(|| superseded(partition, epoch))?;
        let position = u64::try_from(position)
            .map_err(|_| connection::damaged(self.path(), &format!("position {position}")))?;
        Ok(Checkpoint { position: Position::new(position), reference: reference.map(BrokerReference) })
    }

    async fn save(&self, partition: Partition, epoch: Epoch, checkpoint: Checkpoint) -> Result<()> {
        let saved = self
            .with("moving the relay's checkpoint in", move |connection| {
                let reference = checkpoint.reference.map(|reference| reference.0);
                connection.prepare_cached(include_str!("relay/save.sql"))?.execute(params![
                    partition.get(),
                    epoch.0 as i64,
                    checkpoint.position.get() as i64,
                    reference
                ])
            })
            .await?;
        if saved == 0 { Err(superseded(partition, epoch)) } else { Ok(()) }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|cause| {
        Err(Error::internal(format!("a relay's checkpoints: {cause}; please report this")))
    })
}
