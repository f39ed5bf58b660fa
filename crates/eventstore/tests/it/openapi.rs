//! The OpenAPI document says what the server does: real answers of every route are checked against it.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::{Answer, Server};

struct Document {
    document: Value,
    seen: BTreeSet<String>,
}

impl Document {
    /// Checks an answer against what the document says of `operation` with this status.
    #[track_caller]
    fn check(&mut self, method: &str, route: &str, answer: &Answer) {
        let operation = &self.document["paths"][route][method];
        assert!(operation.is_object(), "{method} {route} is not in the document");
        let status = answer.status.to_string();
        let responses = &operation["responses"];
        let response = responses.get(&status).or_else(|| responses.get("default")).unwrap_or_else(|| {
            panic!("{method} {route} answered {status}, which is not in the document: {}", answer.text)
        });
        let content_type = answer.header("content-type").split(';').next().unwrap();
        let content = &response["content"][content_type];
        assert!(content.is_object(), "{method} {route} answered {content_type}");
        self.seen.insert(format!("{method} {route} {status}"));
        if content_type.ends_with("json") {
            let failures = self.failures(&content["schema"], &answer.json());
            assert!(failures.is_empty(), "{method} {route} {status}: {failures:?}\n{}", answer.text);
        }
    }

    fn failures(&self, schema: &Value, value: &Value) -> Vec<String> {
        self.validator(schema)
            .iter_errors(value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut schema = schema.clone();
        schema["components"] = self.document["components"].clone();
        jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
    }
}

#[tokio::test]
async fn every_route_answers_as_the_document_says() {
    let server = Server::with_partitions(2).await;
    let answer = server.get("/openapi.json").await;
    let mut document = Document { document: answer.json(), seen: BTreeSet::new() };
    document.check("get", "/openapi.json", &answer);

    let append = "/v1/streams/{stream_id}/events";
    let body = json!({"expected": "no_stream", "events": [
        {"type": "A", "data": {"a": 1.5}, "metadata": {"correlation_id": "c"}},
        {"type": "B", "content_type": "text/plain", "data_base64": "YQ==", "schema_version": 3},
    ]});
    let schema = json!({"$ref": "#/components/schemas/Append"});
    assert_eq!(document.failures(&schema, &body), [""; 0]);
    assert_ne!(document.failures(&schema, &json!({"events": [{"type": "A", "data": 1, "x": 1}]})), [""; 0]);
    document.check("post", append, &server.post("/v1/streams/a/events", body.to_string()).await);
    document.check("post", append, &server.post("/v1/streams/a/events", body.to_string()).await);
    document.check("post", append, &server.post("/v1/streams/a/events", "{").await);
    let plain = reqwest::Client::new().post(server.url("/v1/streams/a/events")).body("x");
    document.check("post", append, &Answer::of(plain.send().await.unwrap()).await);
    document.check("post", append, &server.post("/v1/streams/a/events", vec![b' '; 9 << 20]).await);
    for path in ["/v1/streams/a/events", "/v1/streams/none/events", "/v1/streams/a/events?limit=0"] {
        document.check("get", append, &server.get(path).await);
    }
    for path in ["/v1/streams/a", "/v1/streams/none", "/v1/streams/a?x=1"] {
        document.check("get", "/v1/streams/{stream_id}", &server.get(path).await);
    }
    for path in ["/v1/events", "/v1/events?type=A&limit=1", "/v1/events?from=x"] {
        document.check("get", "/v1/events", &server.get(path).await);
    }
    for path in ["/v1/head", "/v1/head?before=2020-01-01T00:00:00Z", "/v1/head?before=x"] {
        document.check("get", "/v1/head", &server.get(path).await);
    }
    for path in ["/v1/partitions", "/v1/partitions?x=1"] {
        document.check("get", "/v1/partitions", &server.get(path).await);
    }
    document.check("get", "/v1/events/stream", &server.get("/v1/events/stream?from=x").await);
    let open = reqwest::get(server.url("/v1/events/stream")).await.unwrap();
    let open = Answer { status: 200, headers: open.headers().clone(), text: String::new() };
    document.check("get", "/v1/events/stream", &open);
    for path in ["/healthz", "/readyz", "/metrics"] {
        document.check("get", path, &server.get(path).await);
    }
    let gate = server.readiness.wait_for("something");
    document.check("get", "/readyz", &server.get("/readyz").await);
    drop(gate);

    // Every success that the document promises was seen.
    let promised: BTreeSet<String> = document.document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(route, methods)| {
            methods.as_object().unwrap().iter().filter(|(method, _)| *method != "parameters").flat_map(
                move |(method, operation)| {
                    let statuses = operation["responses"].as_object().unwrap().keys();
                    statuses
                        .filter(|status| status.starts_with('2'))
                        .map(move |status| format!("{method} {route} {status}"))
                },
            )
        })
        .collect();
    let missing: Vec<_> = promised.difference(&document.seen).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The routes of the server, as its source has them, are those of the document.
#[test]
fn the_document_has_every_route() {
    let document: Value = serde_json::from_str(include_str!("../../src/openapi.json")).unwrap();
    let documented: BTreeSet<&str> =
        document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let sources = [include_str!("../../src/http.rs"), include_str!("../../../runtime/src/health.rs")];
    let routed: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| source.split(".route(\"").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(routed, documented);
}
