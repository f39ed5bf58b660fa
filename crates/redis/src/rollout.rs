//! The rollout, changed by compare-and-set on its version, and what dropped revisions leave.

use headwater_core::{Error, LogId, Partition, PartitionCount, Positions, Result, Token};
use headwater_view::{
    Change, ChangeError, Declared, Previous, Revision, RevisionRecord, Rollout, RolloutVersion, TableSchema,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::batch::clash;
use crate::call::Call;
use crate::order::orders;
use crate::view::Inner;

/// Rows that are removed at a time.
const STEP: usize = 500;

/// A rollout as it is stored, but for its version and revisions, which have fields of their own.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRollout {
    log_id: Option<Uuid>,
    partitions: Option<u32>,
    start: Option<String>,
    active: Option<u32>,
    candidate: Option<u32>,
    previous: Option<u32>,
    previous_until: Option<i64>,
    /// Read models of before have none.
    #[serde(default)]
    declared: Option<Declared>,
    held_digest: Option<String>,
    last_revision: u32,
}

/// What never changes about a revision, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRecord {
    digest: String,
    definition: String,
    tables: Vec<TableSchema>,
    created_at: i64,
}

fn corrupt(what: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!(
        "reading {what} of the read model in Redis: {why}; rebuild it under another prefix"
    ))
}

fn write_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal(format!("writing the rollout: {error}")))
}

fn moment(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt("a moment", error))
}

/// Reads the record of `revision`.
pub(crate) fn record(revision: Revision, text: &str) -> Result<RevisionRecord> {
    let stored: StoredRecord = serde_json::from_str(text).map_err(|error| corrupt("a revision", error))?;
    stored.tables.iter().try_for_each(TableSchema::check).map_err(|error| corrupt("a revision", error))?;
    Ok(RevisionRecord {
        revision,
        digest: stored.digest,
        definition: stored.definition,
        tables: stored.tables,
        created_at: moment(stored.created_at)?,
    })
}

fn write_record(record: &RevisionRecord) -> Result<String> {
    write_json(&StoredRecord {
        digest: record.digest.clone(),
        definition: record.definition.clone(),
        tables: record.tables.clone(),
        created_at: record.created_at.as_microsecond(),
    })
}

fn write(rollout: &Rollout) -> Result<String> {
    let number = |revision: Option<Revision>| revision.map(|revision| revision.0);
    write_json(&StoredRollout {
        log_id: rollout.log.map(|(log_id, _)| log_id.as_uuid()),
        partitions: rollout.log.map(|(_, count)| count.get() as u32),
        start: rollout.log.map(|(log_id, _)| Token::new(log_id, rollout.start.clone()).to_string()),
        active: number(rollout.active),
        candidate: number(rollout.candidate),
        previous: number(rollout.previous.map(|previous| previous.revision)),
        previous_until: rollout.previous.map(|previous| previous.until.as_microsecond()),
        declared: rollout.declared.clone(),
        held_digest: rollout.held_digest.clone(),
        last_revision: rollout.last_revision,
    })
}

fn read(version: RolloutVersion, text: &str, revisions: Vec<RevisionRecord>) -> Result<Rollout> {
    let stored: StoredRollout = serde_json::from_str(text).map_err(|error| corrupt("the rollout", error))?;
    let log = match (stored.log_id, stored.partitions) {
        (Some(id), Some(count)) => Some((LogId::from_uuid(id), PartitionCount::new(count)?)),
        _ => None,
    };
    let start = match stored.start {
        Some(token) => token.parse::<Token>()?.positions,
        None => Positions::default(),
    };
    let previous = match (stored.previous, stored.previous_until) {
        (Some(revision), Some(until)) => {
            Some(Previous { revision: Revision(revision), until: moment(until)? })
        }
        _ => None,
    };
    Ok(Rollout {
        version,
        log,
        start,
        active: stored.active.map(Revision),
        candidate: stored.candidate.map(Revision),
        previous,
        declared: stored.declared,
        held_digest: stored.held_digest,
        last_revision: stored.last_revision,
        revisions,
    })
}

/// All fields of the state: one command, so one moment.
async fn state(view: &Inner) -> Result<Vec<(String, String)>> {
    let mut ask = redis::cmd("HGETALL");
    ask.arg(view.keys.state());
    view.link.ask("reading the rollout", &ask).await?.pairs()
}

/// The revisions in fields that begin with `what`.
fn revisions<'s>(state: &'s [(String, String)], what: &str) -> Result<Vec<(Revision, &'s str)>> {
    let mut found = Vec::new();
    for (field, value) in state {
        if let Some(number) = field.strip_prefix(what).and_then(|rest| rest.strip_prefix(':')) {
            let number = number.parse().map_err(|error| corrupt("a revision's number", error))?;
            found.push((Revision(number), value.as_str()));
        }
    }
    found.sort_unstable_by_key(|(revision, _)| *revision);
    Ok(found)
}

/// The place was emptied, and may be somebody else's since.
fn not_ours(view: &Inner, whose: Option<&str>) -> Error {
    let place = view.link.place();
    match whose {
        None => Error::unavailable(format!(
            "{place} was emptied: nothing says any more whose \"{}\" is; the read model is built anew",
            view.keys.state()
        )),
        Some(whose) => Error::failed_precondition(format!(
            "{place} was emptied, and \"{}\" is the read model of projection \"{whose}\" since, and not of \"{}\": give one of them another prefix, by \
             sink.redis.keyPrefix, and start it again",
            view.keys.state(),
            view.name
        )),
    }
}

pub(crate) async fn load(view: &Inner) -> Result<Rollout> {
    let state = state(view).await?;
    let field = |name: &str| state.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
    let Some(version) = field("version") else { return Ok(Rollout::default()) };
    if field("projection") != Some(&view.name) {
        return Err(not_ours(view, field("projection")));
    }
    let version = version.parse().map_err(|error| corrupt("the rollout's version", error))?;
    let records = revisions(&state, "record")?.into_iter().map(|(revision, text)| record(revision, text));
    let records = records.collect::<Result<_>>()?;
    read(RolloutVersion(version), field("rollout").unwrap_or_default(), records)
}

pub(crate) async fn change(
    view: &Inner,
    version: RolloutVersion,
    change: &Change,
) -> Result<Rollout, ChangeError> {
    let before = load(view).await?;
    if before.version != version {
        return Err(ChangeError::Stale { found: before.version });
    }
    let now = Timestamp::now();
    let mut after = before.after(change, now)?;
    if before.version == RolloutVersion::default() {
        // A server that was emptied counts from elsewhere: what was decided on a version of before is decided on none of now.
        after.version = RolloutVersion(now.as_microsecond().unsigned_abs());
    }
    let new: Vec<&RevisionRecord> =
        after.revisions.iter().filter(|record| before.record(record.revision).is_none()).collect();
    let gone: Vec<&RevisionRecord> =
        before.revisions.iter().filter(|record| after.record(record.revision).is_none()).collect();
    let mut call = Call::default()
        .key(view.keys.state())
        .key(view.keys.active())
        .arg(&view.name)
        .number(before.version.0)
        .number(after.version.0)
        .arg(write(&after)?)
        .number(after.active.map(|revision| u64::from(revision.0)))
        .number(new.len() as u64);
    for record in &new {
        call = call
            .key(view.keys.progress(record.revision))
            .arg(record.revision.to_string())
            .arg(Uuid::new_v4().simple().to_string())
            .arg(write_record(record)?);
        let partitions = after.log.map_or(0, |(_, count)| count.get());
        call.args.push_number(partitions as u64);
        for number in 0..partitions {
            call.args.push_number(after.start.get(Partition::new(number as u16)).get());
        }
    }
    for record in &gone {
        call.args.push(record.revision.to_string());
    }
    let mut reply = view.link.write("changing the rollout", &view.scripts.change, &call, true).await?;
    match reply.text()?.as_str() {
        "ok" => {}
        "stale" => return Err(ChangeError::Stale { found: RolloutVersion(reply.number()?) }),
        "other" => return Err(not_ours(view, reply.maybe_text()?.as_deref()).into()),
        _ => return Err(clash("changing the rollout", view, reply)?.into()),
    }
    if !gone.is_empty()
        && let Err(error) = collect(view).await
    {
        tracing::warn!(
            "removing what a dropped revision has left in {}: {error}; it is tried again at the next start, and when another is dropped",
            view.link.place()
        );
    }
    Ok(after)
}

/// Removes what dropped revisions have left, step by step; one that was cut off is gone on with.
pub(crate) async fn collect(view: &Inner) -> Result<()> {
    let state = state(view).await?;
    for (revision, text) in revisions(&state, "dropped")? {
        let record = record(revision, text)?;
        for table in &record.tables {
            if !collect_rows(view, &record, text, table).await? {
                return Ok(());
            }
        }
        let keys = &view.keys;
        let mut call = Call::default()
            .key(keys.state())
            .key(keys.progress(revision))
            .key(keys.parked(revision))
            .key(keys.parked_streams(revision))
            .key(keys.parked_events(revision))
            .arg(revision.to_string())
            .arg(text)
            .arg("end");
        for table in &record.tables {
            call.keys.push(keys.versions(revision, &table.name));
            for number in 0..orders(table).len() {
                call.keys.push(keys.order(revision, &table.name, number));
                call.keys.push(keys.entries(revision, &table.name, number));
            }
        }
        view.link.write("removing a dropped revision", &view.scripts.collect, &call, false).await?;
    }
    Ok(())
}

/// Removes a table's rows. `false`: the revision is not dropped any more.
async fn collect_rows(
    view: &Inner,
    record: &RevisionRecord,
    text: &str,
    table: &TableSchema,
) -> Result<bool> {
    let versions = view.keys.versions(record.revision, &table.name);
    let prefix = view.keys.rows(record.revision, &table.name).into_bytes();
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(&versions).arg(&cursor).arg("COUNT").arg(STEP);
        let mut reply = view.link.ask("removing a dropped revision", &scan).await?;
        // A step may find nothing where others have removed what was there; only the cursor says that it was the last.
        cursor = reply.text()?;
        let names = reply.list()?.all_bytes().step_by(2).collect::<Result<Vec<_>>>()?;
        let mut call = Call::default()
            .key(view.keys.state())
            .key(&versions)
            .arg(record.revision.to_string())
            .arg(text)
            .arg("rows");
        for name in names.into_iter().flatten() {
            call.keys.push([&prefix[..], &name].concat());
            call.args.push(name);
        }
        let mut reply =
            view.link.write("removing a dropped revision", &view.scripts.collect, &call, false).await?;
        if reply.text()? == "0" {
            return Ok(false);
        }
        if cursor == "0" {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::Position;
    use headwater_view::{Cell, Column, ColumnType, Generation, SpecGeneration, Writers};

    use super::*;

    #[test]
    fn a_rollout_has_a_golden_form() {
        let log_id = LogId::from_uuid(Uuid::from_u128(7));
        let rollout = Rollout {
            version: RolloutVersion(4),
            log: Some((log_id, PartitionCount::new(2).unwrap())),
            start: Positions::one(Partition::new(1), Position::new(10)),
            active: Some(Revision(2)),
            candidate: None,
            previous: Some(Previous { revision: Revision(1), until: Timestamp::UNIX_EPOCH }),
            declared: Some(Declared {
                generation: SpecGeneration {
                    projection: Generation { created_at: 1_790_000_000, number: 2 },
                    event_stream: Generation { created_at: 1_780_000_000, number: 5 },
                },
                digest: "c".to_owned(),
            }),
            held_digest: Some("b".to_owned()),
            last_revision: 3,
            revisions: vec![],
        };
        let token = Token::new(log_id, rollout.start.clone());
        let declared = r#""declared":{"generation":{"projection":{"created_at":1790000000,"number":2},"event_stream":{"created_at":1780000000,"number":5}},"digest":"c"},"#;
        let golden = |declared: &str| {
            format!(
                r#"{{"log_id":"00000000-0000-0000-0000-000000000007","partitions":2,"start":"{token}","active":2,"candidate":null,"previous":1,"previous_until":0,{declared}"held_digest":"b","last_revision":3}}"#
            )
        };
        assert_eq!(write(&rollout).unwrap(), golden(declared));
        assert_eq!(read(RolloutVersion(4), &golden(declared), vec![]).unwrap(), rollout);
        let first = Rollout { declared: None, ..rollout };
        assert_eq!(read(RolloutVersion(4), &golden(""), vec![]).unwrap(), first);
        assert!(read(RolloutVersion(4), "{\"more\":1}", vec![]).is_err());
    }

    #[test]
    fn a_record_has_a_golden_form() {
        let column = Column { field: Some("Id".into()), ..Column::new("id", ColumnType::Text, Cell::Null) };
        let one = RevisionRecord {
            revision: Revision(1),
            digest: "d".to_owned(),
            definition: "{}".to_owned(),
            tables: vec![TableSchema {
                name: "t".to_owned(),
                columns: vec![column],
                key: vec![0],
                indexes: vec![],
                writers: Writers::Free,
            }],
            created_at: Timestamp::UNIX_EPOCH,
        };
        let golden = r#"{"digest":"d","definition":"{}","tables":[{"name":"t","columns":[{"name":"id","type":"Text","default":"Null","field":"Id"}],"key":[0],"indexes":[],"writers":"Free"}],"created_at":0}"#;
        assert_eq!(write_record(&one).unwrap(), golden);
        assert_eq!(record(Revision(1), golden).unwrap(), one);
    }
}
