//! What cannot run, and what is said of it.

use headwater_operator::part::{Kind, Refused};
use headwater_resources::shared::Reason;

use crate::fixture::Fixture;

const STREAM: &str = "apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec:
  database: {type: PostgreSQL, urlSecretRef: {name: db, key: uri}}
";
const SECRET: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: db}
stringData: {uri: x}
";
const PROJECTION: &str = "---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: totals}
spec:
  streamRef: {name: orders}
  tables: [{name: totals, key: [id], columns: [{name: id, type: Text}, {name: n, type: Integer, default: \"0\"}]}]
  rules: [{events: [Made], type: Increment, table: totals, key: {id: event.streamId}, by: {n: \"1\"}}]
";

fn missing(text: &str, kind: Kind) -> (Reason, String) {
    match Fixture::parse(text).part(kind) {
        Err(Refused::Missing(missing)) => (missing.reason, missing.message),
        other => panic!("{other:?}"),
    }
}

fn invalid(text: &str, kind: Kind) -> String {
    match Fixture::parse(text).part(kind) {
        Err(Refused::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_missing_is_named_with_its_field() {
    let without = STREAM
        .replace("  database: {type: PostgreSQL, urlSecretRef: {name: db, key: uri}}\n", "  partitions: 1\n");
    let (reason, message) = missing(&format!("{without}{PROJECTION}"), Kind::Projection);
    assert_eq!(reason, Reason::StreamNotReady);
    assert!(message.contains("\"orders\" has no database") && message.contains("spec.database"), "{message}");
    let (reason, message) = missing(STREAM, Kind::EventStream);
    assert_eq!(reason, Reason::SecretNotFound);
    assert_eq!(message, "spec.database.urlSecretRef names Secret \"db\", which is not there: create it");

    let other = SECRET.replace("uri: x", "url: x");
    let (reason, message) = missing(&format!("{STREAM}{other}"), Kind::EventStream);
    assert_eq!(reason, Reason::SecretKeyMissing);
    assert_eq!(
        message,
        "spec.database.urlSecretRef needs key \"uri\" of Secret \"db\", which has url: add it"
    );

    let (reason, message) = missing(PROJECTION, Kind::Projection);
    assert_eq!(reason, Reason::StreamNotFound);
    assert!(message.contains("EventStream \"orders\" is not there"), "{message}");

    // The database of the event stream is also where the rows are to be.
    let (reason, _) = missing(&format!("{STREAM}{PROJECTION}"), Kind::Projection);
    assert_eq!(reason, Reason::SecretNotFound);

    // What is the event stream's is said to be.
    let (_, message) = missing(&format!("{STREAM}{PROJECTION}"), Kind::Projection);
    assert!(message.starts_with("EventStream \"orders\": spec.database.urlSecretRef names"), "{message}");

    let tls = "  server: {tls: {secretRef: {name: serving}}}\n";
    let (reason, message) = missing(&format!("{STREAM}{tls}{SECRET}"), Kind::EventStream);
    assert_eq!(reason, Reason::SecretNotFound);
    assert!(message.starts_with("spec.server.tls.secretRef names Secret \"serving\""), "{message}");
    let serving = SECRET.replace("name: db", "name: serving").replace("uri: x", "tls.crt: x, tls.key: x");
    let mut fixture = Fixture::parse(&format!("{STREAM}{tls}{SECRET}{serving}"));
    assert!(fixture.part(Kind::EventStream).is_ok());
    fixture.found.secrets.get_mut("serving").unwrap().expired = Some("2026-01-01T00:00:00Z".parse().unwrap());
    match fixture.part(Kind::EventStream) {
        Err(Refused::Missing(missing)) => {
            assert_eq!(missing.reason, Reason::CertificateExpired);
            assert!(
                missing.message.contains("expired at 2026-01-01T00:00:00Z: renew it"),
                "{}",
                missing.message
            );
        }
        other => panic!("{other:?}"),
    }

    let mut fixture = Fixture::parse(&format!("{STREAM}{SECRET}{PROJECTION}"));
    fixture.found.unreadable.insert("orders".to_owned(), "unknown variant `X`".to_owned());
    match fixture.part(Kind::Projection) {
        Err(Refused::Missing(missing)) => {
            assert_eq!(missing.reason, Reason::StreamNotReady);
            assert_eq!(missing.message, "EventStream \"orders\" cannot be read: unknown variant `X`");
        }
        other => panic!("{other:?}"),
    }

    let schema = "  eventTypes: [{name: Made, schemaRef: {configMapKeyRef: {name: schemas, key: made}}}]\n";
    let (reason, message) = missing(&format!("{STREAM}{schema}{SECRET}"), Kind::EventStream);
    assert_eq!(reason, Reason::ConfigMapNotFound);
    assert!(message.contains("spec.eventTypes[0].schemaRef.configMapKeyRef names key \"made\""), "{message}");
}

#[test]
fn what_cannot_be_is_said_with_the_remedy() {
    let nowhere = "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: orders}\nspec: {partitions: 2}\n";
    let why = invalid(nowhere, Kind::EventStream);
    assert!(why.contains("spec.database") && why.contains("urlSecretRef"), "{why}");

    let wrong = PROJECTION.replace("by: {n: \"1\"}", "by: {m: \"1\"}");
    let why = invalid(&format!("{STREAM}{SECRET}{wrong}"), Kind::Projection);
    assert!(why.contains("spec.rules[0].by.m"), "{why}");

    let upcast = "  eventTypes: [{name: Made, schemaVersion: 2, upcast: [{from: 1, set: {x: \"'\"}}]}]\n";
    let why = invalid(&format!("{STREAM}{upcast}{SECRET}{PROJECTION}"), Kind::Projection);
    assert!(why.starts_with("EventStream \"orders\": spec.eventTypes[0].upcast[0].set.x"), "{why}");
}
