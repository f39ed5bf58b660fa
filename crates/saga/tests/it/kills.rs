//! The coordinator is killed before and after each record and each call, and every other coordinator at once.

use std::sync::Arc;

use futures_util::future::join_all;
use headwater_saga::State;

use crate::outcomes::{ASK, PARALLEL, PIVOT, TWO};
use crate::shop::{Does, Killer, World, ended};

type Script = fn(&str, &str, usize) -> Does;

/// Sagas, what their participants do, and how they may end.
fn scenarios() -> Vec<(&'static str, &'static str, Script, &'static [State])> {
    use State::{Compensated, Completed};
    vec![
        ("two steps", TWO, |_, _, _| Does::Answer, &[Completed]),
        (
            "the second fails",
            TWO,
            |step, _, _| if step == "ship/do" { Does::Refuse } else { Does::Answer },
            &[Compensated],
        ),
        (
            "the second is unknown",
            TWO,
            |step, _, _| if step == "ship/do" { Does::LoseAnswer } else { Does::Answer },
            &[Compensated],
        ),
        (
            "first answers are lost",
            TWO,
            |_, _, attempt| if attempt == 1 { Does::LoseAnswer } else { Does::Answer },
            &[Completed],
        ),
        ("a pivot", PIVOT, |_, _, _| Does::Answer, &[Completed]),
        (
            "the pivot fails",
            PIVOT,
            |step, _, _| if step == "book/do" { Does::Refuse } else { Does::Answer },
            &[Compensated],
        ),
        ("side by side", PARALLEL, |_, _, _| Does::Answer, &[Completed]),
        (
            "one side fails",
            PARALLEL,
            |step, _, _| if step == "two/do" { Does::Refuse } else { Does::Answer },
            &[Compensated],
        ),
        ("a reply", ASK, |_, _, _| Does::Answer, &[Completed]),
        // The call itself is refused, and an event says so as well.
        (
            "a refusal",
            ASK,
            |step, _, _| if step == "ask/do" { Does::Refuse } else { Does::Answer },
            &[Compensated],
        ),
    ]
}

#[tokio::test]
async fn a_coordinator_that_is_killed_at_any_point_is_taken_over() {
    let mut points = 0;
    for (name, saga, script, ends) in scenarios() {
        for point in 0.. {
            let world = World::new(saga, script);
            // The first start settles where events are taken in from.
            let first = world.coordinator(&Killer::never()).await;
            first.stop().await;
            let killer = Killer::at(point);
            let starting = world.coordinator(&killer);
            let started = tokio::select! {
                service = starting => Some(service),
                () = killer.dead.cancelled() => None,
            };
            world.place("1").await;
            let survived = match &started {
                Some(service) => tokio::select! {
                    _ = ended(service, "1") => true,
                    () = killer.dead.cancelled() => false,
                },
                None => false,
            };
            if let Some(service) = started {
                service.stop().await;
            }
            let service = world.coordinator(&Killer::never()).await;
            let shown = ended(&service, "1").await;
            assert!(ends.contains(&shown.summary.state), "{name}, killed at {point}: {shown:#?}");
            world.check_ledger("1", shown.summary.state);
            service.stop().await;
            if survived {
                assert!(point >= 10, "{name} has more points than {point}");
                break;
            }
            points += 1;
            assert!(killer.passed() > point);
        }
    }
    assert!(points > 200, "{points} points");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_coordinators_at_once_send_nothing_under_two_keys() {
    for (name, saga, script, ends) in scenarios() {
        let world = Arc::new(World::new(saga, script));
        let never = Killer::never();
        let (one, two) = (world.coordinator(&never).await, world.coordinator(&never).await);
        let orders: Vec<String> = (0..25).map(|number| number.to_string()).collect();
        for order in &orders {
            world.place(order).await;
        }
        for shown in join_all(orders.iter().map(|order| ended(&one, order))).await {
            assert!(ends.contains(&shown.summary.state), "{name}: {shown:#?}");
            world.check_ledger(&shown.summary.instance, shown.summary.state);
        }
        for order in &orders {
            assert!(world.types(&format!("order-{order}")).await.len() <= 2, "{name}: said once");
        }
        one.stop().await;
        two.stop().await;
    }
}
