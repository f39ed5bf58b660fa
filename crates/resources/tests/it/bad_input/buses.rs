//! Buses that cannot be reached, or would not carry what they must.

use super::{check, faults};
use crate::manifests::ORDERS;

const KAFKA: &str = "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"]}, retention: {}}";

/// Puts another bus in the place of the good one, and says what comes of it.
#[track_caller]
fn check_bus(bus: &str, expected: &[&str]) {
    check(KAFKA, bus, expected);
}

#[test]
fn addresses_that_are_none() {
    check_bus(
        "{type: NATS, nats: {servers: ['nats://nats:4222', 'http://nats:4222', 'nats://me:secret@nats:http']}}",
        &[
            "orders.yaml:8:58: spec.bus.nats.servers[1]: \"http://nats:4222\" is no address of NATS; write nats://HOST:PORT, for example nats://nats:4222",
            "orders.yaml:8:78: spec.bus.nats.servers[2]: \"http\" is no port; ports are 1 to 65535; write nats://HOST:PORT, for example nats://nats:4222",
        ],
    );
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: ['kafka:99999', 'kafka://kafka:9092', 'a:1,b:2', 'me:secret@kafka:9092']}}",
        &[
            "orders.yaml:8:49: spec.bus.kafka.bootstrapServers[0]: \"99999\" is no port; ports are 1 to 65535; write HOST:PORT, for example kafka:9092; each broker is an element of its own",
            "orders.yaml:8:64: spec.bus.kafka.bootstrapServers[1]: \"kafka://kafka:9092\" is no host; write HOST:PORT, for example kafka:9092; each broker is an element of its own",
            "orders.yaml:8:86: spec.bus.kafka.bootstrapServers[2]: \"a:1,b:2\" is no host; write HOST:PORT, for example kafka:9092; each broker is an element of its own",
            "orders.yaml:8:97: spec.bus.kafka.bootstrapServers[3]: a broker's address has no user in it; write HOST:PORT, for example kafka:9092; each broker is an element of its own",
        ],
    );
}

#[test]
fn names_that_a_broker_does_not_take() {
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"], topic: 'our orders'}}",
        &[
            "orders.yaml:8:71: spec.bus.kafka.topic: \"our orders\" is not allowed here; write letters, digits, '.', '_' and '-'",
        ],
    );
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"], topic: '..'}}",
        &[
            "orders.yaml:8:71: spec.bus.kafka.topic: \"..\" is no name of a topic; write letters, digits, '.', '_' and '-', or leave it out: then it is the resource's name",
        ],
    );
}

#[test]
fn what_no_bus_can_be_told() {
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"]}, tls: {serverName: other}}",
        &[
            "orders.yaml:8:83: spec.bus.tls.serverName: the certificate is checked against the host that is connected to; leave serverName out, and give the address that host",
        ],
    );
    check_bus("{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"]}, tls: {mode: VerifyCA}}", &[]);
}

#[test]
fn what_would_lose_events_or_take_everybodys() {
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"]}, retention: {maxAge: 0s}}",
        &[
            "orders.yaml:8:85: spec.bus.retention.maxAge: the bus would keep nothing, and consumers would miss events; give the length of time, for example 168h, or leave it out",
        ],
    );
    check_bus(
        "{type: Kafka, kafka: {bootstrapServers: [\"kafka:9092\"], config: [{name: cleanup.policy, value: compact}]}}",
        &[
            "orders.yaml:8:103: spec.bus.kafka.config[0].value: \"compact\" would remove events that have not been consumed; only delete is allowed",
        ],
    );
    check_bus("{type: NATS, nats: {servers: ['nats://nats:4222'], subject: '{type}'}}", &[]);
    let stream = |bus: &str| {
        let text = format!(
            "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: orders}}\nspec:\n  bus: {bus}\n"
        );
        faults(&[("s.yaml", &text)])
    };
    assert_eq!(
        stream("{type: NATS, nats: {servers: ['nats://nats:4222'], subject: '{type}.orders'}}"),
        [
            "s.yaml:5:68: spec.bus.nats.subject: \"{type}.orders\" has no fixed beginning, so the stream that is made would capture everybody's messages; declare the event types in spec.eventTypes, begin the subject with a word of its own, or say provision: Observe"
        ]
    );
    for fine in [
        "{type: NATS, provision: Observe, nats: {servers: ['nats://nats:4222'], subject: '{type}'}}",
        "{type: NATS, nats: {servers: ['nats://nats:4222'], subject: '{stream}.{type}'}}",
    ] {
        assert_eq!(stream(fine), [""; 0], "{fine}");
    }
    assert_eq!(
        stream("{type: NATS, nats: {servers: ['nats://nats:4222'], subject: 'a.{type}.{type}'}}"),
        ["s.yaml:5:68: spec.bus.nats.subject: \"a.{type}.{type}\" has {type} twice; once is enough"]
    );
}

#[test]
fn secrets_that_are_not_there() {
    let with = |secret: &str| {
        let text = format!("apiVersion: v1\nkind: Secret\n{secret}");
        faults(&[("orders.yaml", ORDERS), ("secrets.yaml", &text)])
    };
    assert_eq!(with("metadata: {name: orders-db}\nstringData: {uri: 'postgres://db/orders'}\n"), [""; 0]);
    assert_eq!(
        with("metadata: {name: orders-db}\nstringData: {url: 'postgres://db/orders'}\n"),
        [
            "orders.yaml:7:19: spec.database.urlSecretRef: the Secret \"orders-db\" (secrets.yaml:1) has no key \"uri\"; did you mean \"url\"?"
        ]
    );
    assert_eq!(
        with("metadata: {name: order-db}\nstringData: {uri: 'postgres://db/orders'}\n"),
        [
            "orders.yaml:7:19: warning: spec.database.urlSecretRef: there is no Secret \"orders-db\" in these files; did you mean \"order-db\"?"
        ]
    );
}
