//! Every step of every saga, in both directions, with each fault: failed, lost, answered late, repeated, arriving late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_saga::{Command, Commanded, Direction, State};

use crate::outcomes::{ASK, PARALLEL, PIVOT, TWO};
use crate::shop::{Does, Killer, World, ended, until};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Compensatable,
    Pivot,
    Retriable,
    /// Compensatable, and its reply is an event.
    Asks,
}

type Steps = &'static [(&'static str, Role)];

/// Sagas with their steps.
const SAGAS: [(&str, &str, Steps); 4] = [
    ("two", TWO, &[("pay", Role::Compensatable), ("ship", Role::Compensatable)]),
    ("pivot", PIVOT, &[("pay", Role::Compensatable), ("book", Role::Pivot), ("send", Role::Retriable)]),
    (
        "parallel",
        PARALLEL,
        &[
            ("pay", Role::Compensatable),
            ("one", Role::Compensatable),
            ("two", Role::Compensatable),
            ("three", Role::Compensatable),
        ],
    ),
    ("ask", ASK, &[("pay", Role::Compensatable), ("ask", Role::Asks)]),
];

/// `LoseAnswer` is what a coordinator sees of an answer that is lost, too late, or behind a time-out.
const FAULTS: [Does; 5] = [Does::Refuse, Does::LoseRequest, Does::LoseAnswer, Does::Delay, Does::Repeat];

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lasts {
    OneAttempt,
    UntilAPersonActs,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    saga: &'static str,
    step: &'static str,
    role: Role,
    direction: Direction,
    fault: Does,
    lasts: Lasts,
}

/// How a saga goes on.
#[derive(Debug, PartialEq, Eq)]
enum Goes {
    /// It ends in one of these.
    Ends(&'static [State]),
    /// It needs a person first, who has it tried again, and ends so then.
    NeedsAttention(State),
}

/// What the contract says of a case.
fn expected(case: &Case) -> Goes {
    use State::{Compensated, Completed};
    let passes =
        case.fault == Does::Repeat || (case.lasts == Lasts::OneAttempt && case.fault != Does::Refuse);
    match (case.direction, case.role) {
        (Direction::Do, _) if passes => Goes::Ends(&[Completed]),
        // The request arrives, so the reply comes: before the attempts are over, or after.
        (Direction::Do, Role::Asks) if case.fault == Does::LoseAnswer => {
            Goes::Ends(&[Completed, Compensated])
        }
        (Direction::Do, Role::Compensatable | Role::Asks) => Goes::Ends(&[Compensated]),
        // A pivot that certainly failed turns back; one that nobody knows does not.
        (Direction::Do, Role::Pivot) if case.fault == Does::Refuse => Goes::Ends(&[Compensated]),
        (Direction::Do, Role::Pivot | Role::Retriable) => Goes::NeedsAttention(Completed),
        (Direction::Undo, _) if passes => Goes::Ends(&[Compensated]),
        (Direction::Undo, _) => Goes::NeedsAttention(Compensated),
    }
}

async fn run(case: Case) {
    let (_, saga, _) = SAGAS.iter().find(|(name, ..)| *name == case.saga).unwrap();
    let acted = Arc::new(AtomicBool::new(false));
    let script = {
        let acted = Arc::clone(&acted);
        move |path: &str, _: &str, attempt: usize| {
            let (step, direction) = path.split_once('/').expect("STEP/DIRECTION");
            let lasts = match case.lasts {
                Lasts::OneAttempt => attempt == 1,
                Lasts::UntilAPersonActs => !acted.load(Ordering::SeqCst),
            };
            if step != case.step {
                Does::Answer
            } else if direction == case.direction.as_str() {
                if lasts { case.fault } else { Does::Answer }
            } else if direction == "do" {
                // Nobody knows whether it was done, so it is undone; and it arrives when that is long over.
                Does::Delay
            } else {
                Does::Answer
            }
        }
    };
    let world = World::new(saga, script);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let goes = expected(&case);
    let shown = match goes {
        Goes::Ends(_) => ended(&service, "1").await,
        Goes::NeedsAttention(_) => {
            until(&service, "1", |shown| shown.summary.state == State::NeedsAttention).await;
            acted.store(true, Ordering::SeqCst);
            let retry = Commanded { command: Command::Retry, step: Some(case.step.to_owned()), reason: None };
            service.command("1", retry).await.unwrap();
            ended(&service, "1").await
        }
    };
    let state = shown.summary.state;
    match &goes {
        Goes::Ends(states) => assert!(states.contains(&state), "{case:?} ended {state:?}: {shown:#?}"),
        Goes::NeedsAttention(then) => assert_eq!(state, *then, "{case:?}: {shown:#?}"),
    }
    world.check_ledger("1", state);
    // What was on its way for long arrives when everything is over, and changes nothing.
    let delayed = world.shop.deliver_delayed().await;
    assert!(delayed > 0 || (case.fault != Does::Delay && case.direction == Direction::Do), "{case:?}");
    let end = headwater_log::end(&*world.events).await.unwrap();
    service.taken_in(&end).await;
    world.check_ledger("1", state);
    assert_eq!(service.show("1").await.unwrap().summary.state, state, "{case:?}");
    assert!(world.types("order-1").await.len() <= 2, "{case:?}: the end was said twice");
    service.stop().await;
}

#[tokio::test]
async fn every_step_of_every_saga_bears_every_fault() {
    let mut cases = 0;
    for (name, _, steps) in SAGAS {
        for (step, role) in steps {
            for fault in FAULTS {
                for lasts in [Lasts::OneAttempt, Lasts::UntilAPersonActs] {
                    for direction in [Direction::Do, Direction::Undo] {
                        if direction == Direction::Undo && matches!(role, Role::Pivot | Role::Retriable) {
                            continue;
                        }
                        run(Case { saga: name, step, role: *role, direction, fault, lasts }).await;
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 5 * 2 * (2 * 9 + 2));
}
