//! The fixture that histories run on: an event stream of additions, and a projection that sums them up.
//!
//! A stream id is a counter. Its rows are checked against a fold of the events that the log gives, which is written here
//! again, in four lines, so that the projection is never its own judge.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::dev::write;
use crate::http::Event;

/// The event stream.
pub const STREAM: &str = "counters";
/// The projection, and its table.
pub const PROJECTION: &str = "totals";

const EVENT_STREAM: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: counters}
spec:
  partitions: 3
  database: {type: PostgreSQL, urlSecretRef: {name: counters-db, key: uri}}
---
apiVersion: v1
kind: Secret
metadata: {name: counters-db}
stringData: {uri: postgres://counters@db/counters}
";

/// Writes the manifests into `directory`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_manifests(directory: &Path) -> Result<()> {
    write(directory, "eventstream.yaml", EVENT_STREAM)?;
    write_projection(directory, "total")
}

/// The same with a bus, as `spec.bus` says it.
///
/// # Errors
/// As [`write_manifests`].
pub fn write_manifests_with_bus(directory: &Path, bus: &str) -> Result<()> {
    let text = EVENT_STREAM.replacen("  partitions: 3\n", &format!("  partitions: 3\n  bus: {bus}\n"), 1);
    write(directory, "eventstream.yaml", &text)?;
    write_projection(directory, "total")
}

/// Writes the projection with its sum in `column`: another name is another revision.
///
/// # Errors
/// When the file cannot be written.
pub fn write_projection(directory: &Path, column: &str) -> Result<()> {
    let text = format!(
        "\
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {{name: totals}}
spec:
  streamRef: {{name: counters}}
  tables:
  - name: totals
    key: [id]
    columns:
    - {{name: id, type: Text}}
    - {{name: events, type: Integer, default: \"0\"}}
    - {{name: {column}, type: Decimal, default: \"0\"}}
  rules:
  - {{events: [Added], type: Increment, table: totals, key: {{id: event.streamId}}, by: {{{column}: event.data.amount, events: \"1\"}}}}
"
    );
    write(directory, "projection.yaml", &text)
}

/// The data of an addition.
pub fn added(amount: u64) -> Value {
    json!({"amount": amount})
}

/// Checks that `rows` are what `events` add up to.
///
/// # Errors
/// The first counter that is wrong.
pub fn check_rows(events: &[Event], rows: &[Value], column: &str) -> Result<()> {
    let mut totals: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for event in events {
        let total = totals.entry(&event.stream_id).or_default();
        total.0 += 1;
        total.1 += event.data["amount"].as_u64().context("an amount")?;
    }
    ensure!(rows.len() == totals.len(), "{} rows for {} counters", rows.len(), totals.len());
    for (id, (count, total)) in totals {
        let row = rows.iter().find(|row| row["id"] == id).with_context(|| format!("no row for {id}"))?;
        let expected = json!({"id": id, "events": count.to_string(), column: total.to_string()});
        ensure!(*row == expected, "the row is {row}, the events add up to {expected}");
    }
    Ok(())
}
