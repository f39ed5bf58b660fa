//! The query API and the administration API, as their clients see them.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use headwater_core::{LogId, Positions, Token};
use headwater_projection::{Catalog, ProjectionService, admin_router, query_router};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::orders;
use crate::support::{Log, Sink, caught_up, desired, start, until};

struct Answer {
    status: StatusCode,
    headers: axum::http::HeaderMap,
    body: Value,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        if status >= 400 {
            assert_eq!(self.headers["content-type"], "application/problem+json");
        }
        self
    }

    fn says(&self, field: &str, part: &str) {
        assert_eq!(self.body["field"], field, "{}", self.body);
        assert!(self.body["detail"].as_str().unwrap().contains(part), "{}", self.body);
    }
}

async fn get(router: &Router, uri: &str) -> Answer {
    Answer::of(router.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap()).await
}

async fn post(router: &Router, uri: &str, body: &str) -> Answer {
    Answer::of(
        router.clone().oneshot(Request::post(uri).body(Body::from(body.to_owned())).unwrap()).await.unwrap(),
    )
    .await
}

async fn shop(log: &Log, sink: &Sink) -> (ProjectionService, Router, Router) {
    let service = start(log, sink.open(), desired(orders::MANIFEST)).await;
    let catalog = Catalog::default();
    catalog.add(service.clone());
    (service, query_router(catalog.clone()), admin_router(catalog))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_pages() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, query, _) = shop(&log, &sink).await;
    for (order, amount) in [("a", "9.50"), ("b", "10"), ("c", "100.05")] {
        orders::create(&log, order, amount).await;
    }
    let token = orders::create(&log, "x/y %", "1").await;
    let read = get(&query, &format!("/v1/projections/test/orders/b?min_token={token}")).await;
    read.is(200);
    assert_eq!(read.body["amount"], "10");
    assert_eq!(read.body["status"], "Pending");
    let known: Token = read.headers["headwater-token"].to_str().unwrap().parse().unwrap();
    assert!(known.positions.cover(&token.positions));
    assert!(read.headers.get("headwater-parked").is_none());

    assert_eq!(
        get(&query, "/v1/projections/test/orders/x%2Fy%20%25").await.is(200).body["order_id"],
        "x/y %"
    );
    let item = get(&query, "/v1/projections/test/order_items/a/2").await;
    assert_eq!(
        item.is(200).body,
        json!({"order_id": "a", "line": "2", "code": "cola", "name": "Cola", "unit_price": "2.10", "quantity": "1"})
    );

    let ids = |answer: &Answer| {
        answer.body["rows"].as_array().unwrap().iter().map(|row| row["order_id"].clone()).collect::<Vec<_>>()
    };
    let page = get(&query, "/v1/projections/test/orders?order_by=-amount&limit=3").await;
    assert_eq!(ids(page.is(200)), ["c", "b", "a"], "by number, not by text");
    let next = page.body["next"].as_str().unwrap();
    let rest =
        get(&query, &format!("/v1/projections/test/orders?order_by=-amount&limit=3&after={next}")).await;
    assert_eq!(ids(rest.is(200)), ["x/y %"]);
    assert_eq!(rest.body["next"], Value::Null);
    assert_eq!(rest.body["token"].as_str().unwrap(), known.to_string());
    let some = get(&query, "/v1/projections/test/orders?status=Pending&amount=10.00").await;
    assert_eq!(ids(some.is(200)), ["b"]);
    assert_eq!(
        ids(get(&query, "/v1/projections/test/orders?status=Approved").await.is(200)),
        Vec::<Value>::new()
    );
    let items = get(&query, "/v1/projections/test/order_items?order_id=a&order_by=-line").await;
    assert_eq!(items.body["rows"][0]["line"], "2");

    get(&query, &format!("/v1/projections/test/orders?after={next}"))
        .await
        .is(400)
        .says("after", "another order");
    get(&query, "/v1/projections/test/orders?colour=red").await.is(400).says("colour", "\"customer_id\"");
    get(&query, "/v1/projections/test/orders?amount=much").await.is(400).says("amount", "no Decimal");
    get(&query, "/v1/projections/test/orders?order_by=colour")
        .await
        .is(400)
        .says("order_by", "no such column");
    get(&query, "/v1/projections/test/orders/a?status=Pending")
        .await
        .is(400)
        .says("status", "a key names one row");
    get(&query, "/v1/projections/test/order_items/a").await.is(400).says("key", "\"order_id\", \"line\"");
    get(&query, "/v1/projections/test/order_items/a/first").await.is(400).says("line", "no Integer");
    let missing = get(&query, "/v1/projections/test/orders/none").await;
    assert!(missing.is(404).headers.contains_key("headwater-token"));
    assert!(
        get(&query, "/v1/projections/test/colours").await.is(404).body["detail"]
            .as_str()
            .unwrap()
            .contains("\"orders\", \"order_items\"")
    );
    assert!(
        get(&query, "/v1/projections/none/orders").await.is(404).body["detail"]
            .as_str()
            .unwrap()
            .contains("\"test\"")
    );
    get(&query, "/v1/nothing").await.is(404);
    assert_eq!(post(&query, "/v1/projections/test/orders", "").await.is(405).headers["allow"], "GET,HEAD");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_waits_for_its_token_and_says_how_far_it_came() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, query, admin) = shop(&log, &sink).await;
    let token = orders::create(&log, "a", "1").await;
    let path = "/v1/projections/test/orders/a";
    get(&query, &format!("{path}?min_token={token}")).await.is(200);
    post(&admin, "/v1/admin/projections/test/pause", "").await.is(200);
    let later = orders::create(&log, "b", "1").await;
    let late = get(&query, &format!("{path}?min_token={later}&timeout=10ms")).await;
    assert_eq!(late.is(504).body["reached"].as_str().unwrap(), token.to_string());
    // As a header, and while it waits the projection goes on.
    let request = Request::get("/v1/projections/test/orders/b")
        .header("Headwater-Min-Token", later.to_string())
        .body(Body::empty())
        .unwrap();
    let waiting = query.clone().oneshot(request);
    let (answer, resumed) = tokio::join!(waiting, post(&admin, "/v1/admin/projections/test/resume", ""));
    resumed.is(200);
    Answer::of(answer.unwrap()).await.is(200);
    let foreign = Token::new(LogId::generate(), Positions::default());
    get(&query, &format!("{path}?min_token={foreign}"))
        .await
        .is(400)
        .says("min_token", "this event stream is log");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_events_are_seen_and_taken_back_by_administrators() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, query, admin) = shop(&log, &sink).await;
    orders::create(&log, "a", "1").await;
    orders::create(&log, "a", "\"a lot\"").await;
    log.append("order-a", "order-approved", r#"{"order_id":"a"}"#).await;
    caught_up(&log, &service).await;
    assert_eq!(get(&query, "/v1/projections/test/orders/a").await.is(200).headers["headwater-parked"], "2");
    let parked = get(&admin, "/v1/admin/projections/test/parked").await;
    let stream = &parked.is(200).body["streams"][0];
    assert_eq!((stream["stream_id"].as_str(), stream["count"].as_u64()), (Some("order-a"), Some(2)));
    assert!(stream["reason"].as_str().unwrap().contains("rule created, set.amount"), "{stream}");
    assert_eq!(stream["events"][0]["position"], "2");

    let replayed = post(&admin, "/v1/admin/projections/test/replay", r#"{"stream_id":"order-a"}"#).await;
    assert_eq!(replayed.is(200).body["released"][0]["remaining"], 2);
    let replayed = post(&admin, "/v1/admin/projections/test/replay", r#"{"all":true}"#).await;
    assert_eq!(replayed.is(200).body["released"][0]["folded"], 0);
    let event = stream["events"][0]["id"].as_str().unwrap();
    let skipped =
        post(&admin, "/v1/admin/projections/test/skip", &format!(r#"{{"event_id":"{event}"}}"#)).await;
    assert_eq!(skipped.is(200).body["released"][0]["folded"], 1);
    let row = get(&query, "/v1/projections/test/orders/a").await;
    assert_eq!(row.body["status"], "Approved");
    assert!(row.headers.get("headwater-parked").is_none());
    post(&admin, "/v1/admin/projections/test/skip", r#"{"stream_id":"order-a"}"#).await.is(404);
    post(&admin, "/v1/admin/projections/test/skip", r#"{"stream":"order-a"}"#)
        .await
        .is(400)
        .says("body", "unknown field");
    post(&admin, "/v1/admin/projections/test/replay", "{}").await.is(400).says("stream_id", "give");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_an_address_is_a_problem_too() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, query, admin) = shop(&log, &sink).await;
    orders::create(&log, "a", "1").await;
    caught_up(&log, &service).await;
    for uri in ["/v1/projections/test/orders/%FF", "/v1/projections/%FF", "/v1/projections/%FF/orders"] {
        get(&query, uri).await.is(400).says("url", "percent-encoded");
    }
    get(&admin, "/v1/admin/projections/%FF").await.is(400).says("url", "percent-encoded");
    get(&query, "/v1/projections/test/orders/a?limit=1").await.is(400).says("limit", "a key names one row");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn administrators_see_the_state_and_roll_out() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, _, admin) = shop(&log, &sink).await;
    orders::create(&log, "a", "1").await;
    caught_up(&log, &service).await;
    until(&service, "the status has it", |status| {
        status.lag.is_some_and(|lag| lag.events == 0) && status.token.is_some()
    })
    .await;
    let list = get(&admin, "/v1/admin/projections").await;
    let status = &list.is(200).body["projections"][0];
    assert_eq!((status["name"].as_str(), status["state"].as_str()), (Some("test"), Some("Running")));
    assert_eq!(status["active"]["revision"], "1");
    assert_eq!(status["active"]["partitions"][0]["position"], "1");
    post(&admin, "/v1/admin/projections/test/rebuild", "").await.is(200);
    until(&service, "the rebuild answers", |status| {
        status.active.as_ref().is_some_and(|active| active.revision == "2")
    })
    .await;
    assert_eq!(get(&admin, "/v1/admin/projections/test").await.is(200).body["previous"]["revision"], "1");
    let back = post(&admin, "/v1/admin/projections/test/rollback", "").await;
    assert_eq!(back.is(200).body["active"]["revision"], "1");
    post(&admin, "/v1/admin/projections/test/promote", "").await.is(200);
    post(&admin, "/v1/admin/projections/test/explode", "").await.is(404);
    post(&admin, "/v1/admin/projections/none/promote", "").await.is(404);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_describes_the_tables() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let (service, query, _) = shop(&log, &sink).await;
    caught_up(&log, &service).await;
    let document = get(&query, "/openapi.json").await;
    let paths = &document.is(200).body["paths"];
    let list = &paths["/v1/projections/test/orders"]["get"]["parameters"];
    assert!(list.as_array().unwrap().iter().any(|parameter| parameter["name"] == "customer_id"));
    assert!(paths["/v1/projections/test/order_items/{order_id}/{line}"]["get"].is_object());
    let order = &document.body["components"]["schemas"]["test.orders"]["properties"];
    assert_eq!(order["amount"]["type"], json!(["string", "null"]));
    assert_eq!(order["order_id"]["type"], "string");
    let summary = get(&query, "/v1/projections").await;
    assert_eq!(summary.is(200).body["projections"][0]["tables"][1]["key"], json!(["order_id", "line"]));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projections_are_measured() {
    let log = Log::new(1);
    let sink = Sink::memory();
    let service = start(&log, sink.open(), desired(orders::MANIFEST)).await;
    let catalog = Catalog::default();
    catalog.add(service.clone());
    orders::create(&log, "a", "\"a lot\"").await;
    caught_up(&log, &service).await;
    until(&service, "the parked event is in the status", |status| status.parked == 1).await;
    let metrics = headwater_runtime::Metrics::default();
    headwater_projection::register_metrics(&metrics, catalog);
    let text = metrics.render().unwrap();
    for line in [
        "headwater_projection_parked_events{projection=\"test\",role=\"active\"} 1\n",
        "headwater_projection_lag_events{projection=\"test\",role=\"active\"} 0\n",
        "headwater_projection_backlog_events{projection=\"test\"} 0\n",
        "headwater_projection_lag_seconds{projection=\"test\",role=\"active\"} 0\n",
        "headwater_projection_partitions_held{projection=\"test\"} 1\n",
        "headwater_projection_lease_moves_total{projection=\"test\"} 1\n",
        "headwater_projection_folded_events_total{projection=\"test\",result=\"applied\"} 1\n",
        "headwater_projection_folded_events_total{projection=\"test\",result=\"refused\"} 0\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    service.stop().await;
}
