//! Who writes which partition, when several processes do.

use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Result};
use headwater_log::{Head, Holdings, LeaseStore, Member};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::log::PostgresLog;
use super::pool::Pool;
use super::rows::Broken;

const STATE: &str = "leases";

#[async_trait]
impl LeaseStore for PostgresLog {
    async fn renew(&self, member: &Member, term: Duration) -> Result<Holdings> {
        let pool = self.in_time(term);
        pool.read("renew leases", |mut connection| async move {
            sqlx::query(include_str!("log/renew.sql"))
                .bind(self.now())
                .bind(member.id.to_string())
                .bind(&member.address)
                .bind(micros(term))
                .execute(&mut *connection)
                .await
        })
        .await
        .map_err(|error| self.pool.explain("renewing leases of", &error))?;
        let rows = pool
            .read("look at leases", |mut connection| async move {
                sqlx::query(include_str!("log/holdings.sql"))
                    .bind(self.now())
                    .fetch_all(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("reading", &error))?;
        let mut holdings = Holdings { members: Vec::new(), holders: vec![None; self.partitions()] };
        for row in &rows {
            let (member, partition) = holder(row).map_err(|error| self.broken(STATE, error))?;
            match partition {
                None => holdings.members.push(member),
                Some(number) => match holdings.holders.get_mut(number) {
                    Some(holder) => *holder = Some(member),
                    None => return Err(self.broken(STATE, format!("there is no partition {number}"))),
                },
            }
        }
        holdings.members.sort_by_key(|member| member.id);
        Ok(holdings)
    }

    async fn claim(
        &self,
        member: &Member,
        partitions: &[Partition],
        term: Duration,
    ) -> Result<Vec<Partition>> {
        let numbers = &self.numbers(partitions)?;
        let got: Vec<i64> = self
            .in_time(term)
            // Twice does no harm: what was got the first time is not got again, and the next look finds it.
            .read("claim partitions", |mut connection| async move {
                sqlx::query_scalar(include_str!("log/claim.sql"))
                    .bind(numbers)
                    .bind(self.now())
                    .bind(member.id.to_string())
                    .bind(&member.address)
                    .bind(micros(term))
                    .fetch_all(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("claiming partitions of", &error))?;
        let partition = |number: i64| u16::try_from(number).map(Partition::new);
        let mut got: Vec<Partition> = got
            .into_iter()
            .map(partition)
            .collect::<Result<_, _>>()
            .map_err(|error| self.broken(STATE, error))?;
        got.sort_unstable();
        Ok(got)
    }

    async fn release(&self, member: Uuid, partitions: &[Partition]) -> Result<()> {
        let numbers = &self.numbers(partitions)?;
        self.pool
            .read("release partitions", |mut connection| async move {
                sqlx::query(include_str!("log/release.sql"))
                    .bind(numbers)
                    .bind(member.to_string())
                    .execute(&mut *connection)
                    .await
            })
            .await
            .map(drop)
            .map_err(|error| self.pool.explain("releasing partitions of", &error))
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        self.pool
            .read("leave", |mut connection| async move {
                sqlx::query(include_str!("log/leave.sql"))
                    .bind(member.to_string())
                    .execute(&mut *connection)
                    .await
            })
            .await
            .map(drop)
            .map_err(|error| self.pool.explain("leaving", &error))
    }

    async fn acquire_as(&self, partition: Partition, member: Uuid) -> Result<Head> {
        self.take(partition, Some(member)).await
    }
}

fn holder(row: &PgRow) -> Result<(Member, Option<usize>), Broken> {
    let id: String = row.try_get("member")?;
    let member = Member { id: id.parse()?, address: row.try_get("address")? };
    let partition: Option<i64> = row.try_get("partition")?;
    Ok((member, partition.map(usize::try_from).transpose()?))
}

fn micros(term: Duration) -> i64 {
    i64::try_from(term.as_micros()).unwrap_or(i64::MAX)
}

impl PostgresLog {
    /// An answer that comes later than this is of no use: there must be time to ask once more before a lease of this term ends.
    fn in_time(&self, term: Duration) -> Pool {
        self.pool.within(term / 3)
    }

    fn numbers(&self, partitions: &[Partition]) -> Result<Vec<i64>, Error> {
        partitions.iter().map(|partition| self.check(*partition)).collect()
    }
}
