//! JSON Schemas and upcasts, by what an EventStream declares.

use futures_util::TryStreamExt;
use headwater_api::{Read, ReadStream};
use headwater_core::{Error, Expected, NewEvent, SchemaVersion};
use headwater_eventstore::EventTypes;
use serde_json::json;

use crate::support::{Server, append, event, one, stream};

fn declared() -> serde_json::Value {
    json!([{
        "name": "Paid",
        "schemaVersion": 2,
        "schema": {"type": "object", "required": ["amount", "currency"], "properties": {"amount": {"type": "string"}}},
        "upcast": [{"from": 1, "set": {"currency": "'EUR'"}}]
    }])
}

#[tokio::test]
async fn data_that_breaks_the_schema_is_refused_over_every_api() {
    let server = Server::start().await;
    server.declare(declared());
    let client = server.client();
    let good = event("Paid", r#"{"amount":"1.10","currency":"EUR"}"#);
    let bad = event("Paid", r#"{"amount":1.1}"#);
    let error = client.append(&append("a", Expected::Any, vec![good.clone(), bad])).await.unwrap_err();
    let Error::Invalid { field, message } = &error else { panic!("{error}") };
    assert_eq!(field, "events[1].data");
    for part in
        ["schema of Paid (version 2)", "/amount: 1.1 is not of type", "\"currency\" is a required property"]
    {
        assert!(message.contains(part), "{message}");
    }
    let answer = server.post("/v1/streams/a/events", r#"{"events":[{"type":"Paid","data":[]}]}"#).await;
    let problem = answer.is_problem(400, "invalid", "/: [] is not of type \"object\"");
    assert_eq!(problem["field"], "events[0].data");
    assert_eq!(server.get("/v1/streams/a/events").await.json()["version"], 0);

    client.append(&append("a", Expected::Any, vec![good])).await.unwrap();
    client.append(&one("a", "Undeclared")).await.unwrap();
    let events = client.read_stream(&ReadStream::all(stream("a"))).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.schema_version).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn another_schema_version_than_the_declared_one_is_refused() {
    let server = Server::start().await;
    server.declare(declared());
    let newer = NewEvent {
        schema_version: SchemaVersion::Given(3),
        ..event("Paid", r#"{"amount":"1","currency":"EUR"}"#)
    };
    let error =
        server.client().append(&append("a", Expected::Any, vec![newer])).await.unwrap_err().to_string();
    assert!(error.starts_with("events[0].schema_version: Paid is declared in schema version 2"), "{error}");
}

/// A client whose answer was lost sends the same again, whatever has been declared in between.
#[tokio::test]
async fn a_repeat_is_answered_whatever_is_declared_by_then() {
    let server = Server::start().await;
    server.declare(json!([{"name": "Paid", "schemaVersion": 1}]));
    let client = server.client();
    let said = NewEvent { schema_version: SchemaVersion::Given(1), ..event("Paid", "{}") };
    let requests = [
        append("a", Expected::NoStream, vec![event("Paid", "{}")]),
        append("b", Expected::NoStream, vec![said]),
    ];
    let mut first = Vec::new();
    for request in &requests {
        first.push(client.append(request).await.unwrap());
    }
    let newer =
        json!([{"name": "Paid", "schemaVersion": 2, "upcast": [{"from": 1, "set": {"currency": "'EUR'"}}]}]);
    for declared in [declared(), newer, json!([])] {
        server.declare(declared.clone());
        for (request, first) in requests.iter().zip(&first) {
            assert_eq!(&client.append(request).await.unwrap(), first, "{declared}");
        }
    }
    server.declare(declared());
    // Other content under the same id is no repeat, nor are the same ids and one more.
    let mut other = requests[0].clone();
    other.events[0].data = "[]".into();
    let error = client.append(&other).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists { .. }), "{error}");
    let mut more = requests[0].clone();
    more.events.push(event("Paid", "{}"));
    assert!(client.append(&more).await.is_err());
    for id in ["a", "b"] {
        let events = client.read_stream(&ReadStream::all(stream(id))).await.unwrap().events;
        assert_eq!(events.iter().map(|event| event.schema_version).collect::<Vec<_>>(), [1]);
    }
}

#[tokio::test]
async fn a_schema_version_that_was_said_is_never_another() {
    let server = Server::start().await;
    server.declare(declared());
    let client = server.client();
    let said = NewEvent { schema_version: SchemaVersion::Given(1), ..event("Paid", r#"{"amount":"1"}"#) };
    let error = client.append(&append("a", Expected::Any, vec![said])).await.unwrap_err().to_string();
    assert!(error.starts_with("events[0].schema_version: Paid is declared in schema version 2"), "{error}");
}

#[tokio::test]
async fn a_changed_declaration_counts_from_then_on_and_old_data_is_upcast_when_asked_for() {
    let server = Server::start().await;
    let client = server.client();
    let old = r#"{"amount": "1.10"}"#;
    client.append(&append("a", Expected::Any, vec![event("Paid", old)])).await.unwrap();
    server.declare(declared());
    assert!(client.append(&append("a", Expected::Any, vec![event("Paid", old)])).await.is_err());

    let read = |upcast| ReadStream { upcast, ..ReadStream::all(stream("a")) };
    let as_written = client.read_stream(&read(false)).await.unwrap().events;
    assert_eq!((as_written[0].data.as_ref(), as_written[0].schema_version), (old.as_bytes(), 1));
    let new = r#"{"amount":"1.10","currency":"EUR"}"#;
    let upcast = client.read_stream(&read(true)).await.unwrap().events;
    assert_eq!((upcast[0].data.as_ref(), upcast[0].schema_version), (new.as_bytes(), 2));
    let batches: Vec<_> = client.read(Read { upcast: true, ..Read::default() }).try_collect().await.unwrap();
    assert_eq!(batches[0].events[0].data, new);
    for path in ["/v1/streams/a/events", "/v1/events"] {
        let answer = server.get(&format!("{path}?upcast=true")).await;
        assert!(answer.text.contains(new), "{}", answer.text);
        assert!(server.get(path).await.text.contains(old));
    }
}

#[test]
fn what_cannot_be_compiled_is_refused_with_its_path() {
    #[track_caller]
    fn check(event_types: serde_json::Value, text: &str) {
        let specs: Vec<_> = serde_json::from_value(event_types).unwrap();
        let error = EventTypes::compile(&specs).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    check(json!([{"name": "A"}, {"name": "A"}]), "eventTypes[1].name: \"A\" is declared before");
    check(json!([{"name": "A", "schema": {"type": "x"}}]), "eventTypes[0].schema: it is no JSON Schema");
    check(
        json!([{"name": "A", "schemaVersion": 2, "upcast": [{"from": 1, "set": {"a": "1 +"}}]}]),
        "eventTypes[0].upcast[0].set.a: ",
    );
    check(
        json!([{"name": "A", "schemaRef": {"configMapKeyRef": {"name": "a", "key": "b"}}}]),
        "eventTypes[0].schemaRef: its ConfigMap has not been read",
    );
}
