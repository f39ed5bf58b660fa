//! What clients do when connections and answers are lost.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use headwater_api::{Client, Read, Subscribe};
use headwater_core::{Expected, Partition, PartitionCount, Position};
use headwater_log::{MemoryStore, Sequencer, SequencerOptions};

use crate::proxy::Proxy;
use crate::support::{Server, append, event, one};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_is_lost_is_stored_once() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.address).await;
    let client = Client::new(&proxy.address.to_string()).unwrap();
    client.append(&one("warm", "up")).await.unwrap();
    proxy.swallow(true);
    let request = append("a", Expected::NoStream, vec![event("A", "1"), event("A", "2")]);
    let appending = tokio::spawn({
        let (client, request) = (client.clone(), request.clone());
        async move { client.append(&request).await }
    });
    // It is stored, and the client does not know.
    server.log.wait_beyond(Partition::ZERO, Position::new(2)).await.unwrap();
    proxy.swallow(false);
    proxy.cut();
    let appended = appending.await.unwrap().unwrap();
    assert_eq!((appended.version.get(), appended.position.get()), (2, 3));
    assert_eq!(server.log.heads().await.unwrap()[0].position.get(), 3);
    assert_eq!(client.append(&request).await.unwrap(), appended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_goes_on_after_its_connection_is_cut() {
    const ROUNDS: u64 = 6;
    let server = Server::with_partitions(3).await;
    let proxy = Proxy::to(server.address).await;
    let client = Client::new(&proxy.address.to_string()).unwrap();
    let mut batches = pin!(client.subscribe(Subscribe { max_batch: Some(7), ..Subscribe::default() }));
    let (mut count, mut reached) = (0, [0; 3]);
    for round in 0..ROUNDS {
        for index in 0..100 {
            server.client().append(&one(&format!("s{index}"), "A")).await.unwrap();
        }
        // Cut half-way, and at the end at last.
        let enough = if round + 1 == ROUNDS { 100 * ROUNDS } else { 100 * round + 50 };
        while count < enough {
            let batch = batches.next().await.unwrap().unwrap();
            for event in &batch.events {
                let reached = &mut reached[event.partition.index()];
                *reached += 1;
                assert_eq!(event.position.get(), *reached, "lost or repeated");
                count += 1;
            }
        }
        proxy.cut();
    }
    assert_eq!(count, 100 * ROUNDS);
    assert!(proxy.connections() >= ROUNDS as usize, "{} connections", proxy.connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_goes_on_after_its_connection_is_cut() {
    let server = Server::start().await;
    let data = format!("\"{}\"", "x".repeat(100_000));
    for _ in 0..10 {
        let events = (0..30).map(|_| event("A", &data)).collect();
        server.client().append(&append("a", Expected::Any, events)).await.unwrap();
    }
    let proxy = Proxy::to(server.address).await;
    let client = Client::new(&proxy.address.to_string()).unwrap();
    let mut batches = pin!(client.read(Read::default()));
    let mut reached = 0;
    while let Some(batch) = batches.next().await {
        for event in batch.unwrap().events {
            reached += 1;
            assert_eq!(event.position.get(), reached);
        }
        if proxy.connections() < 3 {
            proxy.cut();
        }
    }
    assert_eq!(reached, 300);
    assert_eq!(proxy.connections(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_outlives_a_restart_of_the_server() {
    let log = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let writer: Arc<Sequencer> = Arc::new(Sequencer::start(log.clone(), SequencerOptions::default()));
    let server = Server::over("127.0.0.1:0", log.clone(), writer.clone()).await;
    let address = server.address.to_string();
    let client = server.client();
    let mut batches = pin!(client.subscribe(Subscribe::default()));
    client.append(&one("a", "A")).await.unwrap();
    while batches.next().await.unwrap().unwrap().events.is_empty() {}
    server.stop().await;
    let server = Server::over(&address, log, writer).await;
    server.client().append(&one("a", "A")).await.unwrap();
    loop {
        let batch = batches.next().await.unwrap().unwrap();
        if let Some(event) = batch.events.first() {
            assert_eq!(event.position.get(), 2);
            break;
        }
    }
}
