//! Who folds which partition, when several processes do.

use async_trait::async_trait;
use headwater_core::{Error, Result};
use headwater_view::{Holdings, Look, Member, SinkLeases, Standing};
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Broken, PostgresView};

fn corrupt(why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!(
        "reading who folds the read model: {why}; stop its workers, empty the tables hw_members and hw_leases, and start them again"
    ))
}

#[async_trait]
impl SinkLeases for PostgresView {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        let pool = &self.0.pool;
        let partitions = look.partitions.get();
        let numbers: &[i64] =
            &look.partitions.partitions().map(|partition| partition.get().into()).collect::<Vec<_>>();
        let held: &[bool] =
            &look.partitions.partitions().map(|partition| look.hold.contains(&partition)).collect::<Vec<_>>();
        let member = &look.member;
        let rows = pool
            .read("look at leases", |mut connection| async move {
                sqlx::query(include_str!("look.sql"))
                    .bind(member.id)
                    .bind(&member.name)
                    .bind(member.standing.as_str())
                    .bind(&member.report)
                    .bind(i64::try_from(look.term.as_micros()).unwrap_or(i64::MAX))
                    .bind(numbers)
                    .bind(held)
                    .fetch_all(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| pool.explain("looking at the leases of", &error))?;
        let mut holdings = Holdings { members: vec![member.clone()], holders: vec![None; partitions] };
        for row in &rows {
            read(row, &mut holdings).map_err(corrupt)?;
        }
        holdings.members.sort_by_key(|member| member.id);
        Ok(holdings)
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        let pool = &self.0.pool;
        pool.read("leave", |mut connection| async move {
            sqlx::query(include_str!("leave.sql")).bind(member).execute(&mut *connection).await
        })
        .await
        .map(drop)
        .map_err(|error| pool.explain("giving up the leases of", &error))
    }
}

fn read(row: &PgRow, holdings: &mut Holdings) -> Result<(), Broken> {
    let id: Uuid = row.try_get("member")?;
    let Some(partition) = row.try_get::<Option<i64>, _>("partition")? else {
        let standing: String = row.try_get("standing")?;
        // A newer Headwater's: it is there, and nothing is known of its share.
        let standing = Standing::parse(&standing).unwrap_or(Standing::Watches);
        let (name, report) = (row.try_get("name")?, row.try_get("report")?);
        holdings.members.push(Member { id, name, standing, report });
        return Ok(());
    };
    // Partitions that are not asked about have no place.
    if let Some(holder) = usize::try_from(partition).ok().and_then(|at| holdings.holders.get_mut(at)) {
        *holder = Some(id);
    }
    Ok(())
}
