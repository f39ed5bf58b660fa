//! The past, folded by the same rules.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use headwater_core::Token;
use headwater_projection::{Catalog, TravelOptions, query_router};
use tower::ServiceExt;

use crate::banku;
use crate::support::{Log, Sink, caught_up, desired, start};

async fn get(router: &axum::Router, uri: &str) -> (StatusCode, serde_json::Value) {
    let response = router.clone().oneshot(Request::get(uri).body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

async fn end(log: &Log) -> Token {
    use headwater_log::LogReader;
    Token::new(log.store.descriptor().log_id, headwater_log::end(&*log.store).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_what_it_was() {
    let log = Log::new(3);
    let before = banku::session(&log, 10, 100, 1).await;
    let past = end(&log).await;
    let time = jiff::Timestamp::now();
    while jiff::Timestamp::now().as_microsecond() <= time.as_microsecond() + 1 {
        tokio::task::yield_now().await;
    }
    banku::session(&log, 10, 100, 2).await;
    let sink = Sink::sqlite();
    let service = start(&log, sink.open(), desired(banku::MANIFEST)).await;
    caught_up(&log, &service).await;
    let catalog = Catalog::default();
    catalog.add(service.clone());
    let router = query_router(catalog.clone());
    for as_of in [past.to_string(), time.to_string()] {
        let (status, page) =
            get(&router, &format!("/v1/projections/test/accounts?as_of={as_of}&order_by=id")).await;
        assert_eq!(status, StatusCode::OK, "{page}");
        assert_eq!(page["rows"].as_array().unwrap().len(), 10);
        for row in page["rows"].as_array().unwrap() {
            assert_eq!(row["balance"].as_str().unwrap(), before[row["id"].as_str().unwrap()].to_string());
        }
        assert_eq!(page["token"].as_str().unwrap(), past.to_string());
        let (_, row) = get(&router, &format!("/v1/projections/test/accounts/acc-3?as_of={as_of}")).await;
        assert_eq!(row["balance"].as_str().unwrap(), before["acc-3"].to_string());
    }
    // The beginning of time has no rows.
    let (_, page) = get(&router, "/v1/projections/test/accounts?as_of=2000-01-01T00:00:00Z").await;
    assert_eq!(page["rows"], serde_json::json!([]));

    let refused = |problem: serde_json::Value, part: &str| {
        assert_eq!(problem["field"], "as_of", "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(part), "{problem}");
    };
    refused(
        get(&router, "/v1/projections/test/accounts?as_of=yesterday").await.1,
        "no token, and it is not a moment",
    );
    let other = Token::new(headwater_core::LogId::generate(), past.positions.clone());
    refused(
        get(&router, &format!("/v1/projections/test/accounts?as_of={other}")).await.1,
        "this event stream is log",
    );
    let mut ahead = past.clone();
    ahead.positions.set(headwater_core::Partition::ZERO, headwater_core::Position::new(9_999));
    refused(
        get(&router, &format!("/v1/projections/test/accounts?as_of={ahead}")).await.1,
        "ahead of the event stream",
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_travel_has_a_limit_and_goes_on_behind_a_timeout() {
    let log = Log::new(3);
    banku::session(&log, 10, 200, 1).await;
    let past = end(&log).await;
    let service = start(&log, Sink::memory().open(), desired(banku::MANIFEST)).await;
    caught_up(&log, &service).await;

    let small = Catalog::new(TravelOptions { max_events: 100, ..TravelOptions::default() });
    small.add(service.clone());
    let (status, problem) =
        get(&query_router(small), &format!("/v1/projections/test/accounts?as_of={past}")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        problem["detail"].as_str().unwrap().contains("210 events would have to be folded, and at most 100"),
        "{problem}"
    );

    // The scratch store is made only when the test says so.
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let opened = Arc::new(std::sync::Mutex::new(opened));
    let options = TravelOptions {
        patience: Duration::from_mins(10),
        scratch: Arc::new(move || {
            opened.lock().unwrap().recv().unwrap();
            Ok(Arc::new(headwater_view::MemoryView::new()))
        }),
        ..TravelOptions::default()
    };
    let catalog = Catalog::new(options);
    catalog.add(service.clone());
    let router = query_router(catalog);
    let uri = format!("/v1/projections/test/accounts?as_of={past}");
    let (status, problem) = get(&router, &format!("{uri}&timeout=1ms")).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("0 of 210 events"), "{problem}");
    open.send(()).unwrap();
    let (status, page) = get(&router, &uri).await;
    assert_eq!((status, page["rows"].as_array().unwrap().len()), (StatusCode::OK, 10));
    // Asked again, it is there: no second scratch store is made.
    let (status, _) = get(&router, &format!("{uri}&timeout=1ms")).await;
    assert_eq!(status, StatusCode::OK);
    service.stop().await;
}
