use headwater_core::{Error, Partition, Position};

/// Who hands the log's partitions to a bus, those that are written here.
pub trait Relays: Send + Sync + 'static {
    /// How far `partition` is on the bus. `None`: it is not relayed here.
    fn relayed(&self, partition: Partition) -> Option<Relayed>;
}

/// How far a partition is on the bus.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The position of the last event that the bus has.
    pub position: Position,
    /// Why nothing gets there, where nothing does.
    pub fault: Option<Error>,
}
