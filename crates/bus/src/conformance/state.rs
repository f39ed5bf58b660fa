//! What everything must do that keeps a relay's checkpoints.

use super::*;
use crate::BrokerReference;
use headwater_core::Error;

/// `open` opens the same state again; it has at least two partitions.
pub async fn checkpoints_are_moved_by_the_newest_relay_alone(open: impl AsyncFn() -> Arc<dyn RelayState>) {
    let (zero, one) = (Partition::ZERO, Partition::new(1));
    let at = |position: u64| Checkpoint {
        position: Position::new(position),
        reference: Some(BrokerReference(format!("broker/1 {position} '\u{e9}"))),
    };
    let state = open().await;
    assert_eq!(state.load(zero, Epoch(3)).await.unwrap(), Checkpoint::default());
    state.save(zero, Epoch(3), at(10)).await.unwrap();
    state.save(zero, Epoch(3), at(20)).await.unwrap();
    assert_eq!(state.load(one, Epoch(1)).await.unwrap(), Checkpoint::default(), "partitions are apart");

    let state = open().await;
    assert_eq!(state.load(zero, Epoch(3)).await.unwrap(), at(20), "it is kept");
    // Whoever has loaded has taken over, before it saves anything.
    assert_eq!(state.load(zero, Epoch(5)).await.unwrap(), at(20));
    for old in [Epoch(3), Epoch(4)] {
        let refused = state.save(zero, old, at(30)).await;
        assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "{refused:?}");
        let refused = state.load(zero, old).await;
        assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "{refused:?}");
    }
    assert_eq!(state.load(zero, Epoch(5)).await.unwrap(), at(20), "and nothing was moved");
    // A broker that has lost something is filled in from further back.
    state.save(zero, Epoch(5), at(15)).await.unwrap();
    state.save(zero, Epoch(6), Checkpoint { position: Position::new(16), reference: None }).await.unwrap();
    assert_eq!(state.load(zero, Epoch(6)).await.unwrap().position, Position::new(16));
}
