//! What every store must pass, on Redis.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_redis::RedisView;
use headwater_testkit::redis::Redis;
use headwater_view::ViewStore;
use headwater_view::conformance::Place;

/// A prefix of the shared server.
struct Prefix(Arc<Redis>, String);

impl Prefix {
    fn new() -> Self {
        Self(Redis::shared().unwrap(), Redis::prefix())
    }
}

#[async_trait]
impl Place for Prefix {
    async fn open(&self) -> Arc<dyn ViewStore> {
        Arc::new(RedisView::open(&self.0.url(), &self.1, "orders").await.expect("a store"))
    }
}

mod on_redis {
    use super::Prefix;

    headwater_view::view_conformance!(Prefix::new());
}
