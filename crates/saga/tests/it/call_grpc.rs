//! gRPC calls to participants that mean well.

use std::sync::Arc;
use std::time::Duration;

use headwater_core::PartitionCount;
use headwater_eventstore::EventStore;
use headwater_log::{MemoryStore, Sequencer, SequencerOptions};
use headwater_runtime::{Listener, Metrics, Readiness};
use headwater_saga::{Answer, Caller, Calls, GrpcRequest, Json, Request};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bank::{Bank, Reflection, Reply, descriptors};
use crate::support::{
    KEY, assert_has, call, calls, closed_port, config_map, failure, part, success, unanswered,
};

pub(crate) fn request(bank: &Bank, message: &str) -> GrpcRequest {
    GrpcRequest {
        address: bank.server.address.to_string(),
        method: "bank.v1.Accounts/Debit".into(),
        message: Json::parse(message).unwrap(),
        descriptor: None,
        tls: None,
    }
}

pub(crate) async fn send(calls: &Calls, request: GrpcRequest) -> Answer {
    calls.call(&call(Request::Grpc(request))).await
}

const BOOKED: Reply =
    Reply::Message(r#"{"id":"d-1","balanceCents":"9007199254740993","booked":"2026-01-02T03:04:05Z"}"#);

#[tokio::test]
async fn a_method_is_called_that_only_the_server_knows() {
    let bank = Bank::start(BOOKED).await;
    let (calls, _) = calls();
    let message = r#"{"account":"a-1","amount":"12.50","cents":9007199254740993,"nonce":18446744073709551615,
        "fees":[{"kind":"wire","cents":7}],"due":"2026-01-02T03:04:05Z"}"#;
    let response = success(send(&calls, request(&bank, message)).await);
    assert_eq!(response.summary, "OK");
    assert_eq!(part(&response, "status"), "\"OK\"");
    assert_has(&part(&response, "headers"), &[r#""x-served-by":"bank-7""#]);
    // Zeros are there: an expression may ask for them.
    assert_eq!(
        part(&response, "body"),
        r#"{"id":"d-1","balanceCents":"9007199254740993","pending":false,"booked":"2026-01-02T03:04:05Z"}"#
    );

    let (headers, got) = bank.seen.lock().unwrap().pop().unwrap();
    assert_eq!(
        got,
        r#"{"account":"a-1","amount":"12.50","cents":"9007199254740993","nonce":"18446744073709551615","fees":[{"kind":"wire","cents":7}],"due":"2026-01-02T03:04:05Z"}"#
    );
    for (name, value) in [
        ("idempotency-key", KEY),
        ("correlation-id", "c-1"),
        ("causation-id", "0190a7c8-6f5e-7cc0-8000-000000000001"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }

    let asked = bank.reflections();
    assert_eq!(success(send(&calls, request(&bank, "{}")).await), response);
    assert_eq!(bank.reflections(), asked, "what is known is not asked for again");
}

#[tokio::test]
async fn an_older_reflection_and_a_descriptor_set_do_as_well() {
    let (calls, world) = calls();
    let old = Bank::with(Reflection::V1Alpha, BOOKED).await;
    success(send(&calls, request(&old, r#"{"account":"a"}"#)).await);

    let bare = Bank::with(Reflection::None, BOOKED).await;
    assert_has(&failure(send(&calls, request(&bare, "{}")).await), &["no reflection", "descriptorRef"]);
    let given =
        |message| GrpcRequest { descriptor: Some(config_map("bank", "set")), ..request(&bare, message) };
    let reason = unanswered(send(&calls, given("{}")).await);
    assert_has(&reason, &["key \"set\" of ConfigMap \"bank\"", "cannot be read"]);
    world.set("bank", "set", "\u{1}\u{2}no descriptors");
    assert_has(&unanswered(send(&calls, given("{}")).await), &["is no descriptor set"]);
    world.set("bank", "set", descriptors());
    success(send(&calls, given(r#"{"account":"a"}"#)).await);
    let other = GrpcRequest { method: "bank.v1.Loans/Debit".into(), ..given("{}") };
    assert_has(&failure(send(&calls, other).await), &["no service \"bank.v1.Loans\"", "bank.v1.Accounts"]);
}

#[tokio::test]
async fn what_is_not_there_is_a_failure_that_names_what_is() {
    let bank = Bank::start(BOOKED).await;
    let (calls, _) = calls();
    for (method, parts) in [
        ("bank.v1.Loans/Debit", &["no service \"bank.v1.Loans\"", "bank.v1.Accounts"][..]),
        ("bank.v1.Accounts/Credit", &["no method \"Credit\"", "Debit, Watch"]),
        ("bank.v1.Accounts/Watch", &["Watch is a streaming method"]),
        ("bank.v1.DebitRequest/Debit", &["no service \"bank.v1.DebitRequest\""]),
    ] {
        let reason =
            failure(send(&calls, GrpcRequest { method: method.into(), ..request(&bank, "{}") }).await);
        assert_has(&reason, parts);
        assert_has(&reason, &[&format!("{method} at {}", bank.server.address)]);
    }
    for address in ["bank", "", "http://bank:1", "user@bank:1"] {
        let reason =
            failure(send(&calls, GrpcRequest { address: address.into(), ..request(&bank, "{}") }).await);
        assert_has(&reason, &["write HOST:PORT"]);
    }
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_a_failure_that_names_the_field() {
    let bank = Bank::start(BOOKED).await;
    let (calls, _) = calls();
    for (message, place) in [
        (r#"{"acount":"a-1"}"#, "acount"),
        (r#"{"amount":12.50}"#, "amount"),
        (r#"{"cents":"twelve"}"#, "cents"),
        (r#"{"cents":9223372036854775808}"#, "cents"),
        (r#"{"nonce":-1}"#, "nonce"),
        (r#"{"fees":[{"cents":1},{"cents":"x"}]}"#, "fees[1].cents"),
        (r#"{"due":"tomorrow"}"#, "due"),
        ("[1]", "bank.v1.DebitRequest"),
    ] {
        let reason = failure(send(&calls, request(&bank, message)).await);
        assert_has(&reason, &["does not fit the message bank.v1.DebitRequest", place]);
    }
    assert!(bank.seen.lock().unwrap().is_empty(), "what does not fit was not sent");
}

#[tokio::test]
async fn codes_are_failures_or_no_answer() {
    let (calls, _) = calls();
    for (code, name) in [
        (3, "INVALID_ARGUMENT"),
        (5, "NOT_FOUND"),
        (6, "ALREADY_EXISTS"),
        (7, "PERMISSION_DENIED"),
        (9, "FAILED_PRECONDITION"),
        (11, "OUT_OF_RANGE"),
        (12, "UNIMPLEMENTED"),
        (15, "DATA_LOSS"),
        (16, "UNAUTHENTICATED"),
    ] {
        let bank = Bank::start(Reply::Status(code, "insufficient%20funds")).await;
        let answer = send(&calls, request(&bank, "{}")).await;
        let Answer::Failure { reason, response: Some(response) } = answer else { panic!("{answer:?}") };
        assert_eq!(reason, format!("{name}: insufficient funds"));
        assert_eq!(part(&response, "status"), format!("\"{name}\""));
    }
    for (code, name) in [
        (1, "CANCELLED"),
        (2, "UNKNOWN"),
        (4, "DEADLINE_EXCEEDED"),
        (8, "RESOURCE_EXHAUSTED"),
        (10, "ABORTED"),
        (13, "INTERNAL"),
        (14, "UNAVAILABLE"),
        (77, "UNKNOWN"),
    ] {
        let bank = Bank::start(Reply::Status(code, "later")).await;
        assert_eq!(unanswered(send(&calls, request(&bank, "{}")).await), format!("{name}: later"));
    }
}

#[tokio::test]
async fn a_roll_out_counts_when_what_was_known_does_not_fit() {
    let bank = Bank::start(BOOKED).await;
    let (calls, _) = calls();
    success(send(&calls, request(&bank, r#"{"account":"a"}"#)).await);

    // A new field, and a method that has another name.
    let newer = protox::compile(["bank.proto"], [concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")]).unwrap();
    let mut newer = newer;
    let bank_file = newer.file.iter_mut().find(|it| it.name() == "bank.proto").unwrap();
    let request_type = bank_file.message_type.iter_mut().find(|it| it.name() == "DebitRequest").unwrap();
    let mut note = request_type.field[0].clone();
    (note.name, note.json_name, note.number) = (Some("note".into()), Some("note".into()), Some(20));
    request_type.field.push(note);
    let mut other_name = bank_file.service[0].method[0].clone();
    other_name.name = Some("Withdraw".into());
    bank_file.service[0].method.push(other_name);
    let newer = prost::Message::encode_to_vec(&newer);

    bank.roll_out(&newer, "Debit", BOOKED);
    success(send(&calls, request(&bank, r#"{"note":"n"}"#)).await);
    assert_eq!(bank.seen.lock().unwrap().pop().unwrap().1, r#"{"note":"n"}"#);
    bank.roll_out(&newer, "Withdraw", BOOKED);
    let asked = bank.reflections();
    let reason = failure(send(&calls, request(&bank, "{}")).await);
    assert_has(&reason, &["UNIMPLEMENTED"]);
    assert_eq!(bank.reflections(), asked + 1, "asked once more, and no oftener");
    success(
        send(&calls, GrpcRequest { method: "bank.v1.Accounts/Withdraw".into(), ..request(&bank, "{}") })
            .await,
    );
}

#[tokio::test]
async fn a_service_is_called_by_its_name_wherever_it_is() {
    let bank = Bank::start(BOOKED).await;
    let (calls, world) = calls();
    let named = GrpcRequest { address: "bank:50051".into(), ..request(&bank, "{}") };
    world.place("bank", closed_port().await);
    let reason = unanswered(send(&calls, named.clone()).await);
    assert_has(&reason, &["bank.v1.Accounts/Debit at bank:50051: at 127.0.0.1:", "onnection refused"]);
    world.place("bank", bank.server.address);
    success(send(&calls, named).await);
}

#[tokio::test]
async fn a_server_that_is_silent_is_no_answer() {
    let bank = Bank::start(Reply::Silence).await;
    let (calls, _) = calls();
    let mut late = call(Request::Grpc(request(&bank, "{}")));
    late.timeout = Duration::from_millis(300);
    assert_has(
        &unanswered(calls.call(&late).await),
        &["bank.v1.Accounts/Debit at ", "no answer within 300ms"],
    );
}

#[tokio::test]
async fn a_real_event_store_takes_an_event() {
    let log = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let writer = Arc::new(Sequencer::start(log.clone(), SequencerOptions::default()));
    let store = EventStore::new(log, writer, Metrics::default(), Readiness::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    let listener = Listener::new(listener, None);
    let serving = tokio::spawn(store.serve(listener, shutdown.clone()));

    let (calls, _) = calls();
    let append = |message: &str| GrpcRequest {
        address: address.clone(),
        method: "headwater.eventstore.v1.EventStore/Append".into(),
        message: Json::parse(message).unwrap(),
        descriptor: None,
        tls: None,
    };
    let event = r#"{"streamId":"order-1","expected":{"any":{}},"events":[{"type":"Created","data":"e30="}]}"#;
    let response = success(send(&calls, append(event)).await);
    assert_has(&part(&response, "body"), &[r#""version":"1""#]);
    assert_has(&failure(send(&calls, append(r#"{"streamId":"order-1"}"#)).await), &["INVALID_ARGUMENT: "]);
    drop(calls);
    shutdown.cancel();
    serving.await.unwrap().unwrap();
}
