//! Who writes what, when several do.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::{Clock, Epoch, LeaseStore, Member};

/// A store to be tested, empty, whose time is the test's.
pub struct LeaseFixture {
    pub store: Arc<dyn LeaseStore>,
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub struct Hand(Arc<AtomicI64>);

impl Hand {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000_000_000)))
    }

    fn clock(&self) -> Clock {
        let hand = self.clone();
        Clock::new(move || {
            jiff::Timestamp::from_microsecond(hand.0.load(Ordering::SeqCst)).expect("a time of these years")
        })
    }

    fn moves(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::SeqCst);
    }
}

const TERM: Duration = Duration::from_secs(4);

fn member(name: &str) -> Member {
    Member { id: Uuid::new_v4(), address: format!("http://{name}:50051") }
}

fn partitions(numbers: &[u16]) -> Vec<Partition> {
    numbers.iter().copied().map(Partition::new).collect()
}

async fn make<F>(make: impl Fn(PartitionCount, Clock) -> F) -> (LeaseFixture, Hand)
where
    F: Future<Output = LeaseFixture>,
{
    let hand = Hand::new();
    (make(PartitionCount::new(3).expect("three"), hand.clock()).await, hand)
}

pub async fn a_partition_has_one_holder_at_a_time<F>(fixture: impl Fn(PartitionCount, Clock) -> F)
where
    F: Future<Output = LeaseFixture>,
{
    let (LeaseFixture { store, keep: _keep }, hand) = make(fixture).await;
    let (a, b) = (member("a"), member("b"));
    let seen = store.renew(&a, TERM).await.expect("a joins");
    assert_eq!((seen.members, seen.holders), (vec![a.clone()], vec![None, None, None]));
    assert_eq!(store.claim(&a, &partitions(&[0, 1]), TERM).await.expect("a claims"), partitions(&[0, 1]));
    store.renew(&b, TERM).await.expect("b joins");
    assert_eq!(store.claim(&b, &partitions(&[0, 1, 2]), TERM).await.expect("b claims"), partitions(&[2]));
    let mut both = vec![a.clone(), b.clone()];
    both.sort_by_key(|member| member.id);
    let seen = store.renew(&a, TERM).await.expect("a looks");
    assert_eq!(seen.members, both);
    assert_eq!(seen.holders, [Some(a.clone()), Some(a.clone()), Some(b.clone())]);

    // Renewed in time, a lease goes on.
    hand.moves(TERM.mul_f64(0.75));
    store.renew(&a, TERM).await.expect("a renews");
    hand.moves(Duration::from_secs(2));
    let seen = store.renew(&a, TERM).await.expect("a looks");
    assert_eq!(seen.members, std::slice::from_ref(&a), "b has not been heard of");
    assert_eq!(seen.holders, [Some(a.clone()), Some(a.clone()), None]);
    assert_eq!(store.claim(&a, &partitions(&[2]), TERM).await.expect("a claims"), partitions(&[2]));
    // Whose lease has ended does not renew it.
    let seen = store.renew(&b, TERM).await.expect("b is back");
    assert_eq!(seen.holders, [Some(a.clone()), Some(a.clone()), Some(a)]);
}

pub async fn a_lease_that_has_ended_is_claimed_anew_by_its_holder_too<F>(
    fixture: impl Fn(PartitionCount, Clock) -> F,
) where
    F: Future<Output = LeaseFixture>,
{
    let (LeaseFixture { store, keep: _keep }, hand) = make(fixture).await;
    let a = member("a");
    store.renew(&a, TERM).await.expect("a joins");
    store.claim(&a, &partitions(&[0]), TERM).await.expect("a claims");
    hand.moves(TERM);
    let seen = store.renew(&a, TERM).await.expect("a looks");
    assert_eq!(seen.holders[0], None);
    store.acquire_as(Partition::ZERO, a.id).await.expect_err("it holds nothing");
    assert_eq!(store.claim(&a, &partitions(&[0]), TERM).await.expect("a claims"), partitions(&[0]));
    store.acquire_as(Partition::ZERO, a.id).await.expect("it holds it");
}

pub async fn a_new_holder_fences_the_one_before<F>(fixture: impl Fn(PartitionCount, Clock) -> F)
where
    F: Future<Output = LeaseFixture>,
{
    let (LeaseFixture { store, keep: _keep }, hand) = make(fixture).await;
    let (a, b) = (member("a"), member("b"));
    let first = Partition::ZERO;
    let commit = |epoch: Epoch, head: u64, id: &str| {
        let stream_id = StreamId::new(id).expect("an id");
        let event = NewEvent::json(EventType::new("Written").expect("a type"), "{}");
        let events = vec![batch_event(&stream_id, 1, event)];
        store.commit(Arc::new(Batch { partition: first, epoch, head: Position::new(head), events }))
    };
    store.claim(&a, &[first], TERM).await.expect("a claims");
    let before = store.acquire_as(first, a.id).await.expect("a holds it");
    commit(before.epoch, 0, "s1").await.expect("a writes");
    hand.moves(TERM);
    // Nobody has claimed it yet: what a wrote before stands, and what it writes is protected by its epoch still.
    store.claim(&b, &[first], TERM).await.expect("b claims");
    let fenced = commit(before.epoch, 1, "s2").await;
    assert!(matches!(fenced, Err(CommitError::Fenced)), "{fenced:?}");
    store.acquire_as(first, a.id).await.expect_err("b holds it");
    let now = store.acquire_as(first, b.id).await.expect("b holds it");
    assert!(now.epoch > before.epoch);
    assert_eq!(now.position, Position::new(1));
    commit(now.epoch, 1, "s2").await.expect("b writes");
}

pub async fn what_is_given_up_is_free_at_once<F>(fixture: impl Fn(PartitionCount, Clock) -> F)
where
    F: Future<Output = LeaseFixture>,
{
    let (LeaseFixture { store, keep: _keep }, _) = make(fixture).await;
    let (a, b) = (member("a"), member("b"));
    store.renew(&a, TERM).await.expect("a joins");
    store.claim(&a, &partitions(&[0, 1, 2]), TERM).await.expect("a claims");
    // Only one's own can be given up.
    store.release(b.id, &partitions(&[0])).await.expect("nothing of b's");
    assert!(store.claim(&b, &partitions(&[0]), TERM).await.expect("b claims").is_empty());
    store.release(a.id, &partitions(&[1])).await.expect("a gives one up");
    assert_eq!(store.claim(&b, &partitions(&[0, 1]), TERM).await.expect("b claims"), partitions(&[1]));
    store.leave(a.id).await.expect("a leaves");
    let seen = store.renew(&b, TERM).await.expect("b looks");
    assert_eq!((seen.members, seen.holders), (vec![b.clone()], vec![None, Some(b.clone()), None]));
}

pub async fn who_holds_no_lease_writes_only_what_nobody_holds<F>(fixture: impl Fn(PartitionCount, Clock) -> F)
where
    F: Future<Output = LeaseFixture>,
{
    let (LeaseFixture { store, keep: _keep }, hand) = make(fixture).await;
    let a = member("a");
    store.claim(&a, &partitions(&[0]), TERM).await.expect("a claims");
    let refused = store.acquire(Partition::ZERO).await.expect_err("a holds it");
    assert!(refused.is_retryable(), "{refused}");
    store.acquire(Partition::new(1)).await.expect("nobody holds it");
    hand.moves(TERM);
    store.acquire(Partition::ZERO).await.expect("nobody holds it any more");
}
