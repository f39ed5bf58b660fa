//! What is too much is refused by the limit's name, and nothing of it is stored.

use headwater_core::{Error, Expected, Metadata, NewEvent};

use crate::support::{Server, append, event};

fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test]
async fn what_is_at_the_limits_is_stored_and_read() {
    let server = Server::start().await;
    let client = server.client();
    let metadata = format!("{{\"a\":{}}}", text((64 << 10) - 6));
    let metadata = Metadata::new(metadata.into()).unwrap();
    let largest = NewEvent { metadata, ..event("A", &text(1 << 20)) };
    client.append(&append("a", Expected::Any, vec![largest])).await.unwrap();
    // With the two bytes of its empty metadata, each is a quarter of 4 MiB.
    let quarter = text((1 << 20) - 2);
    let four = (0..4).map(|_| event("A", &quarter)).collect();
    client.append(&append("b", Expected::Any, four)).await.unwrap();
    let longest = "ü".repeat(127);
    let many = (0..1_000).map(|_| event(&longest, &text(4_000))).collect();
    client.append(&append(&longest, Expected::Any, many)).await.unwrap();
    let page = server.get("/v1/events?limit=1000&prefix=%C3%BC").await.json();
    assert_eq!(page["events"].as_array().unwrap().len(), 1_000);
}

/// A page is full by its bytes before it is by its events, and is read on from all the same.
#[tokio::test]
async fn pages_are_bounded_by_their_bytes() {
    let server = Server::start().await;
    let data = text((1 << 20) - 2);
    for _ in 0..4 {
        let events = (0..3).map(|_| event("A", &data)).collect();
        server.client().append(&append("big", Expected::Any, events)).await.unwrap();
    }
    for (path, from, next) in [
        ("/v1/streams/big/events?limit=1000", "from_version", "0"),
        ("/v1/events?limit=1000", "from", "beginning"),
    ] {
        let (mut pages, mut events, mut next) = (0, 0, next.to_owned());
        while events < 12 {
            let page = server.get(&format!("{path}&{from}={next}")).await;
            assert!(page.text.len() < 6 << 20, "{path}: a page of {} bytes", page.text.len());
            let page = page.json();
            events += page["events"].as_array().unwrap().len();
            next = page["next"].as_str().unwrap().to_owned();
            pages += 1;
        }
        assert_eq!((events, pages), (12, 3), "{path}");
    }
}

#[tokio::test]
async fn what_is_over_the_limits_is_refused() {
    let server = Server::start().await;
    let client = server.client();
    for (events, limit) in [
        (vec![event("A", &text((1 << 20) + 1))], "events[0].data: 1048577 bytes; at most 1048576"),
        ((0..5).map(|_| event("A", &text(1 << 20))).collect(), "at most 4194304"),
        ((0..1_001).map(|_| event("A", "1")).collect(), "at most 1000"),
        // Over what one message may have, before anybody looks into it.
        ((0..9).map(|_| event("A", &text(1 << 20))).collect(), "8388608"),
    ] {
        let error = client.append(&append("a", Expected::Any, events)).await.unwrap_err();
        assert!(
            matches!(error, Error::Invalid { .. }) && error.to_string().contains(limit),
            "{limit}: {error}"
        );
    }
    let body = format!("{{\"events\":[{{\"type\":\"A\",\"data\":{}}}]}}", text(2 << 20));
    server.post("/v1/streams/a/events", body).await.is_problem(
        400,
        "invalid",
        "events[0].data: 2097152 bytes",
    );
    let body = format!("{{\"events\":[{{\"type\":\"A\",\"data\":{}}}]}}", text(9 << 20));
    server.post("/v1/streams/a/events", body).await.is_problem(413, "too-large", "more than 8388608 bytes");
    assert_eq!(server.get("/v1/streams/a/events").await.json()["version"], 0);
}
