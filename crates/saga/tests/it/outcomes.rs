//! How sagas go and end.

use headwater_core::Error;
use headwater_saga::{Command, Commanded, State};

use crate::shop::{Does, Killer, World, ended, specs, told, until};

/// Two steps that can be undone, and what is said at the end.
pub(crate) const TWO: &str = r#"
  steps:
  - name: pay
    action: {type: HTTP, http: {method: POST, url: "http://shop/pay/do", body: {id: id, amount: amount}}}
    capture: {receipt: response.body.receipt, fee: response.body.fee}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/pay/undo", body: {id: id}}}
  - name: ship
    action: {type: HTTP, http: {method: POST, url: "http://shop/ship/do", body: {id: id, receipt: receipt}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/ship/undo", body: {id: id}}}
  onCompleted: {append: {streamId: "order-${id}", type: Approved, data: {id: id, fee: fee * 3}}}
  onCompensated: {append: {streamId: "order-${id}", type: Rejected, data: {reason: failure.reason}}}
"#;

/// A step that can be undone, the pivot, and one that follows it.
pub(crate) const PIVOT: &str = r#"
  steps:
  - name: pay
    action: {type: HTTP, http: {method: POST, url: "http://shop/pay/do", body: {id: id}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/pay/undo", body: {id: id}}}
  - name: book
    role: Pivot
    action: {type: HTTP, http: {method: POST, url: "http://shop/book/do", body: {id: id}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
  - name: send
    role: Retriable
    action: {type: HTTP, http: {method: POST, url: "http://shop/send/do", body: {id: id}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
"#;

/// Three steps side by side between two others.
pub(crate) const PARALLEL: &str = r#"
  steps:
  - name: pay
    action: {type: HTTP, http: {method: POST, url: "http://shop/pay/do", body: {id: id}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/pay/undo", body: {id: id}}}
  - name: together
    parallel:
      steps:
      - name: one
        action: {type: HTTP, http: {method: POST, url: "http://shop/one/do", body: {id: id}}}
        retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
        compensation: {type: HTTP, http: {method: POST, url: "http://shop/one/undo", body: {id: id}}}
      - name: two
        action: {type: HTTP, http: {method: POST, url: "http://shop/two/do", body: {id: id}}}
        retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
        compensation: {type: HTTP, http: {method: POST, url: "http://shop/two/undo", body: {id: id}}}
      - name: three
        action: {type: HTTP, http: {method: POST, url: "http://shop/three/do", body: {id: id}}}
        retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
        compensation: {type: HTTP, http: {method: POST, url: "http://shop/three/undo", body: {id: id}}}
"#;

/// A step whose reply is an event.
pub(crate) const ASK: &str = r#"
  steps:
  - name: pay
    action: {type: HTTP, http: {method: POST, url: "http://shop/pay/do", body: {id: id}}}
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/pay/undo", body: {id: id}}}
  - name: ask
    action: {type: HTTP, http: {method: POST, url: "http://shop/ask/do", body: {id: id}}}
    awaitReply: {success: [Granted], failure: [Refused], correlate: {event: event.data.id, instance: id}}
    capture: {note: event.data.note, receipt: response.body.receipt}
    timeout: 5s
    retry: {maxAttempts: 2, initialBackoff: 1ms, maxBackoff: 2ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://shop/ask/undo", body: {id: id}}}
  onCompleted: {append: {streamId: "order-${id}", type: Approved, data: {note: note}}}
"#;

fn command(command: Command, step: Option<&str>) -> Commanded {
    Commanded { command, step: step.map(str::to_owned), reason: Some("a test".into()) }
}

#[tokio::test]
async fn all_steps_are_done_and_it_is_said_once() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(
        told(&shown),
        [
            "Started",
            "StepBegun pay do",
            "StepSucceeded pay do",
            "StepBegun ship do",
            "StepSucceeded ship do",
            "StepBegun onCompleted do",
            "StepSucceeded onCompleted do",
            "Completed"
        ]
    );
    world.check_ledger("1", State::Completed);
    assert_eq!(world.types("order-1").await, ["Placed", "Approved"]);
    service.stop().await;
}

#[tokio::test]
async fn what_was_done_is_undone_in_reverse_order_when_a_step_fails() {
    let world = World::new(TWO, |step, _, _| if step == "ship/do" { Does::Refuse } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Compensated);
    assert_eq!(
        told(&shown)[3..],
        [
            "StepBegun ship do",
            "StepFailed ship do",
            "Turned ship",
            "StepBegun pay undo",
            "StepSucceeded pay undo",
            "StepBegun onCompensated do",
            "StepSucceeded onCompensated do",
            "Compensated"
        ],
        "what certainly was not done is not undone"
    );
    world.check_ledger("1", State::Compensated);
    assert_eq!(world.types("order-1").await, ["Placed", "Rejected"]);
    service.stop().await;
}

#[tokio::test]
async fn what_nobody_knows_is_undone_as_well() {
    for does in [Does::LoseRequest, Does::LoseAnswer] {
        let world = World::new(TWO, move |step, _, _| if step == "ship/do" { does } else { Does::Answer });
        let service = world.coordinator(&Killer::never()).await;
        world.place("1").await;
        let shown = ended(&service, "1").await;
        let told = told(&shown);
        assert_eq!(
            told[3..8],
            [
                "StepBegun ship do",
                "AttemptUnanswered ship do",
                "StepUnknown ship do",
                "Turned ship",
                "StepBegun ship undo"
            ]
        );
        let undone =
            |step: &str| told.iter().position(|line| *line == format!("StepSucceeded {step} undo")).unwrap();
        assert!(undone("ship") < undone("pay"), "{told:?}");
        world.check_ledger("1", State::Compensated);
        service.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for_again_under_the_same_key() {
    let world = World::new(TWO, |_, _, attempt| if attempt == 1 { Does::LoseAnswer } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    assert_eq!(ended(&service, "1").await.summary.state, State::Completed);
    world.check_ledger("1", State::Completed);
    service.stop().await;
}

#[tokio::test]
async fn a_compensation_is_tried_until_it_succeeds_and_cannot_be_stopped() {
    let world = World::new(TWO, |step, _, attempt| match (step, attempt) {
        ("ship/do", _) => Does::Refuse,
        ("pay/undo", 1..=6) => Does::LoseRequest,
        _ => Does::Answer,
    });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    until(&service, "1", |shown| shown.history.iter().any(|line| line.what == "Turned")).await;
    let refused = service.command("1", command(Command::Abort, None)).await;
    assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "{refused:?}");
    let shown = ended(&service, "1").await;
    assert!(told(&shown).contains(&"AttentionNeeded pay".to_owned()), "{:?}", told(&shown));
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn a_compensation_that_cannot_be_needs_a_person() {
    let world = World::new(TWO, |step, _, attempt| match (step, attempt) {
        ("ship/do", _) | ("pay/undo", 1) => Does::Refuse,
        _ => Does::Answer,
    });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let stuck = until(&service, "1", |shown| shown.summary.state == State::NeedsAttention).await;
    assert_eq!(stuck.summary.at, ["pay (undo)"]);
    assert!(stuck.summary.reason.as_deref().unwrap().contains("cannot be undone"), "{:?}", stuck.summary);
    assert_eq!(service.open(&[State::NeedsAttention], None, 10).await.unwrap().len(), 1);
    let refused = service.command("1", command(Command::Skip, Some("ship"))).await;
    assert!(
        matches!(&refused, Err(Error::Invalid { message, .. }) if message.contains("it is at pay")),
        "{refused:?}"
    );
    service.command("1", command(Command::Retry, Some("pay"))).await.unwrap();
    ended(&service, "1").await;
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn a_person_can_take_a_step_as_done() {
    let world = World::new(PIVOT, |step, _, _| if step == "send/do" { Does::Refuse } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    until(&service, "1", |shown| shown.summary.state == State::NeedsAttention).await;
    let refused = service.command("1", command(Command::Abort, None)).await;
    assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "after the pivot: {refused:?}");
    service.command("1", command(Command::Skip, None)).await.unwrap();
    assert_eq!(ended(&service, "1").await.summary.state, State::Completed);
    service.stop().await;
}

#[tokio::test]
async fn a_pivot_that_fails_turns_back_and_one_that_nobody_knows_does_not() {
    let world = World::new(PIVOT, |step, _, _| if step == "book/do" { Does::Refuse } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    assert_eq!(ended(&service, "1").await.summary.state, State::Compensated);
    world.check_ledger("1", State::Compensated);
    service.stop().await;

    let world =
        World::new(
            PIVOT,
            |step, _, attempt| {
                if step == "book/do" && attempt < 8 { Does::LoseAnswer } else { Does::Answer }
            },
        );
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Completed);
    assert!(told(&shown).contains(&"AttentionNeeded book".to_owned()), "{:?}", told(&shown));
    assert!(!told(&shown).iter().any(|line| line.ends_with("undo")));
    world.check_ledger("1", State::Completed);
    service.stop().await;
}

#[tokio::test]
async fn an_abort_undoes_what_was_done() {
    let world =
        World::new(TWO, |step, _, _| if step == "ship/do" { Does::LoseRequest } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    // Slow enough to be aborted in the middle: its steps are tried a thousand times.
    let (mut spec, stream) = specs(TWO);
    spec.steps[1].work.retry.as_mut().unwrap().max_attempts = 1_000;
    service.reconcile(&spec, &stream).await.unwrap();
    world.place("1").await;
    until(&service, "1", |shown| shown.summary.at == ["ship"]).await;
    service.command("1", command(Command::Abort, None)).await.unwrap();
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.reason.as_deref(), Some("a test"));
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn a_saga_whose_time_is_up_is_undone() {
    let saga = format!("{TWO}  timeout: 200ms\n").replace("maxAttempts: 2", "maxAttempts: 1000");
    let world =
        World::new(&saga, |step, _, _| if step == "ship/do" { Does::LoseAnswer } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert!(shown.summary.reason.as_deref().unwrap().contains("within"), "{:?}", shown.summary);
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn steps_side_by_side_are_all_done_or_all_undone() {
    let world = World::new(PARALLEL, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    assert_eq!(ended(&service, "1").await.summary.state, State::Completed);
    world.check_ledger("1", State::Completed);
    service.stop().await;
    for does in [Does::Refuse, Does::LoseAnswer, Does::LoseRequest] {
        let world =
            World::new(PARALLEL, move |step, _, _| if step == "two/do" { does } else { Does::Answer });
        let service = world.coordinator(&Killer::never()).await;
        world.place("1").await;
        assert_eq!(ended(&service, "1").await.summary.state, State::Compensated);
        world.check_ledger("1", State::Compensated);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_reply_comes_as_an_event() {
    let world = World::new(ASK, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert!(told(&shown).contains(&"ReplySeen ask".to_owned()), "{:?}", told(&shown));
    assert_eq!(world.types("order-1").await, ["Placed", "Approved"]);
    world.check_ledger("1", State::Completed);
    service.stop().await;
}

#[tokio::test]
async fn a_reply_that_does_not_come_is_unknown() {
    let saga = ASK.replace("timeout: 5s", "timeout: 50ms");
    let world = World::new(&saga, |_, _, _| Does::Answer);
    world.shop.keep_silent();
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Compensated);
    assert!(told(&shown).contains(&"StepUnknown ask do".to_owned()), "{:?}", told(&shown));
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn a_second_start_is_ignored_and_counted_and_the_past_is_left_alone() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    world.place("before").await;
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    ended(&service, "1").await;
    world.place("1").await;
    let end = headwater_log::end(&*world.events).await.unwrap();
    service.taken_in(&end).await;
    let status = service.status();
    assert_eq!((status.started, status.ignored), (1, 1));
    assert!(matches!(service.show("before").await, Err(Error::NotFound { .. })));
    assert_eq!(
        service.ended(&[State::Completed], headwater_core::Positions::default(), 10).await.unwrap().0.len(),
        1
    );
    service.stop().await;
}

#[tokio::test]
async fn an_instance_ends_by_the_definition_that_it_began_with() {
    let saga = ASK.replace("timeout: 5s", "timeout: 1h");
    let world = World::new(&saga, |_, _, _| Does::Answer);
    world.shop.keep_silent();
    let service = world.coordinator(&Killer::never()).await;
    world.place("old").await;
    until(&service, "old", |shown| told(shown).contains(&"StepSent ask do".to_owned())).await;
    let (spec, stream) = specs(TWO);
    service.reconcile(&spec, &stream).await.unwrap();
    world.place("new").await;
    let new = ended(&service, "new").await;
    assert!(told(&new).contains(&"StepSucceeded ship do".to_owned()));
    service.stop().await;

    // Also after a restart with the new definition: the reply of the old one's step is still looked for.
    let service = world.coordinator_of(&Killer::never(), &spec).await;
    world.tell("ask-old", "Granted", r#"{"id": "old", "note": "late"}"#.into()).await;
    let old = ended(&service, "old").await;
    assert_eq!(old.summary.state, State::Completed);
    assert_ne!(old.summary.definition, new.summary.definition);
    assert_eq!(world.stream().partitions, 2);
    service.stop().await;
}
