//! Events, answers and circumstances that a saga cannot use: each is dealt with by itself, and the saga goes on.

use std::process::Command;
use std::sync::Arc;

use headwater_core::{Append, Error, EventType, Expected, Metadata, NewEvent, StreamId, Version};
use headwater_log::{LogReader, LogWriter, MemoryStore};
use headwater_resources::shared::WorkState;
use headwater_saga::{Answer, Commanded, Instance, SagaService, State};
use uuid::Uuid;

use crate::outcomes::{ASK, TWO};
use crate::shop::{Does, Killer, LONG, World, ended, specs, told, until};
use crate::support::{calls, closed_port, post, send, unanswered};

/// Three of them are more than a history keeps of a step.
const _: () = assert!(3 * LONG > 512 << 10);

/// The events that could start nothing, and why.
async fn not_started(service: &SagaService) -> Vec<(Uuid, String)> {
    let (events, _) = service.not_started(Version::ZERO, 100).await.unwrap();
    events.into_iter().map(|it| (it.event.id, it.reason)).collect()
}

#[tokio::test]
async fn an_event_that_can_start_nothing_is_kept_with_the_reason_and_stops_no_other() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    let mut refused = Vec::new();
    for (name, part) in [
        (r"a\u0007b", "control character U+0007"),
        (".", "a step in a URL's path"),
        ("..", "a step in a URL's path"),
        ("", "this one has 0"),
        (&"é".repeat(121), "this one has 242"),
    ] {
        let data = format!(r#"{{"id": "{name}", "amount": 1}}"#);
        refused.push((world.tell("bad", "Placed", data).await, part));
    }
    // The event just fits its log, and what is kept of it does not.
    let frame = r#"{"id": "large", "amount": ""}"#;
    let data = frame.replace(r#""""#, &format!(r#""{}""#, "x".repeat((1 << 20) - frame.len())));
    refused.push((world.tell("bad", "Placed", data).await, "does not fit the saga's log"));
    world.place("good").await;
    assert_eq!(ended(&service, "good").await.summary.state, State::Completed);
    service.taken_in(&headwater_log::end(&*world.events).await.unwrap()).await;
    let kept = not_started(&service).await;
    assert_eq!(kept.len(), refused.len(), "{kept:?}");
    for (event, part) in refused {
        let reason = &kept.iter().find(|(id, _)| *id == event).unwrap().1;
        assert!(reason.contains(part), "no {part:?} in {reason:?}");
    }
    let status = service.status();
    assert_eq!((status.started, status.not_started, status.message), (1, 6, None));
    service.stop().await;
}

#[tokio::test]
async fn a_reply_that_is_too_large_for_a_history_counts_and_nothing_of_its_data_is_kept() {
    let large = format!(r#"{{"id": "1", "note": "{}"}}"#, "x".repeat((1 << 20) - 100));
    for (saga, state) in
        [(ASK.to_owned(), State::Compensated), (ASK.replace("note: event.data.note, ", ""), State::Completed)]
    {
        let saga = if state == State::Completed { saga.replace("{note: note}", "{}") } else { saga };
        let world = World::new(&saga, |_, _, _| Does::Answer);
        world.shop.keep_silent();
        let service = world.coordinator(&Killer::never()).await;
        world.place("1").await;
        until(&service, "1", |shown| told(shown).contains(&"StepSent ask do".to_owned())).await;
        world.tell("ask-1", "Granted", large.clone()).await;
        let shown = ended(&service, "1").await;
        assert_eq!(shown.summary.state, state, "{:?}", told(&shown));
        if state == State::Compensated {
            let reason = shown.summary.reason.unwrap();
            assert!(reason.contains("than a history keeps"), "{reason}");
        }
        world.check_ledger("1", state);
        service.stop().await;
    }
}

#[tokio::test]
async fn an_answer_of_which_too_much_is_captured_is_as_one_without_it() {
    let saga = TWO.replace(
        "capture: {receipt: response.body.receipt, fee: response.body.fee}",
        "capture: {receipt: response.body.receipt, fee: response.body.receipt, third: response.body.receipt}",
    );
    let saga = saga.replace("fee * 3", "fee");
    let world =
        World::new(&saga, |step, _, _| if step == "pay/do" { Does::AnswerAtLength } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Compensated);
    let reason = shown.summary.reason.unwrap();
    assert!(reason.contains("capture less"), "{reason}");
    world.check_ledger("1", State::Compensated);
    service.stop().await;
}

#[tokio::test]
async fn what_a_step_did_not_come_to_capture_is_null_when_it_is_undone() {
    let saga = TWO
        .replace(
            r#"url: "http://shop/pay/undo", body: {id: id}"#,
            r#"url: "http://shop/pay/undo", body: {id: id, receipt: receipt, fee: "fee == null ? 0 : fee"}"#,
        )
        .replace("data: {reason: failure.reason}", "data: {reason: failure.reason, receipt: receipt}");
    // Failed: it captured nothing, and only the ending asks for it. Unknown: its compensation does as well.
    for does in [Does::Refuse, Does::LoseAnswer] {
        let world = World::new(&saga, move |step, _, _| if step == "pay/do" { does } else { Does::Answer });
        let service = world.coordinator(&Killer::never()).await;
        world.place("1").await;
        let shown = ended(&service, "1").await;
        assert_eq!(shown.summary.state, State::Compensated, "{:?}", told(&shown));
        assert_eq!(world.types("order-1").await, ["Placed", "Rejected"]);
        world.check_ledger("1", State::Compensated);
        service.stop().await;
    }
}

#[tokio::test]
async fn a_saga_does_not_follow_another_log_than_before() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    ended(&service, "1").await;
    service.stop().await;
    let other = Arc::new(MemoryStore::new(headwater_core::PartitionCount::new(2).unwrap()));
    let known = world.events.descriptor().log_id.to_string();
    let refused = world.try_coordinator("default", other, &Killer::never(), world.spec()).await;
    match refused {
        Err(Error::FailedPrecondition { message, .. }) => assert!(message.contains(&known), "{message}"),
        other => panic!("{other:?}"),
    }
    // Its own log it follows again.
    let service = world.coordinator(&Killer::never()).await;
    world.place("2").await;
    ended(&service, "2").await;
    service.stop().await;
}

#[tokio::test]
async fn an_instance_keeps_its_keys_when_the_namespace_changes() {
    let world = World::new(TWO, |step, _, attempt| match (step, attempt) {
        ("pay/do", 1) => Does::LoseAnswer,
        ("ship/do", _) => Does::Refuse,
        _ => Does::Answer,
    });
    let (mut spec, _) = specs(TWO);
    // The second attempt is made by the next coordinator.
    let retry = spec.steps[0].work.retry.as_mut().unwrap();
    (retry.initial_backoff, retry.max_backoff) = ("1h".parse().unwrap(), "1h".parse().unwrap());
    let service = world.coordinator_of(&Killer::never(), &spec).await;
    world.place("1").await;
    until(&service, "1", |shown| told(shown).contains(&"AttemptUnanswered pay do".to_owned())).await;
    service.stop().await;
    let events = Arc::clone(&world.events) as Arc<dyn LogReader>;
    let service = world.try_coordinator("other", events, &Killer::never(), &spec).await.unwrap();
    service.command("1", Commanded::new(headwater_saga::Command::Retry, None, None).unwrap()).await.unwrap();
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Compensated);
    // One key a direction, of the first namespace.
    world.check_ledger("1", State::Compensated);
    let foreign = |shown: &Instance| {
        let keys: Vec<String> = shown.history.iter().filter_map(|line| line.key.clone()).collect();
        assert!(!keys.is_empty());
        keys.into_iter().filter(|key| !key.starts_with("default/place/")).collect::<Vec<_>>()
    };
    assert_eq!(foreign(&shown), Vec::<String>::new());
    service.stop().await;
}

#[tokio::test]
async fn a_saga_that_is_stopped_records_what_is_answered_and_sends_nothing_more() {
    let world = World::new(TWO, |step, _, _| if step == "pay/do" { Does::Hold } else { Does::Answer });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    until(&service, "1", |shown| told(shown).contains(&"StepBegun pay do".to_owned())).await;
    let (mut spec, stream) = specs(TWO);
    spec.state = WorkState::Stopped;
    service.reconcile(&spec, &stream).await.unwrap();
    world.shop.let_go();
    let shown = until(&service, "1", |shown| told(shown).contains(&"StepSucceeded pay do".to_owned())).await;
    assert_eq!(told(&shown).last().map(String::as_str), Some("StepSucceeded pay do"));
    spec.state = WorkState::Running;
    service.reconcile(&spec, &stream).await.unwrap();
    assert_eq!(ended(&service, "1").await.summary.state, State::Completed);
    world.check_ledger("1", State::Completed);
    service.stop().await;
}

#[tokio::test]
async fn a_request_that_could_not_be_sent_is_no_attempt() {
    let world =
        World::new(
            TWO,
            |step, _, attempt| {
                if step == "pay/do" && attempt <= 5 { Does::CannotAsk } else { Does::Answer }
            },
        );
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Completed);
    assert!(!told(&shown).iter().any(|line| line.starts_with("AttemptUnanswered")), "{:?}", told(&shown));
    service.stop().await;
}

/// Set for the process that may take all its files.
const ALONE: &str = "HEADWATER_TEST_ALONE";

#[test]
fn a_lack_of_files_is_told_from_a_participant_that_is_not_there() {
    if std::env::var_os(ALONE).is_some() {
        with_no_file_left();
        return;
    }
    // Other tests need files: this one once more, in a process of its own.
    let name = "limits::a_lack_of_files_is_told_from_a_participant_that_is_not_there";
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("1 passed"));
}

fn with_no_file_left() {
    // The runtime and the participant have what they need before the files are taken.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (calls, _) = calls();
        let url = format!("http://{}/", closed_port().await);
        unanswered(send(&calls, post(url.clone(), "{}")).await);
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
            assert!(taken.len() < 1 << 20, "there is no limit of files here");
        }
        match send(&calls, post(url.clone(), "{}")).await {
            Answer::NotTried { reason } => assert!(reason.contains("open files"), "{reason}"),
            other => panic!("{other:?}"),
        }
        taken.clear();
        unanswered(send(&calls, post(url, "{}")).await);
    });
}

/// So many levels of lists.
fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test]
async fn a_reply_that_is_nested_too_deep_for_a_history_stops_nothing() {
    // The log takes 100 levels, the entry adds one; what is captured of it is one deeper again than what still fits.
    for (levels, capture, state) in [
        (99, "", State::Completed),
        (98, "note: event.data, ", State::Compensated),
        (60, "note: event.data, ", State::Completed),
    ] {
        let saga = ASK.replace("note: event.data.note, ", capture).replace("{note: note}", "{}");
        let world = World::new(&saga, |_, _, _| Does::Answer);
        world.shop.keep_silent();
        let service = world.coordinator(&Killer::never()).await;
        world.place("1").await;
        until(&service, "1", |shown| told(shown).contains(&"StepSent ask do".to_owned())).await;
        world.tell("ask-1", "Granted", format!(r#"{{"id": "1", "note": {}}}"#, deep(levels))).await;
        let shown = ended(&service, "1").await;
        assert_eq!(shown.summary.state, state, "{levels} levels: {:?}", told(&shown));
        world.check_ledger("1", state);
        // What comes after it is taken in.
        world.place("2").await;
        until(&service, "2", |shown| told(shown).contains(&"StepSent ask do".to_owned())).await;
        assert_eq!(service.status().message, None);
        service.stop().await;
    }
}

#[tokio::test]
async fn answers_that_are_more_than_one_append_are_all_recorded() {
    let step = |number: usize| {
        format!(
            r#"
      - name: s{number}
        action: {{type: HTTP, http: {{method: POST, url: "http://shop/s{number}/do", body: {{id: id}}}}}}
        capture: {{a{number}: response.body.receipt, b{number}: response.body.receipt}}
        compensation: {{type: None}}"#
        )
    };
    let steps: String = (0..12).map(step).collect();
    let saga = format!("\n  steps:\n  - name: together\n    parallel:\n      steps:{steps}\n");
    let world = World::new(&saga, |_, _, _| Does::AnswerAtLength);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Completed);
    let succeeded = told(&shown).iter().filter(|line| line.starts_with("StepSucceeded")).count();
    assert_eq!(succeeded, 12);
    service.stop().await;
}

#[tokio::test]
async fn an_instance_that_has_ended_gets_no_more_of_a_history() {
    let world = World::new(ASK, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    let before = ended(&service, "1").await;
    for _ in 0..3 {
        world.tell("ask-1", "Granted", r#"{"id": "1", "note": "again"}"#.into()).await;
    }
    service.taken_in(&headwater_log::end(&*world.events).await.unwrap()).await;
    assert_eq!(service.show("1").await.unwrap().history, before.history);
    assert!(service.status().unmatched >= 3);
    service.stop().await;
}

#[tokio::test]
async fn a_saga_that_is_started_stopped_knows_how_its_instances_stand() {
    let world = World::new(TWO, |step, _, _| match step {
        "ship/do" | "pay/undo" => Does::Refuse,
        _ => Does::Answer,
    });
    let service = world.coordinator(&Killer::never()).await;
    world.place("1").await;
    until(&service, "1", |shown| shown.summary.state == State::NeedsAttention).await;
    service.stop().await;
    let (mut spec, _) = specs(TWO);
    spec.state = WorkState::Stopped;
    let service = world.coordinator_of(&Killer::never(), &spec).await;
    let status = service.status();
    assert_eq!((status.running, status.needs_attention), (0, 1));
    assert_eq!(service.open(&[State::NeedsAttention], None, 10).await.unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn an_event_that_belongs_to_something_with_a_very_long_name_starts_an_instance_all_the_same() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let service = world.coordinator(&Killer::never()).await;
    let metadata = format!(r#"{{"correlation_id": "{}"}}"#, "x".repeat(65_000));
    let event = NewEvent {
        metadata: Metadata::new(metadata.into()).unwrap(),
        ..NewEvent::json(EventType::new("Placed").unwrap(), r#"{"id": "1", "amount": 1}"#)
    };
    let stream_id = StreamId::new("order-1").unwrap();
    world.writer.append(Append { stream_id, expected: Expected::Any, events: vec![event] }).await.unwrap();
    let shown = ended(&service, "1").await;
    assert_eq!(shown.summary.state, State::Completed);
    assert_eq!(shown.event.correlation_id, None);
    service.stop().await;
}

#[test]
fn an_empty_reason_is_none() {
    for reason in ["", " \n"] {
        let commanded = Commanded::new(headwater_saga::Command::Abort, None, Some(reason.into())).unwrap();
        assert_eq!(commanded.reason, None);
    }
}
