//! The API of sagas over gRPC, and what they are measured by.

use headwater_api::saga_v1 as v1;
use headwater_core::Error;
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use v1::sagas_client::SagasClient;

use crate::api::{Shop, no, nobody};

const SAGA: &str = "place-order";

async fn client(shop: &Shop) -> SagasClient<Channel> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = headwater_saga::grpc::routes(shop.catalog.clone()).into_axum_router();
    tokio::spawn(axum::serve(listener, routes).into_future());
    SagasClient::new(Endpoint::from_shared(url).unwrap().connect().await.unwrap())
}

fn command(instance: &str, step: Option<&str>) -> v1::CommandRequest {
    v1::CommandRequest {
        saga: SAGA.to_owned(),
        instance: instance.to_owned(),
        step: step.map(str::to_owned),
        reason: Some("a test".to_owned()),
    }
}

fn get(instance: &str) -> v1::GetInstanceRequest {
    v1::GetInstanceRequest { saga: SAGA.to_owned(), instance: instance.to_owned() }
}

#[track_caller]
fn is(status: &Status, code: Code, part: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(part), "{status:?}");
}

/// What the status is of, as a client of ours reads it.
fn field(status: &Status) -> String {
    match headwater_api::errors::from_status(status) {
        Error::Invalid { field, .. } => field,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_and_instances_are_looked_at() {
    let shop = Shop::open().await;
    let mut client = client(&shop).await;
    shop.order("order-1", json!({"number": 1})).await;
    let over_http = shop.until("order-1", "completed", "Completed").await;
    shop.order("order-2", json!({"no": 2})).await;

    let sagas = client.list_sagas(v1::ListSagasRequest {}).await.unwrap().into_inner().sagas;
    let saga = client.get_saga(v1::GetSagaRequest { saga: SAGA.into() }).await.unwrap().into_inner();
    assert_eq!(sagas, std::slice::from_ref(&saga));
    assert_eq!((saga.name.as_str(), saga.started, saga.not_started, saga.running), (SAGA, 1, 1, 0));

    let instance = client.get_instance(get("order-1")).await.unwrap().into_inner();
    let summary = instance.summary.clone().unwrap();
    assert_eq!((summary.instance.as_str(), summary.state()), ("order-1", v1::State::Completed));
    assert_eq!(instance.saga, SAGA);
    assert_eq!(instance.event.clone().unwrap().r#type, "OrderCreated");
    let lines = over_http["history"].as_array().unwrap();
    assert_eq!(instance.history.len(), lines.len());
    for (line, over_http) in instance.history.iter().zip(lines) {
        assert_eq!(line.what, over_http["what"]);
        assert_eq!(line.text, over_http["text"]);
        assert_eq!(line.step.as_deref(), over_http["step"].as_str());
        assert_eq!(line.key.as_deref(), over_http["key"].as_str());
        let direction = match over_http["direction"].as_str() {
            None => v1::Direction::Unspecified,
            Some("do") => v1::Direction::Do,
            Some(_) => v1::Direction::Undo,
        };
        assert_eq!(line.direction(), direction);
    }

    let request = v1::ListNotStartedRequest { saga: SAGA.into(), ..Default::default() };
    let not_started = client.list_not_started(request).await.unwrap().into_inner();
    assert_eq!(not_started.events.len(), 1);
    assert_eq!(not_started.events[0].event.as_ref().unwrap().stream_id, "order-2");
    assert!(not_started.events[0].reason.contains("number"), "{not_started:?}");
    let graph = client.get_graph(v1::GetGraphRequest { saga: SAGA.into() }).await.unwrap().into_inner();
    assert!(graph.mermaid.starts_with("flowchart TD\n"), "{}", graph.mermaid);

    let unknown = client.get_saga(v1::GetSagaRequest { saga: "none".into() }).await.unwrap_err();
    is(&unknown, Code::NotFound, "there is \"place-order\"");
    let unknown = client.get_instance(get("order-9")).await.unwrap_err();
    is(&unknown, Code::NotFound, "has no instance \"order-9\"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_come_by_state_and_by_pages() {
    let shop = Shop::open().await;
    let mut client = client(&shop).await;
    for number in 1..=3 {
        shop.script.says(&format!("open-{number} reserve do"), nobody());
        shop.order(&format!("open-{number}"), json!({"number": number})).await;
    }
    shop.lists("", &["open-1 running", "open-2 running", "open-3 running"]).await;
    shop.order("done", json!({"number": 4})).await;
    shop.until("done", "completed", "Completed").await;
    let states = vec![v1::State::Running.into(), v1::State::Completed.into()];
    let mut request = v1::ListInstancesRequest {
        saga: SAGA.into(),
        states: states.clone(),
        page_size: 2,
        ..Default::default()
    };
    let mut names = Vec::new();
    loop {
        let page = client.list_instances(request.clone()).await.unwrap().into_inner();
        assert!(page.instances.len() <= 2);
        names.extend(page.instances.into_iter().map(|summary| summary.instance));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["open-1", "open-2", "open-3", "done"]);

    for (wrong, name) in [
        (v1::ListInstancesRequest { page_size: 1_001, ..request.clone() }, "page_size"),
        (v1::ListInstancesRequest { page_token: "x".into(), ..request.clone() }, "page_token"),
        (v1::ListInstancesRequest { states: vec![9], ..request.clone() }, "states"),
        (v1::ListInstancesRequest { states: vec![0], ..request.clone() }, "states"),
    ] {
        let status = client.list_instances(wrong).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, name), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_decide() {
    let shop = Shop::open().await;
    let mut client = client(&shop).await;
    shop.script.says("order-1 reserve do", nobody());
    shop.order("order-1", json!({"number": 1})).await;
    shop.until("order-1", "running", "AttemptUnanswered").await;
    let wrong = client.abort(command("order-1", Some("reserve"))).await.unwrap_err();
    assert_eq!((wrong.code(), field(&wrong).as_str()), (Code::InvalidArgument, "step"));
    let aborted = client.abort(command("order-1", None)).await.unwrap().into_inner();
    assert!(aborted.history.iter().any(|line| line.text == "abort: a test"), "{aborted:?}");
    shop.until("order-1", "compensated", "Compensated").await;
    is(&client.resume(command("order-1", None)).await.unwrap_err(), Code::FailedPrecondition, "has ended");

    for order in ["order-2", "order-3"] {
        shop.script.says(&format!("{order} ship do"), no("409 Conflict: no ship"));
        shop.order(order, json!({"number": 1})).await;
        shop.until(order, "needs-attention", "AttentionNeeded").await;
    }
    is(
        &client.abort(command("order-2", None)).await.unwrap_err(),
        Code::FailedPrecondition,
        "only goes forward",
    );
    client.skip(command("order-2", Some("ship"))).await.unwrap();
    shop.until("order-2", "completed", "Completed").await;
    client.retry(command("order-3", None)).await.unwrap();
    shop.until("order-3", "needs-attention", "Commanded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_counted() {
    let shop = Shop::open().await;
    shop.order("done", json!({"number": 1})).await;
    shop.until("done", "completed", "Completed").await;
    shop.script.says("undone charge do", no("402 Payment Required"));
    shop.order("undone", json!({"number": 2})).await;
    shop.until("undone", "compensated", "Compensated").await;
    shop.script.says("open reserve do", nobody());
    shop.order("open", json!({"number": 3})).await;
    shop.until("open", "running", "AttemptUnanswered").await;
    shop.order("wrong", json!({"no": 4})).await;

    let text = shop.metrics.render().unwrap();
    for line in [
        r#"headwater_saga_instances{saga="place-order",state="running"} 1"#,
        r#"headwater_saga_instances{saga="place-order",state="needs-attention"} 0"#,
        r#"headwater_saga_backlog_instances{saga="place-order"} 1"#,
        r#"headwater_saga_finished_total{saga="place-order",outcome="completed"} 1"#,
        r#"headwater_saga_finished_total{saga="place-order",outcome="compensated"} 1"#,
        r#"headwater_saga_started_total{saga="place-order"} 3"#,
        r#"headwater_saga_not_started_total{saga="place-order"} 1"#,
        // reserve, charge, ship of one; reserve of the other.
        r#"headwater_saga_calls_total{saga="place-order",way="do",kind="http",outcome="success"} 4"#,
        r#"headwater_saga_calls_total{saga="place-order",way="do",kind="http",outcome="failure"} 1"#,
        r#"headwater_saga_calls_total{saga="place-order",way="do",kind="http",outcome="unanswered"} 1"#,
        r#"headwater_saga_calls_total{saga="place-order",way="undo",kind="http",outcome="success"} 1"#,
        r#"headwater_saga_call_seconds_count{saga="place-order",kind="http"} 7"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
    }
}
