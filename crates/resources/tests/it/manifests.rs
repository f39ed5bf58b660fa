//! What good manifests give.

use std::fs;

use headwater_resources::event_stream::{BusType, DatabaseType};
use headwater_resources::manifest::{self, Manifests};
use headwater_resources::projection::{ColumnType, ErrorPolicy, Promotion, RuleType, SinkType, Writers};
use headwater_resources::shared::{Cel, DeletionPolicy, Duration, WorkState};
use serde_json::json;

/// Both kinds, as a user writes them.
pub(crate) const ORDERS: &str = r#"apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders, labels: {team: orders}}
spec:
  database:
    type: CockroachDB
    urlSecretRef: {name: orders-db, key: uri}
  bus: {type: Kafka, kafka: {bootstrapServers: ["kafka:9092"]}, retention: {}}
  workload: {nodeSelector: {disk: fast}}
  eventTypes:
  - name: OrderCreated
    schema:
      type: object
      properties:
        order_id: {type: string}
        amount: {type: number}
        order_items: {type: array, items: {type: object, properties: {code: {type: string}}}}
      additionalProperties: false
  - name: OrderApproved
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: orders}
spec:
  streamRef: {name: orders}
  tables:
  - name: orders
    key: [order_id]
    columns:
    - {name: order_id, type: Text}
    - {name: amount, type: Decimal, default: "0"}
    - {name: status, type: Text}
    - {name: created_on, type: Timestamp}
    indexes: [{columns: [status, created_on]}]
  - name: order_items
    key: [order_id, line]
    columns: [{name: order_id, type: Text}, {name: line, type: Integer}, {name: code, type: Text}]
  rules:
  - name: created
    events: [OrderCreated]
    when: event.data.amount > 0
    type: Upsert
    table: orders
    key: {order_id: event.data.order_id}
    set: {amount: event.data.amount, status: "'Pending'", created_on: event.time}
  - events: [OrderCreated]
    type: Upsert
    forEach: {in: event.data.order_items, as: item, index: line}
    table: order_items
    key: {order_id: event.data.order_id, line: line}
    set: {code: item.code}
  - events: [OrderApproved]
    type: Update
    table: orders
    key: {order_id: event.data.order_id}
    set: {status: "'Approved'"}
"#;

pub(crate) const SAGA: &str = r#"apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place-order}
spec:
  streamRef: {name: orders}
  startOn: {events: [OrderCreated], when: event.data.amount > 0}
  instance: "${event.data.order_id}"
  timeout: 15m
  variables: {order: event.data}
  steps:
  - name: debit-payment
    action:
      type: HTTP
      http:
        method: POST
        url: http://payments/v1/debits
        headers: [{name: Authorization, valueFrom: {secretKeyRef: {name: payments, key: token}}}]
        body: {order_id: order.order_id, amount: order.amount}
    awaitReply: {success: [PaymentDebited], failure: [PaymentDeclined], correlate: {event: event.data.order_id, instance: order.order_id}}
    capture: {payment_id: response.body.payment_id}
    timeout: 10s
    retry: {maxAttempts: 5}
    compensation: {type: HTTP, http: {method: POST, url: http://payments/v1/voids, body: {order_id: order.order_id}}}
  - name: approve
    role: Pivot
    action: {type: Append, append: {streamId: "order-${order.order_id}", type: OrderApproved, data: {order_id: order.order_id}}}
  - name: tell
    parallel:
      steps:
      - {name: notify, role: Retriable, action: {type: GRPC, grpc: {address: "notify:80", method: notify.v1.Notify/Send, request: {text: "'approved'"}}}}
      - {name: archive, role: Retriable, action: {type: HTTP, http: {method: PUT, url: "http://archive/${order.order_id}"}}}
  onCompensated: {append: {streamId: "order-${order.order_id}", type: OrderRejected, data: {reason: failure.reason}}}
---
apiVersion: v1
kind: Secret
metadata: {name: payments}
stringData: {token: s3cret}
---
apiVersion: v1
kind: Secret
metadata: {name: orders-db}
stringData: {uri: "postgres://db/orders"}
"#;

pub(crate) fn valid(files: &[(&str, &str)]) -> Manifests {
    let manifests = manifest::read_texts(files.iter().copied());
    let faults: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    manifests
}

#[test]
fn resources_come_with_their_defaults() {
    let manifests = valid(&[("orders.yaml", ORDERS)]);
    let stream = &manifests.event_streams[0];
    assert_eq!(stream.metadata.name.as_deref(), Some("orders"));
    assert_eq!((stream.source.file.as_str(), stream.source.line), ("orders.yaml", 1));
    assert_eq!((stream.spec.partitions, stream.spec.replicas), (1, 1));
    let database = stream.spec.database.as_ref().unwrap();
    assert_eq!((database.r#type, database.max_connections), (DatabaseType::CockroachDB, 20));
    assert_eq!(stream.spec.bus.r#type, BusType::Kafka);
    assert_eq!(stream.spec.bus.kafka.as_ref().unwrap().replication_factor, 3);
    assert_eq!(stream.spec.event_types[0].schema_version, 1);
    assert_eq!(
        stream.spec.event_types[0].schema.as_ref().unwrap()["properties"]["amount"],
        json!({"type": "number"})
    );
    assert_eq!(stream.spec.deletion_policy, DeletionPolicy::Retain);

    let projection = &manifests.projections[0];
    assert_eq!(projection.source.line, 21);
    let spec = &projection.spec;
    assert_eq!(spec.sink.r#type, SinkType::Sql);
    assert_eq!(spec.on_error.policy, ErrorPolicy::Park);
    assert_eq!(spec.rollout.promotion, Promotion::Automatic);
    assert_eq!(spec.rollout.keep_previous, Duration::from_secs(86_400));
    assert_eq!(spec.state, WorkState::Running);
    assert_eq!(spec.tables[0].writers, Writers::OneStream);
    assert_eq!(spec.tables[0].column("amount").unwrap().r#type, ColumnType::Decimal);
    assert_eq!(spec.rules[0].r#type, RuleType::Upsert);
    assert_eq!(spec.rules[0].set["status"], Cel::from("'Pending'"));
    assert_eq!(spec.rules[1].for_each.as_ref().unwrap().index.as_deref(), Some("line"));
}

#[test]
fn a_saga_is_read_whole() {
    let manifests = valid(&[("orders.yaml", ORDERS), ("saga.yaml", SAGA)]);
    let spec = &manifests.sagas[0].spec;
    assert_eq!(spec.max_in_flight, 500);
    assert_eq!(spec.timeout, Some(Duration::from_secs(900)));
    let retry = spec.steps[0].work.retry.as_ref().unwrap();
    assert_eq!((retry.max_attempts, retry.max_backoff), (5, Duration::from_secs(5)));
    assert_eq!(spec.steps[2].parallel.as_ref().unwrap().steps[1].name, "archive");
    assert_eq!(manifests.secrets.get("payments", "token").unwrap(), b"s3cret");
    assert!(!format!("{:?}", manifests.secrets).contains("s3cret"));
}

#[test]
fn other_kinds_are_listed_and_values_are_kept() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
---
# nothing here
---
apiVersion: v1
kind: Secret
metadata: {name: db}
data: {uri: cG9zdGdyZXM6Ly9sb2NhbGhvc3Q=}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
";
    let manifests = valid(&[("all.yaml", text)]);
    let ignored = &manifests.ignored[0];
    assert_eq!(
        (ignored.kind.as_str(), ignored.name.as_str(), ignored.source.line),
        ("Deployment", "orders", 2)
    );
    assert_eq!(manifests.ignored.len(), 1);
    assert_eq!(manifests.secrets.get("db", "uri").unwrap(), b"postgres://localhost");
    assert_eq!(manifests.config_maps.get("settings", "greeting").unwrap(), b"hello");
    assert_eq!(
        manifests.config_maps.get("settings", "greetin").unwrap_err().to_string(),
        "the ConfigMap \"settings\" (all.yaml:13) has no key \"greetin\"; did you mean \"greeting\"?"
    );
}

#[test]
fn a_schema_may_stand_in_a_config_map() {
    let text = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: schemas}
data:
  created: |
    {"type": "object", "required": ["id"]}
---
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec:
  eventTypes:
  - {name: Created, schemaRef: {configMapKeyRef: {name: schemas, key: created}}}
"#;
    let manifests = valid(&[("all.yaml", text)]);
    let event_type = &manifests.event_streams[0].spec.event_types[0];
    assert_eq!(event_type.schema, Some(json!({"type": "object", "required": ["id"]})));
}

#[test]
fn a_directory_is_read_without_what_lies_deeper_and_without_what_is_no_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("b.yml", "apiVersion: apps/v1\nkind: Second\nmetadata: {name: b}\n");
    write("a.yaml", "apiVersion: apps/v1\nkind: First\nmetadata: {name: a}\n");
    write("dev.toml", "services.payments = \"127.0.0.1:7001\"\n");
    write("notes.txt", "not: [yaml");
    fs::create_dir(directory.path().join("cluster")).unwrap();
    write("cluster/c.yaml", "apiVersion: apps/v1\nkind: Third\nmetadata: {name: c}\n");
    fs::write(directory.path().join("z.yaml"), b"kind: \xff\n").unwrap();

    let manifests = manifest::read_directory(directory.path()).unwrap();
    let kinds: Vec<&str> = manifests.ignored.iter().map(|ignored| ignored.kind.as_str()).collect();
    assert_eq!(kinds, ["First", "Second"]);
    let faults: Vec<String> = manifests.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [format!(
            "{}/z.yaml: is no UTF-8 from byte 6 on; correct it, or move it elsewhere",
            directory.path().display()
        )]
    );
    assert!(manifest::read_directory(&directory.path().join("nowhere")).is_err());
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    let manifests = valid(&[("orders.yaml", ORDERS), ("saga.yaml", SAGA)]);
    let text = serde_json::to_string(&manifests.projections[0].resource).unwrap();
    let stream = serde_json::to_string(&manifests.event_streams[0].resource).unwrap();
    let saga = serde_json::to_string(&manifests.sagas[0].resource).unwrap();
    let (_, secrets) = SAGA.split_once("---").unwrap();
    let again =
        valid(&[("p.yaml", &text), ("e.yaml", &stream), ("s.yaml", &saga), ("secrets.yaml", secrets)]);
    assert_eq!(again.projections[0].resource, manifests.projections[0].resource);
    assert_eq!(again.event_streams[0].resource, manifests.event_streams[0].resource);
    assert_eq!(again.sagas[0].resource, manifests.sagas[0].resource);
}

#[test]
fn what_is_ignored_and_looks_like_ours_is_warned_of() {
    let text = "apiVersion: headwater.io/v1
kind: Projection
metadata: {name: a}
---
apiVersion: v1
kind: List
items: []
";
    let manifests = manifest::read_texts([("a.yaml", text)]);
    assert!(manifests.is_valid());
    assert_eq!(manifests.ignored.len(), 2);
    let warnings: Vec<String> = manifests.warnings().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "a.yaml:1:13: warning: apiVersion: headwater.io/v1 is not Headwater's, so this Projection is ignored; write headwater.dev/v1alpha1 if it is meant for Headwater",
            "a.yaml:6:7: warning: kind: a List is ignored, with all that is in it; write each of its items as a document of its own, with --- between them",
        ]
    );
}

/// As a cluster mounts Secrets in a pod: what changes is swapped by one link.
#[test]
fn secrets_are_read_as_a_cluster_mounts_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mounted, manifests) = (folder.path().join("secrets"), folder.path().join("manifests"));
    let data = mounted.join("..2026_01_02/orders-db");
    fs::create_dir_all(&data).unwrap();
    fs::create_dir(&manifests).unwrap();
    fs::write(data.join("uri"), "postgres://db/orders").unwrap();
    std::os::unix::fs::symlink("..2026_01_02", mounted.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/orders-db", mounted.join("orders-db")).unwrap();
    fs::write(manifests.join("orders.yaml"), ORDERS).unwrap();

    let secrets = || manifest::Secrets::read_mounted(&mounted).unwrap();
    assert_eq!(secrets().names().collect::<Vec<_>>(), ["orders-db"]);
    let read = manifest::read_with_secrets(&[&manifests], secrets()).unwrap();
    assert!(read.is_valid(), "{:?}", read.faults);
    assert_eq!(read.secrets.get("orders-db", "uri").unwrap(), b"postgres://db/orders");
    let missing = read.secrets.get("orders-db", "url").unwrap_err().to_string();
    assert!(missing.contains("no key \"url\""), "{missing}");

    let twice = "apiVersion: v1\nkind: Secret\nmetadata: {name: orders-db}\nstringData: {uri: x}\n";
    fs::write(manifests.join("secret.yaml"), twice).unwrap();
    let read = manifest::read_with_secrets(&[&manifests], secrets()).unwrap();
    let faults: Vec<String> = read.errors().map(|fault| fault.message.clone()).collect();
    assert!(
        faults.len() == 1 && faults[0].contains("there is another Secret \"orders-db\" at"),
        "{faults:?}"
    );
    let gone = manifest::Secrets::read_mounted(&folder.path().join("gone")).unwrap_err().to_string();
    assert!(gone.contains("gone: No such file"), "{gone}");
}
