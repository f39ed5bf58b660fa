//! The HTTP/JSON API.

use serde_json::{Value, json};

use crate::support::{Answer, Server};

const ONE: &str = r#"{"events":[{"type":"A","data":{"n":1}}]}"#;

#[tokio::test]
async fn what_is_appended_is_read_back_byte_for_byte() {
    let server = Server::start().await;
    let body = r#"{"expected":"no_stream","events":[
        {"id":"087a83cc-171b-49cc-bf22-96fd2c930476","type":"Erstellt-ü","data":{ "amount" : 1.10,
          "n":12345678901234567890123},"metadata":{"correlation_id": "c-1"}},
        {"type":"Bytes","content_type":"application/octet-stream","data_base64":"/wA="}]}"#;
    let answer = server.post("/v1/streams/order-1/events", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let appended = answer.json();
    let token = appended["token"].as_str().unwrap();
    assert_eq!(
        appended,
        json!({"stream_id": "order-1", "version": 2, "partition": 0, "position": "2", "token": token})
    );

    for path in ["/v1/streams/order-1/events", "/v1/events"] {
        let answer = server.get(path).await;
        assert!(
            answer.text.contains("\"data\":{ \"amount\" : 1.10,\n          \"n\":12345678901234567890123}")
        );
        assert!(answer.text.contains(r#""metadata":{"correlation_id": "c-1"}"#));
        let page = answer.json();
        let events = page["events"].as_array().unwrap();
        assert_eq!(events[0]["id"], "087a83cc-171b-49cc-bf22-96fd2c930476");
        assert_eq!(events[0]["type"], "Erstellt-ü");
        assert_eq!((&events[0]["version"], &events[0]["position"]), (&json!(1), &json!("1")));
        assert_eq!(events[1]["data_base64"], "/wA=");
        assert_eq!(events[1]["content_type"], "application/octet-stream");
        assert!(events[1].get("data").is_none() && events[0].get("content_type").is_none());
    }
    assert_eq!(server.get("/v1/events").await.json()["next"], token);
}

#[tokio::test]
async fn repeating_an_append_answers_the_first_result() {
    let server = Server::start().await;
    let body = r#"{"expected":"no_stream","events":[{"id":"087a83cc-171b-49cc-bf22-96fd2c930476","type":"A","data":1}]}"#;
    let first = server.post("/v1/streams/a/events", body).await;
    let again = server.post("/v1/streams/a/events", body).await;
    assert_eq!((again.status, again.json()), (201, first.json()));
    let other = body.replace("\"data\":1", "\"data\":2");
    server.post("/v1/streams/a/events", other).await.is_problem(409, "already-exists", "087a83cc");
}

#[tokio::test]
async fn stream_ids_are_percent_encoded_text() {
    let server = Server::start().await;
    for (path, id) in [
        ("order%2F1", "order/1"),
        ("konto-%C3%BC%F0%9F%8F%A6", "konto-ü\u{1F3E6}"),
        ("a%20b%3F%25", "a b?%"),
        ("plain", "plain"),
    ] {
        let answer = server.post(&format!("/v1/streams/{path}/events"), ONE).await;
        assert_eq!((answer.status, &answer.json()["stream_id"]), (201, &json!(id)));
        assert_eq!(server.get(&format!("/v1/streams/{path}")).await.json()["stream_id"], id);
        let events = server.get(&format!("/v1/streams/{path}/events")).await.json();
        assert_eq!(events["events"][0]["stream_id"], id);
    }
    server.get("/v1/streams/a/b/events").await.is_problem(404, "not-found", "/v1/streams/a/b/events");
    server.get("/v1/streams/a%00b").await.is_problem(
        400,
        "invalid",
        "stream_id: the stream id has the control",
    );
    let long = "x".repeat(256);
    server.get(&format!("/v1/streams/{long}")).await.is_problem(400, "invalid", "has 256 bytes");
}

#[tokio::test]
async fn a_stream_is_read_both_ways_by_next() {
    let server = Server::start().await;
    for _ in 0..7 {
        server.post("/v1/streams/a/events", ONE).await;
    }
    for (direction, expected) in [("forwards", [1, 2, 3, 4, 5, 6, 7]), ("backwards", [7, 6, 5, 4, 3, 2, 1])] {
        let (mut versions, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/streams/a/events?direction={direction}&limit=3{from}");
            let page = server.get(&path).await.json();
            assert_eq!(page["version"], 7);
            let events = page["events"].as_array().unwrap();
            versions.extend(events.iter().map(|event| event["version"].as_i64().unwrap()));
            if events.is_empty() {
                break;
            }
            from = format!("&from_version={}", page["next"].as_str().unwrap());
        }
        assert_eq!(versions, expected, "{direction}");
    }
    let empty = server.get("/v1/streams/none/events").await;
    assert_eq!((empty.status, empty.json()), (200, json!({"events": [], "next": "1", "version": 0})));
    server.get("/v1/streams/none").await.is_problem(404, "not-found", "stream \"none\" has no events");
}

#[tokio::test]
async fn the_log_is_read_by_next_over_all_partitions() {
    let server = Server::with_partitions(3).await;
    for index in 0..20 {
        let body = format!("{{\"events\":[{{\"type\":\"T{}\",\"data\":{index}}}]}}", index % 2);
        server.post(&format!("/v1/streams/s{index}/events"), body).await;
    }
    let (mut data, mut from) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/events?limit=6{from}")).await.json();
        data.extend(page["events"].as_array().unwrap().iter().map(|event| event["data"].as_i64().unwrap()));
        from = format!("&from={}", page["next"].as_str().unwrap());
        if page["caught_up"] == true {
            break;
        }
    }
    data.sort_unstable();
    assert_eq!(data, (0..20).collect::<Vec<_>>());

    let count = async |query: &str| {
        server.get(&format!("/v1/events?{query}")).await.json()["events"].as_array().unwrap().len()
    };
    assert_eq!(count("type=T0").await, 10);
    assert_eq!(count("type=T0&type=T1&prefix=s1").await, 11);
    assert_eq!(count("from=end").await, 0);
    assert_eq!(count("from=2020-01-01T00:00:00Z").await, 20);
    assert_eq!(count("from=2999-01-01T00:00:00Z").await, 0);
    // A page over several partitions reads in the order of time.
    let events = server.get("/v1/events").await.json()["events"].clone();
    let times: Vec<&str> =
        events.as_array().unwrap().iter().map(|event| event["recorded_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn the_head_says_where_the_log_ends() {
    let server = Server::with_partitions(2).await;
    let appended = server.post("/v1/streams/a/events", ONE).await.json();
    let head = server.get("/v1/head").await.json();
    assert_eq!(head["token"], appended["token"]);
    assert_eq!(head["partitions"].as_array().unwrap().len(), 2);
    let before = server.get("/v1/head?before=2020-01-01T00:00:00Z").await.json();
    assert_eq!(before["partitions"][0], json!({"partition": 0, "position": "0"}));
}

#[tokio::test]
async fn partitions_say_who_writes_them() {
    let server = Server::with_partitions(2).await;
    server.post("/v1/streams/a/events", ONE).await;
    let head = server.get("/v1/head").await.json();
    let said = server.get("/v1/partitions").await.json();
    assert_eq!(said["log_id"], head["log_id"]);
    for (partition, head) in
        said["partitions"].as_array().unwrap().iter().zip(head["partitions"].as_array().unwrap())
    {
        assert_eq!(partition["position"], head["position"]);
        assert!(partition["epoch"].as_str().unwrap().parse::<u64>().is_ok(), "{said}");
        assert_eq!(partition.get("relay"), None, "there is no bus");
    }
}

#[tokio::test]
async fn bad_requests_name_what_is_wrong() {
    let server = Server::start().await;
    server.post("/v1/streams/a/events", ONE).await;
    for (path, text) in [
        ("/v1/streams/a/events?limit=0", "limit: 0 is out of bounds; give 1 to 1000"),
        ("/v1/streams/a/events?limit=x", "limit: \"x\" is none; give 1 to 1000"),
        ("/v1/streams/a/events?limit=1001", "limit: 1001 is out of bounds"),
        ("/v1/streams/a/events?limit=1&limit=2", "limit: it is there twice"),
        (
            "/v1/streams/a/events?from=1",
            "from: there is no such parameter here; there are from_version, limit",
        ),
        ("/v1/streams/a/events?from_version=-1", "from_version: \"-1\" is none"),
        (
            "/v1/streams/a/events?from_version=18446744073709551615",
            "from_version: 18446744073709551615 is too large",
        ),
        ("/v1/streams/a/events?direction=up", "direction: \"up\" is none; give forwards or backwards"),
        ("/v1/streams/a/events?upcast=yes", "upcast: \"yes\" is none; give false or true"),
        ("/v1/events?form=x", "form: there is no such parameter here"),
        ("/v1/events?from=x", "from: not a token"),
        ("/v1/events?from=AhI0VniavN7wEjRWeJq83vA", "a newer Headwater may have made it"),
        (
            "/v1/events?from=ARI0VniavN7wEjRWeJq83vA",
            "from: the token is of log 12345678-9abc-def0-1234-56789abcdef0",
        ),
        ("/v1/events?from=12:00", "from: \"12:00\" is no time"),
        ("/v1/events?type=", "type: the event type is empty"),
        ("/v1/events/stream?limit=1", "limit: there is no such parameter here"),
        ("/v1/head?before=x", "before: \"x\" is none; give a time"),
        ("/v1/head?x=1", "x: there is no such parameter here"),
        ("/v1/streams/a?x=1", "x: there is no such parameter here"),
    ] {
        let problem = server.get(path).await.is_problem(400, "invalid", text);
        assert_eq!(
            problem["field"],
            text.split(':').next().unwrap().replace("a newer Headwater may have made it", "from"),
            "{path}"
        );
    }
    for (body, text) in [
        ("", "body: not JSON: EOF while parsing a value at line 1 column 0"),
        ("{\n\"events\": [}", "line 2 column 12"),
        (r#"{"events":[{"type":"A","data":1}],"expect":1}"#, "unknown field `expect`"),
        (r#"{"events":[{"type":"A","data":1,"x":1}]}"#, "unknown field `x`"),
        (r#"{"events":[]}"#, "events: there are none"),
        (
            r#"{"events":[{"type":"A","data":1,"schema_version":0}]}"#,
            "schema_version: 0 is no schema version",
        ),
        (r#"{"events":[{"type":"A","data":"\ud800"}]}"#, "events[0].data: the escape \\ud800"),
        (r#"{"events":[{"type":"A","data":1,"metadata":{"a":"\ud800"}}]}"#, "events[0].metadata: the escape"),
        (r#"{"events":[{"type":"A"}]}"#, "events[0].data: it is missing"),
        (r#"{"expected":"3","events":[]}"#, "or a version such as 3"),
    ] {
        server.post("/v1/streams/a/events", body).await.is_problem(400, "invalid", text);
    }
    server.post("/v1/streams/a/events?x=1", ONE).await.is_problem(
        400,
        "invalid",
        "x: there is no such parameter here; there are none",
    );
    // Nothing of all this was stored.
    assert_eq!(server.get("/v1/streams/a").await.json()["version"], 1);
}

#[tokio::test]
async fn what_the_server_does_not_know_is_a_problem() {
    let server = Server::start().await;
    server.get("/").await.is_problem(404, "not-found", "there is nothing at /;");
    server.get("/v1/streams//events").await.is_problem(400, "invalid", "stream_id: the stream id is empty");
    let client = reqwest::Client::new();
    let answer = Answer::of(client.delete(server.url("/v1/streams/a/events")).send().await.unwrap()).await;
    answer.is_problem(405, "method-not-allowed", "/v1/streams/a/events does not take DELETE");
    let mut allowed: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    server.post("/healthz", "{}").await.is_problem(405, "method-not-allowed", "/healthz does not take POST");
    let form = client.post(server.url("/v1/streams/a/events")).header("content-type", "text/plain").body(ONE);
    let answer = Answer::of(form.send().await.unwrap()).await;
    answer.is_problem(415, "unsupported-media-type", "Content-Type \"text/plain\"; send application/json");
    let bare = client.post(server.url("/v1/streams/a/events")).body(ONE);
    let answer = Answer::of(bare.send().await.unwrap()).await;
    answer.is_problem(415, "unsupported-media-type", "no Content-Type; send application/json");
}

#[tokio::test]
async fn both_versions_of_http_are_spoken() {
    let server = Server::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let response = client
        .post(server.url("/v1/streams/a/events"))
        .header("content-type", "application/json; charset=utf-8")
        .body(ONE)
        .send()
        .await
        .unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 201));
    let response = reqwest::get(server.url("/v1/streams/a/events")).await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert_eq!(response.json::<Value>().await.unwrap()["version"], 1);
}

#[tokio::test]
async fn health_and_metrics_are_served() {
    let server = Server::start().await;
    server.post("/v1/streams/a/events", ONE).await;
    server.get("/v1/events").await;
    assert_eq!(server.get("/healthz").await.text, "ok\n");
    assert_eq!(server.get("/readyz").await.text, "ready\n");
    let metrics = server.get("/metrics").await.text;
    for line in [
        "headwater_appends_total{api=\"http\",outcome=\"ok\"} 1",
        "headwater_events_appended_total 1",
        "headwater_events_read_total 1",
        "headwater_append_seconds_count 1",
        "headwater_subscriptions 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}
