//! What bad manifests get: file, line and column, the field, what is wrong, and what to do.

mod buses;
mod projections;
mod sagas;
mod yaml;

use headwater_resources::manifest;

use crate::manifests::{ORDERS, SAGA};

/// All that is wrong with files, one line each.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    manifest::read_texts(files.iter().copied()).faults.iter().map(ToString::to_string).collect()
}

/// Changes one place of the good manifest, and says what comes of it.
#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    assert!(ORDERS.contains(from), "{from}");
    assert_eq!(faults(&[("orders.yaml", &ORDERS.replacen(from, to, 1))]), expected, "{from} -> {to}");
}

#[track_caller]
fn check_saga(from: &str, to: &str, expected: &[&str]) {
    assert!(SAGA.contains(from), "{from}");
    assert_eq!(
        faults(&[("orders.yaml", ORDERS), ("saga.yaml", &SAGA.replacen(from, to, 1))]),
        expected,
        "{from} -> {to}"
    );
}

#[test]
fn an_unknown_field() {
    check(
        "  tables:\n",
        "  tabels: []\n  tables:\n",
        &["orders.yaml:26:3: spec.tabels: no such field; did you mean \"tables\"?"],
    );
    check(
        "{name: status, type: Text}",
        "{name: status, type: Text, nullable: 1}",
        &[
            "orders.yaml:32:34: spec.tables[0].columns[2].nullable: no such field; there is \"default\", \"field\", \"name\", \"type\"",
        ],
    );
    check(
        "metadata: {name: orders}",
        "metadata: {name: orders, lables: {a: b}}",
        &["orders.yaml:23:26: metadata.lables: no such field; did you mean \"labels\"?"],
    );
    check("      properties:\n", "      anything: goes\n      properties:\n", &[]);
}

#[test]
fn a_wrong_enum() {
    check(
        "type: Upsert\n",
        "type: Upsrt\n",
        &[
            "orders.yaml:42:11: spec.rules[0].type: \"Upsrt\" is none of Upsert, Update, Delete, Increment; did you mean \"Upsert\"?",
        ],
    );
    check(
        "type: Timestamp",
        "type: Float",
        &[
            "orders.yaml:33:32: spec.tables[0].columns[3].type: \"Float\" is none of Text, Integer, Decimal, Boolean, Timestamp, Json",
        ],
    );
    check(
        "type: Kafka",
        "type: kafka",
        &["orders.yaml:8:15: spec.bus.type: \"kafka\" is none of None, NATS, Kafka; did you mean \"Kafka\"?"],
    );
}

#[test]
fn a_wrong_type_or_a_missing_field() {
    check(
        "key: [order_id]\n",
        "key: order_id\n",
        &[
            "orders.yaml:28:10: spec.tables[0].key: is the text \"order_id\", but a list is needed; write key: [...], or one element a line after \"- \"",
        ],
    );
    check(
        "default: \"0\"",
        "default: 0",
        &[
            "orders.yaml:31:46: spec.tables[0].columns[1].default: is the number 0, but a text is needed; quote it: \"0\"",
        ],
    );
    check(
        "  streamRef: {name: orders}\n",
        "",
        &["orders.yaml:24:1: spec.streamRef: is missing; add it; it is the EventStream that is read"],
    );
    check(
        "  streamRef: {name: orders}\n",
        "  streamRef:\n",
        &["orders.yaml:25:12: spec.streamRef: has no value; give one, or remove the line"],
    );
    check(
        "  database:\n",
        "  partitions: \"3\"\n  database:\n",
        &[
            "orders.yaml:5:15: spec.partitions: is the text \"3\", but a whole number is needed; remove the quotes",
        ],
    );
    check(
        "metadata: {name: orders}",
        "metadata: {}",
        &["orders.yaml:23:1: metadata.name: is missing; add it; it is the resource's name"],
    );
}

#[test]
fn out_of_bounds() {
    check(
        "  database:\n",
        "  partitions: 300\n  database:\n",
        &["orders.yaml:5:15: spec.partitions: 300 is too large; give at most 256"],
    );
    check(
        "  database:\n",
        "  partitions: 0\n  database:\n",
        &["orders.yaml:5:15: spec.partitions: 0 is too small; give at least 1"],
    );
    check(
        "{name: status, type: Text}",
        "{name: Status, type: Text}",
        &[
            "orders.yaml:32:14: spec.tables[0].columns[2].name: \"Status\" is not allowed here; write lower-case letters, digits and '_', beginning with a letter",
            "orders.yaml:34:26: spec.tables[0].indexes[0].columns[0]: the table \"orders\" has no column \"status\"; did you mean \"Status\"?",
            "orders.yaml:45:38: spec.rules[0].set.status: the table \"orders\" has no column \"status\"; did you mean \"Status\"?",
            "orders.yaml:56:11: spec.rules[2].set.status: the table \"orders\" has no column \"status\"; did you mean \"Status\"?",
        ],
    );
    check(
        "  tables:\n",
        "  rollout: {keepPrevious: 1d}\n  tables:\n",
        &[
            "orders.yaml:26:27: spec.rollout.keepPrevious: \"1d\" is not allowed here; write whole numbers with their units h, m, s or ms, for example 1m30s",
        ],
    );
    check(
        "  tables:\n",
        "  startFrom: {type: Time, time: yesterday}\n  tables:\n",
        &[
            "orders.yaml:26:33: spec.startFrom.time: \"yesterday\" is no time; write it as \"2026-01-31T12:00:00Z\"",
        ],
    );
    check(
        "  tables:\n",
        "  startFrom: {type: Time, time: \"2026-01-31 12:00:00Z\"}\n  tables:\n",
        &[
            "orders.yaml:26:33: spec.startFrom.time: \"2026-01-31 12:00:00Z\" is not allowed here; write a time such as \"2026-01-31T12:00:00Z\", of the years 1000 to 2999",
        ],
    );
    check(
        "metadata: {name: orders}",
        "metadata: {name: Orders_1}",
        &[
            "orders.yaml:23:18: metadata.name: is at most 40 lower-case letters, digits and '-', begins with a letter and does not end with '-'",
        ],
    );
    check(
        "events: [OrderApproved]",
        "events: []",
        &[
            "orders.yaml:52:13: spec.rules[2].events: has 0 elements; at least 1 needed; it is the types of event that it is for",
        ],
    );
}

#[test]
fn the_rules_of_the_definition() {
    check(
        "  tables:\n",
        "  sink: {type: Redis}\n  tables:\n",
        &[
            "orders.yaml:26:9: spec.sink: redis is needed for type Redis, and for no other; write both, or neither",
        ],
    );
    check(
        "  tables:\n",
        "  startFrom: {type: End, time: \"2026-01-01T00:00:00Z\"}\n  tables:\n",
        &[
            "orders.yaml:26:14: spec.startFrom: time is needed for type Time, and for no other; write both, or neither",
        ],
    );
    check(
        "    set: {status: \"'Approved'\"}\n",
        "    by: {amount: \"1\"}\n",
        &[
            "orders.yaml:52:5: spec.rules[2]: by is needed for type Increment, and for no other; write both, or neither",
            "orders.yaml:52:5: spec.rules[2]: set is needed for type Update; add set: {column: expression}",
            "orders.yaml:56:10: spec.rules[2].by.amount: the column \"amount\" is set by spec.rules[0] and incremented here; a column is either set or incremented; let it begin at its default, or keep what is added in another column",
        ],
    );
    check(
        "  tables:\n",
        "  access: [{subject: {type: Token, namespace: a, name: b}, verbs: [Query]}]\n  tables:\n",
        &[
            "orders.yaml:26:22: spec.access[0].subject: only a ServiceAccount has a namespace; remove it, or write type: ServiceAccount",
        ],
    );
}

#[test]
fn a_name_that_is_not_there() {
    check(
        "set: {amount: event.data.amount",
        "set: {amonut: event.data.amount",
        &[
            "orders.yaml:45:11: spec.rules[0].set.amonut: the table \"orders\" has no column \"amonut\"; did you mean \"amount\"?",
        ],
    );
    check(
        "    table: orders\n    key: {order_id: event.data.order_id}\n    set: {status",
        "    table: oders\n    key: {order_id: event.data.order_id}\n    set: {status",
        &["orders.yaml:54:12: spec.rules[2].table: there is no table \"oders\"; did you mean \"orders\"?"],
    );
    check(
        "columns: [status, created_on]",
        "columns: [status, created]",
        &[
            "orders.yaml:34:34: spec.tables[0].indexes[0].columns[1]: the table \"orders\" has no column \"created\"; did you mean \"created_on\"?",
        ],
    );
    check(
        "key: [order_id]\n",
        "key: [order_id, customer]\n",
        &[
            "orders.yaml:28:21: spec.tables[0].key[1]: the table \"orders\" has no column \"customer\"; there is \"order_id\", \"amount\", \"status\", \"created_on\"",
            "orders.yaml:44:10: spec.rules[0].key: \"customer\" of the key of the table \"orders\" is missing; give an expression for each column of the key",
            "orders.yaml:55:10: spec.rules[2].key: \"customer\" of the key of the table \"orders\" is missing; give an expression for each column of the key",
        ],
    );
    check(
        "key: {order_id: event.data.order_id, line: line}",
        "key: {order_id: event.data.order_id, code: item.code}",
        &[
            "orders.yaml:50:10: spec.rules[1].key: \"line\" of the key of the table \"order_items\" is missing; give an expression for each column of the key",
            "orders.yaml:50:42: spec.rules[1].key.code: the column \"code\" is not part of the key of the table \"order_items\"; the key is \"order_id\", \"line\"",
        ],
    );
    check(
        "streamRef: {name: orders}",
        "streamRef: {name: order}",
        &[
            "orders.yaml:25:21: spec.streamRef.name: there is no EventStream \"order\" in these files; did you mean \"orders\"?",
        ],
    );
    check(
        "events: [OrderApproved]",
        "events: [OrderAproved]",
        &[
            "orders.yaml:52:14: warning: spec.rules[2].events[0]: the EventStream \"orders\" declares no event type \"OrderAproved\"; did you mean \"OrderApproved\"?",
        ],
    );
}

#[test]
fn an_expression_that_does_not_type_check() {
    check(
        "when: event.data.amount > 0",
        "when: event.data.amount",
        &[
            "orders.yaml:41:11: spec.rules[0].when: gives number, but a condition is true or false; compare it with something, for example > 0 or == 'x'",
        ],
    );
    check(
        "when: event.data.amount > 0",
        "when: evnt.data.amount > 0",
        &["orders.yaml:41:11: spec.rules[0].when: unknown variable `evnt`; did you mean `event`?"],
    );
    check(
        "when: event.data.amount > 0",
        "when: event.data.amuont > 0",
        &[
            "orders.yaml:41:22: spec.rules[0].when: `event.data` has no field `amuont`; did you mean `amount`?",
        ],
    );
    check(
        "when: event.data.amount > 0",
        "when: event.data.amount > '0'",
        &[
            "orders.yaml:41:11: spec.rules[0].when: `>` does not take a number and text; string(…) makes text of a number, decimal(…) a number of text",
        ],
    );
    check(
        "when: event.data.amount > 0",
        "when: event.data.amount >",
        &["orders.yaml:41:30: spec.rules[0].when: the expression ends too early"],
    );
    check(
        "set: {amount: event.data.amount,",
        "set: {amount: event.data.order_id,",
        &[
            "orders.yaml:45:19: spec.rules[0].set.amount: gives text, but the column \"amount\" of the table \"orders\" is Decimal; convert it: decimal(event.data.order_id)",
        ],
    );
    check(
        "created_on: event.time",
        "created_on: event.type",
        &[
            "orders.yaml:45:71: spec.rules[0].set.created_on: gives text, but the column \"created_on\" of the table \"orders\" is Timestamp; convert it: timestamp(event.type)",
        ],
    );
    check(
        "in: event.data.order_items",
        "in: event.data.amount",
        &[
            "orders.yaml:48:19: spec.rules[1].forEach.in: gives number, but a list is needed; name a field of the event that is a list",
        ],
    );
    check(
        "code: item.code",
        "code: item.code.size()",
        &[
            "orders.yaml:51:17: spec.rules[1].set.code: gives number, but the column \"code\" of the table \"order_items\" is Text; convert it: string(item.code.size())",
        ],
    );
    check(
        "when: event.data.amount > 0",
        "when: |\n      event.data.amount > 0 &&\n      nothing",
        &[
            "orders.yaml:42:7: spec.rules[0].when: line 2, column 1 of the text: unknown variable `nothing`; there is `event`, `row`; a text is written in quotes: 'nothing'",
        ],
    );
}

#[test]
fn a_json_schema_that_is_none() {
    check(
        "amount: {type: number}",
        "amount: {type: numbr}",
        &[
            "orders.yaml:16:24: spec.eventTypes[0].schema.properties.amount.type: \"numbr\" is no type of JSON Schema; did you mean \"number\"?",
        ],
    );
    check(
        "amount: {type: number}",
        "amount: {type: number, minimum: \"1\"}",
        &[
            "orders.yaml:16:41: spec.eventTypes[0].schema.properties.amount.minimum: \"1\" is not of type \"number\"; correct the JSON Schema",
        ],
    );
    check(
        "amount: {type: number}",
        "amount: {$ref: \"https://example.com/amount.json\"}",
        &[
            "orders.yaml:16:24: spec.eventTypes[0].schema.properties.amount.$ref: \"https://example.com/amount.json\" leads out of the schema; put it under $defs, and refer to it as \"#/$defs/NAME\"",
        ],
    );
    check(
        "amount: {type: number}",
        "amount: {$ref: \"#/$defs/amount\"}",
        &[
            "orders.yaml:13:7: spec.eventTypes[0].schema: Pointer '/$defs/amount' does not exist; correct the JSON Schema",
        ],
    );
    check(
        "amount: {type: number}",
        "amount: {type: string, pattern: \"[\"}",
        &[
            "orders.yaml:16:41: spec.eventTypes[0].schema.properties.amount.pattern: \"[\" is not a \"regex\"; correct the JSON Schema",
            "orders.yaml:41:11: spec.rules[0].when: `>` does not take text and a number; string(…) makes text of a number, decimal(…) a number of text",
            "orders.yaml:45:19: spec.rules[0].set.amount: gives text, but the column \"amount\" of the table \"orders\" is Decimal; convert it: decimal(event.data.amount)",
        ],
    );
    check(
        "      type: object\n",
        "      $schema: http://example.com/draft\n      type: object\n",
        &[
            "orders.yaml:13:16: spec.eventTypes[0].schema.$schema: \"http://example.com/draft\" is no known draft of JSON Schema; write https://json-schema.org/draft/2020-12/schema, or leave it out",
        ],
    );
}

#[test]
fn a_schema_reference_that_leads_nowhere() {
    let text = "apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec:
  eventTypes:
  - {name: Created, schemaRef: {configMapKeyRef: {name: schemas, key: created}}}
";
    assert_eq!(
        faults(&[("a.yaml", text)]),
        [
            "a.yaml:6:50: spec.eventTypes[0].schemaRef.configMapKeyRef: there is no ConfigMap \"schemas\" in these files; add it, with the key \"created\""
        ]
    );
    let map =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: schemas}\ndata:\n  created: \"{ type: }}\"\n";
    assert_eq!(
        faults(&[("a.yaml", text), ("b.yaml", map)]),
        [
            "a.yaml:6:50: spec.eventTypes[0].schemaRef.configMapKeyRef: line 1, column 10 of the key \"created\" of the ConfigMap \"schemas\": not YAML: misplaced bracket; correct the syntax here or just before"
        ]
    );
}

#[test]
fn all_faults_at_once_in_the_order_of_the_file() {
    let text = ORDERS
        .replace("  database:\n", "  partitions: 300\n  database:\n")
        .replace("amount: {type: number}", "amount: {type: numbr}")
        .replace("set: {amount:", "set: {amonut:")
        .replace("code: item.code", "code: itm.code")
        .replace("  tables:\n", "  tabels: []\n  tables:\n");
    assert_eq!(
        faults(&[("orders.yaml", &text)]),
        [
            "orders.yaml:5:15: spec.partitions: 300 is too large; give at most 256",
            "orders.yaml:17:24: spec.eventTypes[0].schema.properties.amount.type: \"numbr\" is no type of JSON Schema; did you mean \"number\"?",
            "orders.yaml:27:3: spec.tabels: no such field; did you mean \"tables\"?",
            "orders.yaml:47:11: spec.rules[0].set.amonut: the table \"orders\" has no column \"amonut\"; did you mean \"amount\"?",
            "orders.yaml:53:17: spec.rules[1].set.code: unknown variable `itm`; did you mean `item`?"
        ]
    );
}

#[test]
fn a_topic_or_stream_of_two_event_streams() {
    let stream = |name: &str, bus: &str| {
        format!(
            "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: {name}}}\nspec: {{bus: {bus}}}\n"
        )
    };
    let check = |one: &str, other: &str, expected: &[&str]| {
        let (one, other) = (stream("orders", one), stream("bills", other));
        assert_eq!(faults(&[("a.yaml", &one), ("b.yaml", &other)]), expected, "{one}{other}");
    };
    let nats = |more: &str| format!("{{type: NATS, nats: {{servers: ['nats://n:4222']{more}}}}}");
    check(
        &nats(""),
        &nats(", streamName: ORDERS"),
        &[
            "b.yaml:4:73: spec.bus.nats.streamName: the JetStream stream \"ORDERS\" is that of EventStream \"orders\", too; give each its own by spec.bus.nats.streamName",
        ],
    );
    check(&nats(""), &nats(""), &[]);
    let kafka = |host: &str, more: &str| {
        format!("{{type: Kafka, kafka: {{bootstrapServers: ['{host}:9092']{more}}}}}")
    };
    check(
        &kafka("k", ", topic: bills"),
        &kafka("k", ""),
        &[
            "b.yaml:4:34: spec.bus.kafka: the topic \"bills\" is that of EventStream \"orders\", too; give each its own by spec.bus.kafka.topic",
        ],
    );
    check(&kafka("k", ", topic: bills"), &kafka("other", ""), &[]);
    check(&kafka("k", ", topic: both"), &nats(", streamName: both"), &[]);
    let observed = |subject: &str| {
        format!(
            "{{type: NATS, provision: Observe, nats: {{servers: ['nats://n:4222'], streamName: ALL, subject: '{subject}'}}}}"
        )
    };
    check(&observed("{stream}.{type}"), &observed("{stream}.{type}"), &[]);
}

#[test]
fn a_topic_that_cannot_be_read() {
    check(
        "kafka: {bootstrapServers: [\"kafka:9092\"]}",
        "kafka: {bootstrapServers: [\"kafka:9092\"], config: [{name: compression.type, value: zstd}]}",
        &[
            "orders.yaml:8:105: spec.bus.kafka.config[0].value: zstd is not part of these programs, which could not read the topic; write producer, gzip, snappy or lz4",
        ],
    );
}
