//! Participants over HTTP that are broken, slow, or mean harm.

use std::future::pending;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use headwater_saga::{Answer, Caller, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::support::{Server, assert_has, call, calls, failure, part, post, send, success, unanswered};

/// Reads a request of these tests to its end.
async fn read_request(stream: &mut TcpStream) {
    let mut read = Vec::new();
    while !read.ends_with(b"{}") {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await.unwrap() {
            0 => return,
            count => read.extend_from_slice(&buffer[..count]),
        }
    }
}

/// A participant that answers each connection's first request with these bytes, and then closes it or holds it open.
async fn bytes(answer: Vec<u8>, hold: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                read_request(&mut stream).await;
                // The other side may have had enough of it.
                let _ = stream.write_all(&answer).await;
                if hold {
                    pending::<()>().await;
                }
            });
        }
    });
    format!("http://{address}/debit")
}

#[tokio::test]
async fn what_breaks_off_is_no_answer_even_after_its_status() {
    let (calls, _) = calls();
    for answer in [
        "",
        "HTTP/1.1 200 O",
        "HTTP/1.1 409 Conflict\r\nContent-Le",
        "HTTP/1.1 409 Conflict\r\nContent-Length: 100\r\n\r\n{\"a\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 99 Odd\r\n\r\n",
    ] {
        let url = bytes(answer.into(), false).await;
        let reason = unanswered(send(&calls, post(url.clone(), "{}")).await);
        assert_has(&reason, &[&format!("POST {url}: ")]);
    }
}

#[tokio::test]
async fn what_comes_too_late_is_no_answer() {
    let (calls, _) = calls();
    for answer in [
        "",
        "HTTP/1.1 ",
        "HTTP/1.1 200 OK\r\nX: ",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        let mut late = call(Request::Http(post(bytes(answer.into(), true).await, "{}")));
        late.timeout = Duration::from_millis(150);
        let begun = tokio::time::Instant::now();
        let reason = unanswered(calls.call(&late).await);
        assert_has(&reason, &["POST http://127.0.0.1:", "no answer within 150ms"]);
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn headers_without_end_are_no_answer() {
    let (calls, _) = calls();
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for number in 0..200_000 {
        answer.extend_from_slice(format!("X-{number}: {number}\r\n").as_bytes());
    }
    unanswered(send(&calls, post(bytes(answer, true).await, "{}")).await);
    let mut long = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    long.resize(1 << 20, b'x');
    unanswered(send(&calls, post(bytes(long, true).await, "{}")).await);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_an_answer_without_it() {
    // Without end: only what stops reading gets an answer.
    let flood = |status: StatusCode| {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'['; 64 << 10]));
        (status, Body::from_stream(chunks))
    };
    let router = Router::new()
        .route("/ok", axum::routing::post(move || async move { flood(StatusCode::OK) }))
        .route("/conflict", axum::routing::post(move || async move { flood(StatusCode::CONFLICT) }))
        .route("/exact", axum::routing::post(|| async { format!("\"{}\"", "x".repeat((256 << 10) - 2)) }))
        .route("/over", axum::routing::post(|| async { format!("\"{}\"", "x".repeat((256 << 10) - 1)) }));
    let server = Server::start(router).await;
    let (calls, _) = calls();
    for path in ["/ok", "/over"] {
        let response = success(send(&calls, post(server.url(path), "{}")).await);
        assert_eq!(response.summary, "200 OK (its body of more than 256 KiB is not kept)");
        assert_eq!((part(&response, "status"), part(&response, "body")), ("200".into(), "null".into()));
    }
    let response = success(send(&calls, post(server.url("/exact"), "{}")).await);
    assert_eq!((response.summary.as_str(), part(&response, "body").len()), ("200 OK", 256 << 10));
    assert_eq!(failure(send(&calls, post(server.url("/conflict"), "{}")).await), "409 Conflict");
}

#[tokio::test]
async fn what_no_event_could_hold_is_kept_as_text_or_not_at_all() {
    let echo = |body: Body| async move { body };
    let server = Server::start(Router::new().fallback(echo)).await;
    let (calls, _) = calls();
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    // JSON that is sent is checked before it comes here, so what comes back may only be so if it is made there.
    for (body, kept) in [
        (nested(80), nested(80)),
        (nested(90), format!("\"{}\"", nested(90))),
        (nested(5_000), format!("\"{}\"", nested(5_000))),
        ("1e-300".into(), "\"1e-300\"".into()),
        (r#""\ud800""#.into(), r#""\"\\ud800\"""#.into()),
    ] {
        let response = success(send(&calls, post(server.url("/"), &body)).await);
        assert_eq!(part(&response, "body"), kept);
    }

    let raw = |body: &[u8]| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    for (body, kept) in [
        (&b"{\"a\": tru"[..], r#""{\"a\": tru""#),
        (b"OK, done", r#""OK, done""#),
        (b"\xef\xbb\xbf{}", "\"\u{feff}{}\""),
        (b"  \r\n", "null"),
        (b"{} {}", r#""{} {}""#),
        (b"\xff\xfe", "null"),
        // As JSON's text it is six times as large.
        (&vec![1; 100_000][..], "null"),
    ] {
        let response = success(send(&calls, post(bytes(raw(body), false).await, "{}")).await);
        assert_eq!(part(&response, "body"), kept);
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_kept_fails_no_step() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (closed, mut is_closed) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
            drop(stream);
            closed.send(()).await.unwrap();
        }
    });
    let (calls, _) = calls();
    let mut answered = 0;
    for _ in 0..20 {
        match send(&calls, post(url.clone(), "{}")).await {
            Answer::Success(_) => {
                answered += 1;
                is_closed.recv().await.unwrap();
            }
            Answer::Unanswered { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(answered > 0);
}
