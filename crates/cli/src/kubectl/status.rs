//! How the resources stand: event streams, and under each what follows it.

use std::collections::BTreeMap;

use anyhow::Result;
use headwater_core::Error;
use headwater_resources::shared::Count;
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use super::cluster::{Cluster, condition};
use super::target::Kind;
use crate::console::{Colour, Console, count};

/// Show event streams, and under each the projections and sagas that follow it: whether they are well, and how far.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kubectl headwater status
  kubectl headwater status orders
  kubectl headwater status --all-namespaces --output json")]
pub(crate) struct Arguments {
    /// Only what has this name, and what follows it.
    name: Option<String>,

    /// Of all namespaces.
    #[arg(long, short = 'A')]
    all_namespaces: bool,
}

/// A resource, as far as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    namespace: String,
    kind: &'static str,
    name: String,
    /// The event stream that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    /// `True`, `False` or `Unknown`.
    ready: String,
    reason: String,
    /// What a person should read, where something is not well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
    /// How far it is.
    state: String,
    /// Pods that are ready, of those wanted.
    pods: String,
}

impl Row {
    fn new(
        kind: Kind,
        resource: &impl kube::Resource<DynamicType = ()>,
        stream: Option<&str>,
        conditions: &[Condition],
        state: String,
        pods: Option<&String>,
    ) -> Self {
        let ready = condition(conditions, "Ready");
        let is_well = |condition: &&Condition| match condition.type_.as_str() {
            "Ready" | "ResolvedRefs" => condition.status == "True",
            "Stalled" | "NeedsAttention" | "ReconciliationPaused" => condition.status != "True",
            // What is under way, or behind, is no fault.
            _ => true,
        };
        let mut messages: Vec<String> = Vec::new();
        for condition in conditions.iter().filter(|it| !is_well(it)) {
            if !condition.message.is_empty() && !messages.contains(&condition.message) {
                messages.push(condition.message.clone());
            }
        }
        Self {
            namespace: resource.namespace().unwrap_or_default(),
            kind: kind.as_str(),
            name: resource.name_any(),
            stream: stream.map(str::to_owned),
            ready: ready.map_or("Unknown", |it| it.status.as_str()).to_owned(),
            reason: ready.map_or("NotLookedAt", |it| it.reason.as_str()).to_owned(),
            messages,
            state,
            pods: pods.cloned().unwrap_or_else(|| "-".to_owned()),
        }
    }

    fn of_stream(it: &EventStream) -> Self {
        let status = it.status.clone().unwrap_or_default();
        let state = status.head.map_or_else(|| "-".to_owned(), |head| count(head.0, "event"));
        let pods = status.replicas_ready.as_ref();
        Self::new(Kind::EventStream, it, None, &status.conditions, state, pods)
    }

    fn of_projection(it: &Projection) -> Self {
        let status = it.status.clone().unwrap_or_default();
        let mut state = Vec::new();
        if let Some(active) = &status.active {
            state.push(format!("revision {}", active.revision.0));
        }
        // By its first digit: it is written no finer.
        match &status.lag {
            Some(lag) if lag.events.0 > 0 => {
                state.push(format!("some {} behind", count(lag.events.0, "event")));
            }
            Some(_) => state.push("current".to_owned()),
            None => {}
        }
        if let Some(rollout) = status.rollout.as_ref().filter(|rollout| *rollout != "Current") {
            state.push(rollout.clone());
        }
        if let Some(parked) = status.parked.filter(|parked| *parked > 0) {
            state.push(format!("{parked} parked"));
        }
        let (stream, pods) = (Some(it.spec.stream_ref.name.as_str()), status.replicas_ready.as_ref());
        Self::new(Kind::Projection, it, stream, &status.conditions, state.join(", "), pods)
    }

    fn of_saga(it: &Saga) -> Self {
        let status = it.status.clone().unwrap_or_default();
        let counts = [
            (status.running, "running"),
            (status.compensating, "compensating"),
            (status.needs_attention, "stuck"),
        ];
        let ended = [(status.completed, "completed"), (status.compensated, "compensated")];
        let ended = ended.map(|(number, what)| (number.map(|Count(it)| it.cast_signed()), what));
        let shown = counts.into_iter().chain(ended).filter_map(|(number, what)| {
            let number = number.filter(|number| *number > 0 || what == "running")?;
            Some(format!("{number} {what}"))
        });
        let state: Vec<String> = shown.collect();
        let (stream, pods) = (Some(it.spec.stream_ref.name.as_str()), status.replicas_ready.as_ref());
        Self::new(Kind::Saga, it, stream, &status.conditions, state.join(", "), pods)
    }
}

pub(super) async fn run(arguments: &Arguments, cluster: &Cluster, console: &Console) -> Result<()> {
    let everywhere = arguments.all_namespaces;
    let mut rows: Vec<Row> =
        cluster.list::<EventStream>(everywhere).await?.iter().map(Row::of_stream).collect();
    rows.extend(cluster.list::<Projection>(everywhere).await?.iter().map(Row::of_projection));
    rows.extend(cluster.list::<Saga>(everywhere).await?.iter().map(Row::of_saga));
    if let Some(name) = &arguments.name {
        rows.retain(|row| row.name == *name || row.stream.as_ref() == Some(name));
        if rows.is_empty() {
            let message = format!("there is no resource \"{name}\" in namespace \"{}\"", cluster.namespace);
            return Err(Error::not_found(message).into());
        }
    }
    if console.is_json() {
        return rows.iter().try_for_each(|row| Ok(console.json(row)?));
    }
    if rows.is_empty() {
        let place = if everywhere { "the cluster" } else { &cluster.namespace };
        return Ok(console.line(&format!("{place} has no EventStream, Projection or Saga"))?);
    }
    print(&rows, everywhere, console)
}

fn print(rows: &[Row], everywhere: bool, console: &Console) -> Result<()> {
    let ordered = tree(rows);
    let lines = ordered.iter().map(|(branch, row)| {
        let place =
            if everywhere && branch.is_empty() { format!("{}: ", row.namespace) } else { String::new() };
        [
            format!("{place}{branch}{} {}", row.kind, row.name),
            row.ready.clone(),
            row.reason.clone(),
            row.state.clone(),
            row.pods.clone(),
        ]
    });
    console.table(&["resource", "ready", "reason", "state", "pods"], lines)?;
    for (_, row) in &ordered {
        for message in &row.messages {
            let who = console.paint(Colour::Yellow, &format!("{} {}", row.kind, row.name));
            console.line(&format!("\n{who}: {message}"))?;
        }
    }
    Ok(())
}

/// Event streams in order, each before what follows it; at the end what follows one that is not there.
fn tree(rows: &[Row]) -> Vec<(&'static str, &Row)> {
    let mut followers: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        if let Some(stream) = &row.stream {
            followers.entry((&row.namespace, stream)).or_default().push(row);
        }
    }
    let mut roots: Vec<&Row> = rows.iter().filter(|row| row.stream.is_none()).collect();
    roots.sort_by_key(|row| (&row.namespace, &row.name));
    let mut ordered = Vec::new();
    for root in roots {
        ordered.push(("", root));
        let mut under = followers.remove(&(root.namespace.as_str(), root.name.as_str())).unwrap_or_default();
        under.sort_by_key(|row| (row.kind, &row.name));
        let last = under.len().saturating_sub(1);
        ordered.extend(
            under.into_iter().enumerate().map(|(at, row)| (if at == last { "└─ " } else { "├─ " }, row)),
        );
    }
    ordered.extend(followers.into_values().flatten().map(|row| ("", row)));
    ordered
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::console::Format;

    fn rows() -> Vec<Row> {
        let stream = |name: &str, namespace: &str| {
            Row::of_stream(
                &serde_json::from_value(json!({
                    "apiVersion": "headwater.dev/v1alpha1", "kind": "EventStream",
                    "metadata": {"name": name, "namespace": namespace},
                    "spec": {},
                    "status": {"head": "18234", "replicasReady": "2/2", "conditions": [
                        {"type": "Ready", "status": "True", "reason": "Available", "message": "it answers", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
                }))
                .unwrap(),
            )
        };
        let projection = Row::of_projection(
            &serde_json::from_value(json!({
                "apiVersion": "headwater.dev/v1alpha1", "kind": "Projection",
                "metadata": {"name": "totals", "namespace": "shop"},
                "spec": {"streamRef": {"name": "orders"}, "tables": [], "rules": []},
                "status": {
                    "active": {"revision": "3", "digest": "d"}, "lag": {"events": "2000", "seconds": 1}, "rollout": "Replaying 42%",
                    "parked": 2, "replicasReady": "1/1",
                    "conditions": [
                        {"type": "Ready", "status": "True", "reason": "Available", "message": "it answers", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                        {"type": "NeedsAttention", "status": "True", "reason": "EventsParked", "message": "2 events are set aside", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                },
            }))
            .unwrap(),
        );
        let saga = |name: &str, stream: &str| {
            Row::of_saga(
                &serde_json::from_value(json!({
                    "apiVersion": "headwater.dev/v1alpha1", "kind": "Saga",
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {"streamRef": {"name": stream}, "startOn": {"events": ["A"]}, "steps": []},
                    "status": {"running": 0, "compensating": 1, "needsAttention": 0, "completed": "0", "compensated": "12"},
                }))
                .unwrap(),
            )
        };
        vec![
            stream("orders", "shop"),
            stream("bills", "shop"),
            projection,
            saga("place-order", "orders"),
            saga("lost", "nowhere"),
        ]
    }

    #[test]
    fn what_follows_stands_under_its_event_stream() {
        let rows = rows();
        let ordered: Vec<String> = tree(&rows)
            .into_iter()
            .map(|(branch, row)| format!("{branch}{} {}", row.kind, row.name))
            .collect();
        assert_eq!(
            ordered,
            [
                "EventStream bills",
                "EventStream orders",
                "├─ Projection totals",
                "└─ Saga place-order",
                "Saga lost"
            ]
        );
    }

    #[test]
    fn a_row_says_how_far_it_is_and_what_is_not_well() {
        let rows = rows();
        assert_eq!((rows[0].state.as_str(), rows[0].pods.as_str()), ("18,234 events", "2/2"));
        assert_eq!(rows[2].state, "revision 3, some 2,000 events behind, Replaying 42%, 2 parked");
        assert_eq!(rows[2].messages, ["2 events are set aside"]);
        assert_eq!((rows[3].ready.as_str(), rows[3].reason.as_str()), ("Unknown", "NotLookedAt"));
        assert_eq!(rows[3].state, "0 running, 1 compensating, 12 compensated");
        let json = serde_json::to_value(&rows[0]).unwrap();
        assert_eq!(json["kind"], "EventStream");
        assert!(json.get("messages").is_none() && json.get("stream").is_none());
        print(&rows, true, &Console::new(Format::Table, false, true)).unwrap();
    }
}
