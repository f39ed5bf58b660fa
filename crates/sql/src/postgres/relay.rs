//! How far a log has been relayed to a bus, beside the log.

use async_trait::async_trait;
use headwater_bus::{BrokerReference, Checkpoint, RelayState, superseded};
use headwater_core::{Partition, Position, Result};
use headwater_log::Epoch;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::log::PostgresLog;
use super::rows::Broken;

#[async_trait]
impl RelayState for PostgresLog {
    async fn load(&self, partition: Partition, epoch: Epoch) -> Result<Checkpoint> {
        let number = self.check(partition)?;
        let row = self
            .pool
            .read("load a relay's checkpoint", |mut connection| async move {
                sqlx::query(include_str!("log/relay_load.sql"))
                    .bind(number)
                    .bind(epoch.0 as i64)
                    .fetch_optional(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("reading the relay's checkpoint of", &error))?;
        let row = row.ok_or_else(|| superseded(partition, epoch))?;
        checkpoint(&row).map_err(|error| self.broken("the relay's checkpoint", error))
    }

    async fn save(&self, partition: Partition, epoch: Epoch, checkpoint: Checkpoint) -> Result<()> {
        let number = self.check(partition)?;
        let reference = checkpoint.reference.as_ref().map(|reference| reference.0.as_str());
        let saved = self
            .pool
            .read("save a relay's checkpoint", |mut connection| async move {
                sqlx::query(include_str!("log/relay_save.sql"))
                    .bind(number)
                    .bind(epoch.0 as i64)
                    .bind(checkpoint.position.get() as i64)
                    .bind(reference)
                    .execute(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("moving the relay's checkpoint of", &error))?;
        if saved.rows_affected() == 0 { Err(superseded(partition, epoch)) } else { Ok(()) }
    }
}

fn checkpoint(row: &PgRow) -> Result<Checkpoint, Broken> {
    let position: i64 = row.try_get(0)?;
    let reference: Option<String> = row.try_get(1)?;
    Ok(Checkpoint {
        position: Position::new(u64::try_from(position)?),
        reference: reference.map(BrokerReference),
    })
}
