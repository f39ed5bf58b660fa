//! Parked events: by stream id, each an entry in a sorted set that begins with its stream id and position.

use headwater_core::{Error, Partition, Position, Result, StreamId};
use headwater_view::{Park, ParkChange, ParkVersion, ParkedEvent, ParkedStream, Revision};
use jiff::Timestamp;
use uuid::Uuid;

use crate::call::{Reply, Texts};
use crate::order::push_text;
use crate::view::Inner;

/// Which stream ids.
pub(crate) enum Which<'s> {
    One(&'s StreamId),
    After(Option<&'s StreamId>),
}

/// What all places of a stream id's events begin with.
fn beginning(stream_id: &StreamId) -> Vec<u8> {
    let mut bytes = Vec::new();
    push_text(&mut bytes, stream_id.as_str());
    bytes
}

/// An event's member in the sorted set: stream id, position, id, type. Part of the stored formats.
fn place(beginning: &[u8], event: &ParkedEvent) -> Vec<u8> {
    let position = event.position.get().to_be_bytes();
    [beginning, &position, event.id.as_bytes(), event.event_type.as_bytes()].concat()
}

fn event(beginning: &[u8], place: &[u8]) -> Option<ParkedEvent> {
    let (position, rest) = place.strip_prefix(beginning)?.split_first_chunk::<8>()?;
    let (id, event_type) = rest.split_first_chunk::<16>()?;
    Some(ParkedEvent {
        position: Position::new(u64::from_be_bytes(*position)),
        id: Uuid::from_bytes(*id),
        event_type: String::from_utf8(event_type.to_vec()).ok()?,
    })
}

/// One change, as `apply.lua` takes it.
pub(crate) fn push(park: &Park, args: &mut Texts) {
    args.push(park.stream_id.as_str());
    args.push_number(u64::from(park.partition.get()));
    args.push_number(park.expected.map(|version| version.0));
    let beginning = beginning(&park.stream_id);
    match &park.change {
        ParkChange::Append { events, reason } => {
            args.push("a");
            args.push(Timestamp::now().as_microsecond().to_string());
            args.push(reason);
            args.push_number(events.len() as u64);
            for event in events {
                args.push(place(&beginning, event));
            }
        }
        ParkChange::Release { through, skipped, reason } => {
            let beyond = through.get().saturating_add(1).to_be_bytes();
            args.push("r");
            args.push([b"[", &beginning[..]].concat());
            args.push([b"(", &beginning[..], &beyond].concat());
            args.push([b"(", &beginning[..], &[0xff]].concat());
            args.push_number(*skipped);
            args.push(reason);
        }
    }
}

/// Lists stream ids with their first events.
pub(crate) async fn list(
    view: &Inner,
    revision: Revision,
    which: Which<'_>,
    limit: usize,
    events: usize,
) -> Result<Vec<ParkedStream>> {
    let layout = view.layout(revision).await?;
    let (way, from) = match which {
        Which::One(stream_id) => ("one", stream_id.to_string()),
        Which::After(None) => ("after", "-".to_owned()),
        Which::After(Some(stream_id)) => ("after", format!("({stream_id}")),
    };
    let count = |number: usize| number.min(i64::MAX as usize) as u64;
    let call = layout
        .call(&view.keys)
        .key(view.keys.parked(revision))
        .key(view.keys.parked_streams(revision))
        .key(view.keys.parked_events(revision))
        .arg(way)
        .arg(from)
        .number(count(limit))
        .number(count(events));
    let reply = view.link.read("reading parked events", &view.scripts.parked, &call).await?;
    let (_, mut reply) = view.ended(&layout, reply)?;
    reply.list()?.lists().map(|entry| read(entry?)).collect()
}

fn read(mut entry: Reply) -> Result<ParkedStream> {
    let stream_id = StreamId::new(entry.text()?)?;
    let kept = entry.text()?;
    let count = entry.number()?;
    let beginning = beginning(&stream_id);
    let events = entry.list()?.all_bytes().map(|place| Ok(event(&beginning, &place?.unwrap_or_default())));
    let events = events.collect::<Result<Option<Vec<_>>>>()?;
    let shown = events.and_then(|events| {
        let mut words = kept.splitn(4, ' ');
        let version = ParkVersion(words.next()?.parse().ok()?);
        let partition = Partition::new(words.next()?.parse().ok()?);
        let since = Timestamp::from_microsecond(words.next()?.parse().ok()?).ok()?;
        let reason = words.next()?.to_owned();
        Some(ParkedStream { stream_id, partition, version, reason, since, count, events })
    });
    shown.ok_or_else(|| {
        Error::corrupt(
            "reading parked events in Redis: they are of a newer form, or not Headwater's; rebuild the projection",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_event_has_a_golden_form() {
        let stream_id = StreamId::new("a").unwrap();
        let parked = ParkedEvent {
            position: Position::new(258),
            id: Uuid::from_u128(3),
            event_type: "Created".to_owned(),
        };
        let beginning = beginning(&stream_id);
        let bytes = place(&beginning, &parked);
        let golden = [
            &b"a\0\0"[..],
            &[0, 0, 0, 0, 0, 0, 1, 2],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
            b"Created",
        ]
        .concat();
        assert_eq!(bytes, golden);
        assert_eq!(event(&beginning, &golden), Some(parked));
        assert_eq!(event(&beginning, &golden[..20]), None);
    }
}
