use async_trait::async_trait;
use headwater_core::{Append, Appended, Result};

/// Appends to a log.
///
/// Implementations MUST:
/// - store all events of a request, or none;
/// - answer success only when they are durable: what was acknowledged survives SIGKILL and power loss;
/// - give positions that are gapless and in commit order within the partition, versions gapless within the stream id;
/// - check `expected` against the version at the moment of the commit: of concurrent requests that expect the same version, one wins;
/// - be idempotent by event id: when all ids of the request are there, in this stream id, with equal content, answer the first result,
///   whatever `expected` says; when only some are, or content or stream id differ, refuse with `AlreadyExists` and store nothing;
/// - refuse a failing request alone: its neighbours in a batch go on.
#[async_trait]
pub trait LogWriter: Send + Sync + 'static {
    /// Appends, and answers after the events are durable.
    ///
    /// Dropping the future does not take the request back: it may still be stored. Send it again with the same event ids to know.
    ///
    /// # Errors
    /// `Invalid` over the limits, `WrongVersion`, `AlreadyExists`: nothing was stored. `Exhausted` (full disk): nothing was stored.
    /// `Unavailable`, `DeadlineExceeded`: it may have been stored; repeat with the same ids.
    async fn append(&self, request: Append) -> Result<Appended>;
}
