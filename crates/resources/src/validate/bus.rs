//! The bus of an event stream: addresses that are some, a topic that may be, and what the programs cannot do yet.

use super::address;
use crate::event_stream::{Bus, BusType, EventStream, EventStreamSpec, Kafka, Nats, Provision};
use crate::fault::{Path, Problem};
use crate::shared::Duration;

/// What no topic may be compressed with: it is not part of what is built here.
const NOT_BUILT: &str = "zstd";

/// What an address of NATS may begin with.
const NATS_SCHEMES: [&str; 2] = ["nats", "tls"];

/// All that is wrong with the bus of `spec`.
pub(super) fn bus(spec: &EventStreamSpec, path: &Path, problems: &mut Vec<Problem>) {
    let bus = &spec.bus;
    if let (BusType::Nats, Some(nats)) = (bus.r#type, &bus.nats) {
        check_nats(nats, spec, &path.field("nats"), problems);
    }
    if let (BusType::Kafka, Some(kafka)) = (bus.r#type, &bus.kafka) {
        check_kafka(kafka, bus, &path.field("kafka"), problems);
    }
    if bus.r#type != BusType::None && bus.tls.as_ref().is_some_and(|tls| tls.server_name.is_some()) {
        let message = "the certificate is checked against the host that is connected to";
        let remedy = "leave serverName out, and give the address that host";
        problems.push(Problem::new(path.field("tls").field("serverName"), message, remedy));
    }
    let age = bus.retention.as_ref().and_then(|retention| retention.max_age);
    if age == Some(Duration::from_millis(0)) {
        let message = "the bus would keep nothing, and consumers would miss events";
        let remedy = "give the length of time, for example 168h, or leave it out";
        problems.push(Problem::new(path.field("retention").field("maxAge"), message, remedy));
    }
}

fn check_nats(nats: &Nats, spec: &EventStreamSpec, path: &Path, problems: &mut Vec<Problem>) {
    for (index, server) in nats.servers.iter().enumerate() {
        if let Some(message) = nats_fault(server) {
            let remedy = "write nats://HOST:PORT, for example nats://nats:4222";
            problems.push(Problem::new(path.field("servers").index(index), message, remedy));
        }
    }
    let path = path.field("subject");
    let subject = &nats.subject;
    for placeholder in ["{partition}", "{type}"] {
        if subject.matches(placeholder).count() > 1 {
            let message = format!("\"{subject}\" has {placeholder} twice");
            problems.push(Problem::new(path.clone(), message, "once is enough"));
        }
    }
    let first = subject.split('.').next().unwrap_or_default();
    let is_open = first.contains("{type}") || first.contains("{partition}");
    if is_open && spec.event_types.is_empty() && spec.bus.provision == Provision::Create {
        let message = format!(
            "\"{subject}\" has no fixed beginning, so the stream that is made would capture everybody's messages"
        );
        let remedy = "declare the event types in spec.eventTypes, begin the subject with a word of its own, or say provision: Observe";
        problems.push(Problem::new(path, message, remedy));
    }
}

/// What is wrong with an address of NATS. It may have a password in it, which is not shown.
fn nats_fault(server: &str) -> Option<String> {
    let (scheme, rest) = match server.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("nats", server),
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    if !NATS_SCHEMES.contains(&scheme) {
        return Some(format!("\"{scheme}://{place}\" is no address of NATS"));
    }
    address::fault(place.strip_suffix('/').unwrap_or(place))
}

fn check_kafka(kafka: &Kafka, bus: &Bus, path: &Path, problems: &mut Vec<Problem>) {
    for (index, server) in kafka.bootstrap_servers.iter().enumerate() {
        let fault = match server.rsplit_once('@') {
            Some(_) => Some("a broker's address has no user in it".to_owned()),
            None => address::fault(server),
        };
        if let Some(message) = fault {
            let remedy = "write HOST:PORT, for example kafka:9092; each broker is an element of its own";
            problems.push(Problem::new(path.field("bootstrapServers").index(index), message, remedy));
        }
    }
    if let Some(topic @ ("." | "..")) = kafka.topic.as_deref() {
        let message = format!("\"{topic}\" is no name of a topic");
        let remedy =
            "write letters, digits, '.', '_' and '-', or leave it out: then it is the resource's name";
        problems.push(Problem::new(path.field("topic"), message, remedy));
    }
    if bus.provision == Provision::Create {
        for (index, setting) in kafka.config.iter().enumerate() {
            if setting.name == "cleanup.policy" && setting.value != "delete" {
                let message =
                    format!("\"{}\" would remove events that have not been consumed", setting.value);
                let path = path.field("config").index(index).field("value");
                problems.push(Problem::new(path, message, "only delete is allowed"));
            }
        }
    }
    for (index, setting) in kafka.config.iter().enumerate() {
        if setting.name == "compression.type" && setting.value == NOT_BUILT {
            let message =
                format!("{NOT_BUILT} is not part of these programs, which could not read the topic");
            let path = path.field("config").index(index).field("value");
            problems.push(Problem::new(path, message, "write producer, gzip, snappy or lz4"));
        }
    }
}

/// Event streams that would share one topic or stream of a broker, where their events could not be told apart: the later one of each two, by its index.
pub fn shared_buses(streams: &[&EventStream]) -> Vec<(usize, Problem)> {
    let mut problems = Vec::new();
    for (index, stream) in streams.iter().enumerate() {
        let other = streams[..index].iter().find(|other| shares(other, stream));
        let (Some(other), Some((what, field, name))) = (other, carrier(stream)) else { continue };
        let (field, default) = field;
        let other = other.metadata.name.as_deref().unwrap_or_default();
        let bus = Path::root().field("spec").field("bus").field(field);
        let named = match field {
            "nats" => stream.spec.bus.nats.as_ref().is_some_and(|nats| nats.stream_name.is_some()),
            _ => stream.spec.bus.kafka.as_ref().is_some_and(|kafka| kafka.topic.is_some()),
        };
        let path = if named { bus.field(default) } else { bus };
        problems.push((
            index,
            Problem::new(
                path,
                format!("the {what} \"{name}\" is that of EventStream \"{other}\", too"),
                format!("give each its own by spec.bus.{field}.{default}"),
            ),
        ));
    }
    problems
}

/// What carries an event stream: of which kind, by which field, and which.
fn carrier(stream: &EventStream) -> Option<(&'static str, (&'static str, &'static str), String)> {
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let bus = &stream.spec.bus;
    match bus.r#type {
        BusType::None => None,
        BusType::Nats => {
            let given = bus.nats.as_ref()?.stream_name.clone();
            Some(("JetStream stream", ("nats", "streamName"), given.unwrap_or_else(|| name.to_uppercase())))
        }
        BusType::Kafka => {
            let given = bus.kafka.as_ref()?.topic.clone();
            Some(("topic", ("kafka", "topic"), given.unwrap_or_else(|| name.to_owned())))
        }
    }
}

fn shares(one: &EventStream, other: &EventStream) -> bool {
    if carrier(one).is_none() || carrier(one) != carrier(other) {
        return false;
    }
    let meets = |one: &[String], other: &[String]| one.iter().any(|server| other.contains(server));
    match (&one.spec.bus, &other.spec.bus) {
        (a, b) if a.r#type == BusType::Kafka => a
            .kafka
            .as_ref()
            .zip(b.kafka.as_ref())
            .is_some_and(|(a, b)| meets(&a.bootstrap_servers, &b.bootstrap_servers)),
        (a, b) => a.nats.as_ref().zip(b.nats.as_ref()).is_some_and(|(nats, others)| {
            // A stream that somebody else made for several is theirs to share, where subjects tell the events apart.
            let apart = [a, b].iter().all(|bus| bus.provision == Provision::Observe)
                && [nats, others].iter().all(|nats| nats.subject.contains("{stream}"));
            meets(&nats.servers, &others.servers) && !apart
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nats_are_told_from_what_is_none_without_their_passwords() {
        for good in [
            "nats://nats:4222",
            "nats",
            "nats:4222",
            "tls://nats.example:4222/",
            "nats://user:p@ss@nats:4222",
            "nats://[::1]:4222",
        ] {
            assert_eq!(nats_fault(good), None, "{good}");
        }
        for bad in ["http://nats:4222", "nats://", "nats://u:secret@[x", "nats://nats:http", "nats://nats:0"]
        {
            let fault = nats_fault(bad).unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(!fault.contains("secret"), "{fault}");
        }
    }
}
