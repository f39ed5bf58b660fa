//! HTTP calls to a participant that means well.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use headwater_resources::saga::HttpMethod;
use headwater_resources::shared::{ClientTls, SecretKeyRef, TlsMode};
use headwater_saga::{Answer, Caller, HeaderValue, HttpRequest, Request};

use crate::support::{
    KEY, Server, assert_has, call, calls, closed_port, failure, part, post, send, success, unanswered,
};

type Seen = Arc<Mutex<Vec<(Method, Uri, HeaderMap, Bytes)>>>;

/// A participant that answers `201` with `body`, and what it got.
async fn recording(body: &'static str) -> (Server, Seen) {
    let seen = Seen::default();
    let record = move |State(seen): State<Seen>, method, uri, headers, bytes| async move {
        seen.lock().unwrap().push((method, uri, headers, bytes));
        (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json"), (header::ETAG, "\"7\"")], body)
    };
    (Server::start(Router::new().fallback(record).with_state(seen.clone())).await, seen)
}

/// A participant that answers `/{status}` with that status and a problem.
async fn answering() -> Server {
    let answer = |Path(status): Path<u16>| async move {
        let problem = r#"{"type": "about:blank", "title": "Refused", "detail": "insufficient\n  funds"}"#;
        (StatusCode::from_u16(status).unwrap(), problem).into_response()
    };
    Server::start(Router::new().route("/{status}", any(answer))).await
}

#[tokio::test]
async fn a_request_says_what_it_is_and_every_digit_travels_both_ways() {
    let (server, seen) = recording(r#"{"balance": 12345678901234567890.10, "id": "d-1"}"#).await;
    let (calls, _) = calls();
    let body = r#"{"amount":12345678901234567890.10,"cents":9007199254740993}"#;
    let response = success(send(&calls, post(server.url("/debits?dry=no#part"), body)).await);

    assert_eq!(response.summary, "201 Created");
    assert_eq!(part(&response, "status"), "201");
    assert_eq!(part(&response, "body"), r#"{"balance": 12345678901234567890.10, "id": "d-1"}"#);
    assert_has(&part(&response, "headers"), &[r#""etag":"\"7\"""#, r#""content-type":"application/json""#]);

    let (method, uri, headers, sent) = seen.lock().unwrap().pop().unwrap();
    assert_eq!((method, uri.to_string().as_str()), (Method::POST, "/debits?dry=no"));
    assert_eq!(sent, body);
    for (name, value) in [
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("idempotency-key", KEY),
        ("correlation-id", "c-1"),
        ("causation-id", "0190a7c8-6f5e-7cc0-8000-000000000001"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
}

#[tokio::test]
async fn methods_are_as_asked_and_no_body_is_none() {
    let (server, seen) = recording("").await;
    let (calls, _) = calls();
    for (method, expected) in [
        (HttpMethod::Get, Method::GET),
        (HttpMethod::Post, Method::POST),
        (HttpMethod::Put, Method::PUT),
        (HttpMethod::Patch, Method::PATCH),
        (HttpMethod::Delete, Method::DELETE),
    ] {
        let request = HttpRequest { method, body: None, ..post(server.url("/ä b"), "1") };
        assert_eq!(part(&success(send(&calls, request).await), "body"), "null");
        let (method, uri, headers, sent) = seen.lock().unwrap().pop().unwrap();
        assert_eq!((method, uri.path()), (expected, "/%C3%A4%20b"));
        assert!(sent.is_empty() && !headers.contains_key("content-type"));
    }
}

#[tokio::test]
async fn the_key_is_the_same_for_every_attempt_whatever_the_action_says() {
    let (server, seen) = recording("{}").await;
    let (calls, _) = calls();
    let mut odd = call(Request::Http(post(server.url("/"), "{}")));
    odd.key = "shop/order/Größe 50%\r\nX: y/1".to_owned();
    for _ in 0..2 {
        success(calls.call(&odd).await);
    }
    let keys: Vec<_> = seen.lock().unwrap().drain(..).map(|it| it.2["idempotency-key"].clone()).collect();
    assert_eq!(keys, ["shop/order/Gr%C3%B6%C3%9Fe%2050%25%0D%0AX:%20y/1"; 2]);

    for name in ["Idempotency-Key", "Transfer-Encoding", "content-length"] {
        let headers = vec![(name.to_owned(), HeaderValue::Text("1".into()))];
        let reason = failure(send(&calls, HttpRequest { headers, ..post(server.url("/"), "{}") }).await);
        assert_has(&reason, &[name, "is set by Headwater itself", &server.url("/")]);
    }
    assert!(seen.lock().unwrap().is_empty(), "what failed was not sent");
}

#[tokio::test]
async fn statuses_are_success_failure_or_no_answer() {
    let server = answering().await;
    let (calls, _) = calls();
    for status in [200, 201, 202, 204, 299] {
        success(send(&calls, post(server.url(&format!("/{status}")), "{}")).await);
    }
    for status in [300, 304, 400, 401, 403, 404, 405, 409, 410, 418, 422, 499, 600, 999] {
        let reason = failure(send(&calls, post(server.url(&format!("/{status}")), "{}")).await);
        assert!(reason.starts_with(&status.to_string()), "{reason}");
    }
    for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
        let reason = unanswered(send(&calls, post(server.url(&format!("/{status}")), "{}")).await);
        assert!(reason.starts_with(&status.to_string()), "{reason}");
    }
    let answer = send(&calls, post(server.url("/409"), "{}")).await;
    let Answer::Failure { reason, response: Some(response) } = answer else { panic!("{answer:?}") };
    assert_eq!(reason, "409 Conflict: insufficient funds");
    assert_eq!(part(&response, "status"), "409");
    assert_has(&part(&response, "body"), &[r#""title": "Refused""#]);
}

#[tokio::test]
async fn the_words_of_a_refusal_are_found_where_they_are() {
    #[track_caller]
    fn check(answer: Answer, expected: &str) {
        assert_eq!(failure(answer), expected);
    }
    let refuse = |body: String| async move { (StatusCode::CONFLICT, body) };
    let server = Server::start(Router::new().fallback(refuse)).await;
    let (calls, _) = calls();
    for (body, expected) in [
        (r#"{"title":"No funds","message":"m"}"#, "409 Conflict: No funds"),
        (r#"{"message":"m","reason":"r"}"#, "409 Conflict: m"),
        (r#"{"reason":"r","error":"e"}"#, "409 Conflict: r"),
        (r#"{"error":{"message":"inner","code":7}}"#, "409 Conflict: inner"),
        (r#""just words""#, "409 Conflict: just words"),
        ("[1]", "409 Conflict"),
        ("{}", "409 Conflict"),
    ] {
        check(send(&calls, post(server.url("/"), body)).await, expected);
    }
    let long = format!("\"{}\"", "é".repeat(500));
    check(send(&calls, post(server.url("/"), &long)).await, &format!("409 Conflict: {}…", "é".repeat(200)));
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_leads_nowhere() {
    let (target, seen) = recording("{}").await;
    let to = target.url("/elsewhere");
    let redirect = move || {
        let to = to.clone();
        async move { Redirect::temporary(&to) }
    };
    let server = Server::start(Router::new().fallback(redirect)).await;
    let (calls, _) = calls();
    let reason = failure(send(&calls, post(server.url("/"), "{}")).await);
    assert_has(
        &reason,
        &["307 Temporary Redirect: ", "redirects are not followed", &target.url("/elsewhere")],
    );
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_there_is_no_answer() {
    let (calls, world) = calls();
    let address = closed_port().await;
    let reason = unanswered(send(&calls, post(format!("http://{address}/debit?token=1"), "{}")).await);
    assert_has(&reason, &[&format!("POST http://{address}/debit: "), "onnection refused"]);
    assert!(!reason.contains("token"), "{reason}");

    world.place("payments", address);
    let reason = unanswered(send(&calls, post("http://payments/debit", "{}")).await);
    assert_has(&reason, &["POST http://payments/debit: ", &format!("at {address}: ")]);
    world.place("payments", "nowhere");
    let reason = unanswered(send(&calls, post("http://payments/debit", "{}")).await);
    assert_has(&reason, &["\"nowhere\", which is no HOST:PORT"]);
}

#[tokio::test]
async fn a_service_is_called_by_its_name_wherever_it_is() {
    let (first, seen) = recording("1").await;
    let (second, seen_second) = recording("2").await;
    let (calls, world) = calls();
    world.place("payments", first.address);
    success(send(&calls, post("http://payments:8080/debit", "{}")).await);
    assert_eq!(seen.lock().unwrap().pop().unwrap().2["host"], "payments:8080");

    // A host with its port is closer than a host, and a move counts at once.
    world.place("payments:8080", second.address);
    success(send(&calls, post("http://payments:8080/debit", "{}")).await);
    success(send(&calls, post("http://payments/debit", "{}")).await);
    assert_eq!(seen_second.lock().unwrap().len(), 1);
    assert_eq!(seen.lock().unwrap().pop().unwrap().2["host"], "payments");
}

#[tokio::test]
async fn a_header_from_a_secret_is_sent_and_never_told() {
    let echo = |headers: HeaderMap| async move {
        let got = String::from_utf8_lossy(headers["authorization"].as_bytes()).into_owned();
        (StatusCode::CONFLICT, [("x-echo", got.clone())], format!(r#"{{"detail": "not for {got}"}}"#))
    };
    let server = Server::start(Router::new().fallback(echo)).await;
    let (calls, world) = calls();
    let key = SecretKeyRef { name: "payments".into(), key: "token".into() };
    let headers = vec![("Authorization".to_owned(), HeaderValue::Secret(key))];
    let request = HttpRequest { headers, ..post(server.url("/"), "{}") };

    let reason = unanswered(send(&calls, request.clone()).await);
    assert_has(&reason, &["header Authorization", "key \"token\" of Secret \"payments\""]);

    world.set("payments", "token", "Bearer hunter22\u{0}hidden");
    let reason = unanswered(send(&calls, request.clone()).await);
    assert_has(&reason, &["key \"token\" of Secret \"payments\"", "no header can hold"]);
    assert!(!reason.contains("hunter22"), "{reason}");

    world.set("payments", "token", "Bearer hunter22\n");
    let answer = send(&calls, request.clone()).await;
    assert!(!format!("{answer:?}").contains("hunter22"), "{answer:?}");
    assert_eq!(failure(answer), "409 Conflict: not for (secret)");
}

#[tokio::test]
async fn a_secret_is_not_told_however_short_or_spelled() {
    let refuse = |body: String| async move { (StatusCode::CONFLICT, body) };
    let server = Server::start(Router::new().fallback(refuse)).await;
    let (calls, world) = calls();
    let key = SecretKeyRef { name: "payments".into(), key: "token".into() };
    let headers = vec![("Authorization".to_owned(), HeaderValue::Secret(key))];
    let kept = "409 Conflict";
    for (secret, body, reason, summary) in [
        ("pw1", r#"{"detail":"not pw1"}"#, "409 Conflict: not (secret)", kept),
        ("Bearer pw1", r#"{"detail":"not pw1"}"#, "409 Conflict: not (secret)", kept),
        ("Key a b", r#"{"detail":"not a b"}"#, "409 Conflict: not (secret)", kept),
        // Others see a word that stands there by itself.
        (
            "long-word-1 x long-word-2",
            r#""long-word-2, long-word-1""#,
            "409 Conflict: (secret), (secret)",
            kept,
        ),
    ] {
        world.set("payments", "token", secret);
        let request = HttpRequest { headers: headers.clone(), ..post(server.url("/"), body) };
        let Answer::Failure { reason: got, response: Some(response) } = send(&calls, request).await else {
            panic!("{secret} in {body}");
        };
        assert_eq!((got.as_str(), response.summary.as_str()), (reason, summary));
    }
    for (secret, body) in [
        ("päss😀word", r#"{"detail":"not p\u00e4ss\ud83d\ude00word"}"#),
        ("to/ken", r#"{"detail":"not to\/ken"}"#),
        (r#"to"ken"#, r#"{"detail":"not to\"ken"}"#),
        (r"to\ken", r#"{"detail":"not to\\ken"}"#),
        ("token", r#"{"detail":"not \u0074oken"}"#),
        ("token", r#"{"detail":{"a":["\u0074oken"]}}"#),
        ("token", r#"{"a\u0074oken":1}"#),
    ] {
        world.set("payments", "token", secret);
        let request = HttpRequest { headers: headers.clone(), ..post(server.url("/"), body) };
        let Answer::Failure { reason, response: Some(response) } = send(&calls, request).await else {
            panic!("{secret} in {body}");
        };
        assert_eq!(reason, "409 Conflict");
        assert_eq!(response.summary, "409 Conflict (its body repeats a Secret and is not kept)");
        assert_eq!(part(&response, "body"), "null");
    }
    // Escapes of something else are kept.
    world.set("payments", "token", "token");
    let request = HttpRequest { headers, ..post(server.url("/"), r#"{"detail":"a \"b\" \u00e9"}"#) };
    assert_eq!(failure(send(&calls, request).await), "409 Conflict: a \"b\" é");
}

#[tokio::test]
async fn a_header_that_cannot_be_is_a_failure() {
    let (calls, _) = calls();
    for (name, value, fault) in
        [("X-Name", "a\r\nb: c", "characters that no header can hold"), ("a b", "c", "a name that no header")]
    {
        let headers = vec![(name.to_owned(), HeaderValue::Text(value.into()))];
        let reason = failure(send(&calls, HttpRequest { headers, ..post("http://x/", "{}") }).await);
        assert_has(&reason, &[name, fault]);
    }
}

#[tokio::test]
async fn a_url_that_leads_nowhere_or_elsewhere_is_a_failure() {
    let (calls, _) = calls();
    for (url, fault) in [
        ("payments/debit", "no URL"),
        ("/debit", "no URL"),
        ("ftp://payments/debit", "no URL of http"),
        ("http://", "no URL"),
        ("http://user:word@payments/", "no user"),
        ("http://payments/accounts/../debit", "segment"),
        ("http://payments/accounts/%2E%2e/debit", "segment"),
        ("http://payments/accounts/.", "segment"),
    ] {
        let reason = failure(send(&calls, post(url, "{}")).await);
        assert_has(&reason, &["POST ", fault]);
    }
    let tls = |mode| Some(ClientTls { mode, ca_ref: None, client_cert_secret_ref: None, server_name: None });
    for (url, mode, fault) in [
        ("https://payments/", TlsMode::Disable, "write http://"),
        ("http://payments/", TlsMode::VerifyFull, "write https://"),
        ("http://payments/", TlsMode::VerifyCA, "write https://"),
    ] {
        let reason = failure(send(&calls, HttpRequest { tls: tls(mode), ..post(url, "{}") }).await);
        assert_has(&reason, &[fault]);
    }
}

#[tokio::test]
async fn connections_are_kept() {
    let peers = Arc::new(Mutex::new(Vec::new()));
    let record = |State(peers): State<Arc<Mutex<Vec<_>>>>,
                  peer: axum::extract::ConnectInfo<std::net::SocketAddr>| async move {
        peers.lock().unwrap().push(peer.0);
    };
    let router = Router::new().fallback(get(record).post(record)).with_state(peers.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });
    let (calls, _) = calls();
    for _ in 0..3 {
        success(send(&calls, post(format!("http://{address}/"), "{}")).await);
    }
    let peers = peers.lock().unwrap();
    assert!(peers.len() == 3 && peers.iter().all(|it| *it == peers[0]), "{peers:?}");
    serving.abort();
}
