//! The log's contract, kept across the network: client, server and all between.

use std::sync::Arc;

use headwater_api::RemoteLog;
use headwater_core::PartitionCount;
use headwater_log::conformance::LogFixture;

use crate::support::Server;

async fn make(partitions: PartitionCount) -> LogFixture {
    let server = Server::with_partitions(partitions.get() as u32).await;
    let log = RemoteLog::connect(server.client()).await.unwrap();
    LogFixture { reader: Arc::new(log.clone()), writer: Arc::new(log), keep: Box::new(server) }
}

headwater_log::log_conformance!(make);
