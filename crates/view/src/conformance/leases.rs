//! Who folds which partition. Time is the store's, so leases that are to end are short, and those that are not are long.

use std::time::{Duration, Instant};

#[allow(clippy::wildcard_imports, reason = "one suite in several files")]
use super::*;
use crate::{Holdings, Look, Member, Standing};

/// A term that does not end during a test.
const LONG: Duration = Duration::from_mins(10);
/// A term that does.
const SHORT: Duration = Duration::from_millis(400);
/// How long the end of a lease is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

fn member(name: &str) -> Member {
    Member { id: Uuid::new_v4(), name: name.into(), standing: Standing::Folds, report: String::new() }
}

async fn look(store: &dyn ViewStore, member: &Member, hold: &[u16], term: Duration) -> Holdings {
    let look = Look {
        member: member.clone(),
        hold: hold.iter().copied().map(Partition::new).collect(),
        partitions: PartitionCount::new(3).expect("three"),
        term,
    };
    store.look(&look).await.expect("a look")
}

fn holders<const N: usize>(holders: [Option<&Member>; N]) -> Vec<Option<Uuid>> {
    holders.map(|holder| holder.map(|member| member.id)).to_vec()
}

/// A partition has one holder at a time, and who asks for what another holds gets the rest.
pub async fn a_partition_has_one_holder_at_a_time(place: &dyn Place) {
    let store = place.open().await;
    let (a, b) = (member("a"), member("b"));
    let seen = look(&*store, &a, &[], LONG).await;
    assert_eq!(seen, Holdings { members: vec![a.clone()], holders: holders([None, None, None]) });
    let seen = look(&*store, &a, &[0, 1], LONG).await;
    assert_eq!(seen.holders, holders([Some(&a), Some(&a), None]));
    let seen = look(&*store, &b, &[0, 1, 2], LONG).await;
    assert_eq!(seen.holders, holders([Some(&a), Some(&a), Some(&b)]));
    let mut both = vec![a.clone(), b.clone()];
    both.sort_by_key(|member| member.id);
    assert_eq!(seen.members, both);
    // Repeated, it is what it was.
    assert_eq!(look(&*store, &b, &[0, 1, 2], LONG).await, seen);
}

/// What a member does not name it gives up, at once, and nobody else's with it.
pub async fn what_is_not_named_is_free_at_once(place: &dyn Place) {
    let store = place.open().await;
    let (a, b) = (member("a"), member("b"));
    look(&*store, &a, &[0, 1], LONG).await;
    look(&*store, &b, &[2], LONG).await;
    let seen = look(&*store, &a, &[1], LONG).await;
    assert_eq!(seen.holders, holders([None, Some(&a), Some(&b)]));
    let seen = look(&*store, &b, &[0, 1, 2], LONG).await;
    assert_eq!(seen.holders, holders([Some(&b), Some(&a), Some(&b)]));
    store.leave(b.id).await.expect("b leaves");
    let seen = look(&*store, &a, &[1], LONG).await;
    assert_eq!(seen, Holdings { members: vec![a.clone()], holders: holders([None, Some(&a), None]) });
    // Twice does no harm, and a member that left may come back.
    store.leave(b.id).await.expect("b has left");
    let seen = look(&*store, &b, &[1, 2], LONG).await;
    assert_eq!(seen.holders, holders([None, Some(&a), Some(&b)]));
}

/// Without another look, a lease ends with its term, and its holder is no member any more; with one, it goes on.
pub async fn a_lease_ends_with_its_term_unless_it_is_renewed(place: &dyn Place) {
    let store = place.open().await;
    let (a, b, c) = (member("a"), member("b"), member("c"));
    let began = Instant::now();
    look(&*store, &a, &[0], SHORT).await;
    look(&*store, &b, &[1], LONG).await;
    let mut seen = look(&*store, &c, &[0, 1, 2], LONG).await;
    // Where this machine was slower than the term, it has ended already.
    assert!(seen.holders[0] == Some(a.id) || began.elapsed() >= SHORT, "{seen:?}");
    while seen.holders[0] != Some(c.id) {
        assert!(began.elapsed() < PATIENCE, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = look(&*store, &c, &[0, 1, 2], LONG).await;
    }
    assert!(began.elapsed() >= SHORT, "it ended before its time");
    assert_eq!(seen.holders, holders([Some(&c), Some(&b), Some(&c)]));
    assert!(!seen.members.contains(&a) && seen.members.contains(&b), "{seen:?}");
    // Whose lease another has taken does not get it back by naming it.
    let seen = look(&*store, &a, &[0], LONG).await;
    assert_eq!(seen.holders[0], Some(c.id));
    assert!(seen.members.contains(&a));

    // Renewed for long, a short one does not end.
    let d = member("d");
    store.leave(c.id).await.expect("c leaves");
    look(&*store, &d, &[2], SHORT).await;
    let renewed = look(&*store, &d, &[2], LONG).await;
    assert_eq!(renewed.holders[2], Some(d.id));
    let until = Instant::now() + SHORT * 2;
    while Instant::now() < until {
        assert_eq!(look(&*store, &b, &[1, 2], LONG).await.holders[2], Some(d.id));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a member says of itself is what the others read, and its newest word counts.
pub async fn what_a_member_says_is_what_others_read(place: &dyn Place) {
    let store = place.open().await;
    let mut a = Member { name: "http://ä:1".into(), ..member("") };
    let b = member("b");
    for (standing, report) in [(Standing::Reserve, "{\"a\": \"ö\n\"}"), (Standing::Watches, "")] {
        (a.standing, a.report) = (standing, report.into());
        look(&*store, &a, &[], LONG).await;
        let seen = look(&*store, &b, &[], LONG).await;
        assert!(seen.members.contains(&a), "{seen:?}");
        assert_eq!(seen.sharing(), [b.id]);
    }
}

/// Of several that take the same at once, each partition goes to one.
pub async fn of_several_that_take_a_partition_at_once_one_gets_it(place: &dyn Place) {
    let store = place.open().await;
    for _ in 0..10 {
        let members: Vec<_> = ["a", "b", "c", "d"].map(member).into();
        let tasks: Vec<_> = members
            .iter()
            .cloned()
            .map(|member| {
                let store = store.clone();
                tokio::spawn(async move {
                    let seen = look(&*store, &member, &[0, 1, 2], LONG).await;
                    seen.holders.iter().filter(|holder| **holder == Some(member.id)).count()
                })
            })
            .collect();
        let mut got = 0;
        for task in tasks {
            got += task.await.expect("no panic");
        }
        assert_eq!(got, 3, "each partition has one who believes to hold it");
        let seen = look(&*store, &members[0], &[0, 1, 2], LONG).await;
        assert!(seen.holders.iter().all(Option::is_some), "{seen:?}");
        for member in &members {
            store.leave(member.id).await.expect("all leave");
        }
    }
}

/// Leases are no part of what is folded: whoever holds none may write, and the checkpoint alone says whether it does.
pub async fn a_batch_needs_no_lease(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    look(&*store, &member("a"), &[0, 1, 2], LONG).await;
    store.apply(batch(revision, P0, 0, 3, vec![]).into()).await.expect("no lease is asked for");
    let late = store.apply(batch(revision, P0, 0, 4, vec![]).into()).await;
    assert!(matches!(late, Err(ApplyError::Checkpoint { found }) if found == Position::new(3)), "{late:?}");
}
