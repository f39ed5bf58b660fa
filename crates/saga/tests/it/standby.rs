//! Coordinators that look on, and those that have been superseded.

use headwater_core::Error;
use headwater_log::end;
use headwater_saga::{Command, Commanded, SagaService, SagaStatus, State};

use crate::outcomes::TWO;
use crate::shop::{Does, Killer, World, ended, specs, told, until};

/// Waits until the saga stands as `wanted` says.
async fn stands(service: &SagaService, wanted: impl Fn(&SagaStatus) -> bool) -> SagaStatus {
    let looking = async {
        loop {
            let status = service.status();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    match tokio::time::timeout(crate::shop::PATIENCE, looking).await {
        Ok(status) => status,
        Err(tokio::time::error::Elapsed { .. }) => panic!("{:#?}", service.status()),
    }
}

const fn open(status: &SagaStatus) -> [usize; 3] {
    [status.running, status.compensating, status.needs_attention]
}

#[tokio::test]
async fn one_that_stands_by_shows_what_the_coordinator_does_and_does_nothing() {
    let script = |step: &str, order: &str, _| match (step, order) {
        ("ship/do", "2") => Does::Refuse,
        ("pay/do", "1") | ("pay/undo", "2") => Does::Hold,
        _ => Does::Answer,
    };
    let world = World::new(TWO, script);
    // Before anything was ever coordinated.
    let early = world.standby(None).await;
    assert_eq!(open(&early.status()), [0, 0, 0]);
    let first = world.coordinator(&Killer::never()).await;
    for order in ["1", "2", "3"] {
        world.place(order).await;
    }
    ended(&first, "3").await;
    stands(&first, |status| open(status) == [1, 1, 0]).await;
    // One that was there all the time, and one that comes.
    let late = world.standby(Some("saga-0")).await;
    for standby in [&early, &late] {
        let status = stands(standby, |status| open(status) == [1, 1, 0]).await;
        assert!(!status.coordinates && status.started == 0, "{status:?}");
        let shown = until(standby, "1", |shown| told(shown).contains(&"StepBegun pay do".to_owned())).await;
        assert_eq!(shown.summary.state, State::Running);
        let names: Vec<String> = standby
            .open(&[State::Compensating], None, 10)
            .await
            .unwrap()
            .into_iter()
            .map(|summary| summary.instance)
            .collect();
        assert_eq!(names, ["2"]);
    }
    assert_eq!(early.status().coordinated_by, None);
    assert_eq!(late.status().coordinated_by.as_deref(), Some("saga-0"));
    assert!(first.status().coordinates);
    // What people decide is for the coordinator.
    let before = end(&*world.log).await.unwrap();
    for (standby, part) in [(&early, "try again"), (&late, "coordinated by saga-0")] {
        let abort = Commanded { command: Command::Abort, step: None, reason: None };
        match standby.command("1", abort).await {
            Err(Error::FailedPrecondition { message, .. }) => assert!(message.contains(part), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(end(&*world.log).await.unwrap(), before);
    world.shop.let_go();
    stands(&first, |status| open(status).iter().sum::<usize>() == 1).await;
    world.shop.let_go();
    for (order, state) in [("1", State::Completed), ("2", State::Compensated)] {
        for standby in [&early, &late] {
            assert_eq!(ended(standby, order).await.summary.state, state);
        }
        world.check_ledger(order, state);
    }
    // A successor counts what has ended before it came, too.
    let next = world.coordinator(&Killer::never()).await;
    for service in [&early, &late, &first, &next] {
        let ended = |status: &SagaStatus| (status.completed, status.compensated) == (2, 1);
        let status = stands(service, |status| open(status) == [0, 0, 0] && ended(status)).await;
        assert_eq!((status.generations, status.oldest_running_seconds), (Vec::new(), None));
        service.stop().await;
    }
}

#[tokio::test]
async fn it_is_told_which_definitions_instances_follow_and_how_old_the_oldest_is() {
    let script = |step: &str, _: &str, _| if step == "pay/do" { Does::Hold } else { Does::Answer };
    let world = World::new(TWO, script);
    let first = world.coordinator(&Killer::never()).await;
    let digest = |status: &SagaStatus| status.definition.clone();
    world.place("1").await;
    until(&first, "1", |shown| told(shown).contains(&"StepBegun pay do".to_owned())).await;
    let before = digest(&first.status());
    let (mut saga, stream) = specs(TWO);
    saga.timeout = Some("1h".parse().unwrap());
    first.reconcile(&saga, &stream).await.unwrap();
    for order in ["2", "3"] {
        world.place(order).await;
        until(&first, order, |shown| told(shown).contains(&"StepBegun pay do".to_owned())).await;
    }
    let standby = world.standby(None).await;
    for service in [&first, &standby] {
        let are_known =
            |status: &SagaStatus| status.generations.iter().map(|it| it.running).sum::<usize>() == 3;
        let status = stands(service, are_known).await;
        let of = |digest: &str| status.generations.iter().find(|it| it.digest == digest).map(|it| it.running);
        assert_eq!((of(&before), of(&digest(&first.status()))), (Some(1), Some(2)), "{status:?}");
        assert!(status.oldest_running_seconds.is_some(), "{status:?}");
    }
    for service in [&first, &standby] {
        stands(service, |status| {
            // One at a time.
            world.shop.let_go();
            status.generations.is_empty() && status.completed == 3
        })
        .await;
        service.stop().await;
    }
}

#[tokio::test]
async fn one_that_was_superseded_moves_nothing_back() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let one = world.coordinator(&Killer::never()).await;
    // It took its place while the first still believes that it has it.
    let two = world.coordinator(&Killer::never()).await;
    for number in 0..50 {
        world.place(&number.to_string()).await;
    }
    for number in 0..50 {
        ended(&one, &number.to_string()).await;
    }
    let taken_in = end(&*world.events).await.unwrap();
    // Whoever kept a place first goes on; the other finds out.
    let superseded = tokio::select! {
        () = one.taken_in(&taken_in) => &two,
        () = two.taken_in(&taken_in) => &one,
    };
    let wrong =
        |status: &SagaStatus| status.message.as_ref().is_some_and(|m| m.contains("another coordinator"));
    stands(superseded, wrong).await;
    one.stop().await;
    two.stop().await;
    let next = world.coordinator(&Killer::never()).await;
    world.place("last").await;
    assert_eq!(ended(&next, "last").await.summary.state, State::Completed);
    let status = next.status();
    assert_eq!((status.started, status.ignored), (1, 0), "what was taken in was not again: {status:?}");
    next.stop().await;
}
