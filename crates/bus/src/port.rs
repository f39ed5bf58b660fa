use async_trait::async_trait;
use headwater_core::{Partition, Position, RecordedEvent, Result};
use headwater_log::Epoch;
use uuid::Uuid;

/// Where something is in a broker, in the broker's own terms, as text: for example a topic's id and an offset. Only the adapter
/// that made it reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerReference(pub String);

/// How far a partition has been relayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// All positions up to here are published.
    pub position: Position,
    /// Where the last of them is; `None` before the first.
    pub reference: Option<BrokerReference>,
}

/// What of a partition a broker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// At least what the checkpoint says, and all up to here: go on after it.
    UpTo(Last),
    /// Less than the checkpoint says: the broker has forgotten what it had acknowledged, or is another one. The greatest position that is
    /// there: go on after it. (What has expired by the broker's retention is not lost.)
    Lost(Last),
}

impl Reached {
    /// What to go on after.
    pub const fn last(self) -> Last {
        match self {
            Self::UpTo(last) | Self::Lost(last) => last,
        }
    }
}

/// The last event of a partition that a broker has, or has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Last {
    /// Its position; 0 for none.
    pub position: Position,
    /// Its id, where the broker still has it: a log that has another event there is not the one that was published.
    pub id: Option<Uuid>,
}

impl Last {
    /// What can be said of a position whose event the broker does not show.
    pub const fn at(position: Position) -> Self {
        Self { position, id: None }
    }

    /// The later of both; of the same position, the one that tells the event.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if (other.position, other.id.is_some()) > (self.position, self.id.is_some()) { other } else { self }
    }
}

impl From<&RecordedEvent> for Last {
    fn from(event: &RecordedEvent) -> Self {
        Self { position: event.position, id: Some(event.id) }
    }
}

/// What became of what was made on a broker for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It was not there, or not to be made.
    Nothing,
    /// It is gone.
    Removed,
    /// It is left as it is, for this reason: it may be somebody else's.
    Left(String),
}

/// Carries events by partition.
///
/// Implementations MUST:
/// - deliver each published event to every consumer of its partition at least once, unless the broker's retention has removed it;
/// - keep the order in which one publisher published them: what a consumer sees for the first time comes in position order, and everything
///   else is a repeat;
/// - answer `publish` only when the broker has made the events as durable as it ever will.
///
/// # Errors
/// `Unavailable` when the broker cannot be reached; `FailedPrecondition` when what is there is not as it must be, and says how.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Publishes events of one partition, in position order, and answers where the last one is. After an error any first part of them
    /// may be there. No other call may publish to the partition meanwhile.
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference>;

    /// What the broker holds of `partition`, seen from a checkpoint: a relay asks before it goes on from one.
    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached>;

    /// Consumes `partition` from after `position`, as far as the broker still has that; then what comes.
    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>>;
}

/// One consumer of one partition.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next events: at least one. Cancel-safe: a dropped call has taken nothing.
    ///
    /// # Errors
    /// As [`Bus`]. After an error the consumer is of no more use: ask for another.
    async fn next(&mut self) -> Result<Vec<RecordedEvent>>;
}

/// Keeps a relay's checkpoints, beside the log.
///
/// Implementations MUST refuse to save under an epoch older than one that has saved or loaded, as `FailedPrecondition`: a relay that was superseded
/// moves no checkpoint.
#[async_trait]
pub trait RelayState: Send + Sync + 'static {
    /// The checkpoint of `partition`, for the relay that runs under `epoch`.
    async fn load(&self, partition: Partition, epoch: Epoch) -> Result<Checkpoint>;

    /// Moves it.
    async fn save(&self, partition: Partition, epoch: Epoch, checkpoint: Checkpoint) -> Result<()>;
}
