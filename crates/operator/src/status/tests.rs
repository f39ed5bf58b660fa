use super::*;
use crate::found::Missing;

fn pods(wanted: i32, ready: i32) -> Pods {
    Pods { wanted, there: wanted, ready, updated: wanted, is_observed: true, ..Pods::default() }
}

fn all(facts: &Facts) -> Vec<Condition> {
    conditions(Kind::Projection, facts, 3, &[], Timestamp::UNIX_EPOCH)
}

fn said_of(conditions: &[Condition], of: ConditionType) -> (&str, &str, &str) {
    let it = conditions.iter().find(|it| it.type_ == of.as_str()).unwrap();
    (&it.status, &it.reason, &it.message)
}

#[test]
fn ready_says_what_is_in_force() {
    let says = |said| Facts { pods: Some(pods(2, 2)), said: Some(said), ..Facts::default() };
    let available = says(Said::default());
    let refused = |refused| Facts { refused: Some(refused), ..says(Said::default()) };
    let cases = [
        (available.clone(), "True", "Available"),
        (Facts { wants: Wants::Paused, ..available.clone() }, "True", "Paused"),
        (Facts { wants: Wants::Stopped, pods: Some(pods(0, 0)), ..Facts::default() }, "True", "Stopped"),
        (
            Facts { wants: Wants::Stopped, pods: Some(Pods { there: 1, ..pods(0, 0) }), ..Facts::default() },
            "False",
            "Deploying",
        ),
        (Facts { pods: Some(pods(2, 1)), ..Facts::default() }, "False", "Deploying"),
        (
            Facts { pods: Some(Pods { is_observed: false, ..pods(2, 2) }), ..Facts::default() },
            "False",
            "Deploying",
        ),
        (Facts { pods: Some(Pods { updated: 1, ..pods(2, 2) }), ..Facts::default() }, "False", "Deploying"),
        (Facts { pods: Some(pods(0, 0)), ..Facts::default() }, "True", "Stopped"),
        (refused(Refused::Conflict("Service \"x\"".into())), "False", "Unavailable"),
        (refused(Refused::Forbidden("exceeded quota".into())), "False", "Unavailable"),
        (refused(Refused::Invalid("spec.x: no".into())), "False", "InvalidSpec"),
        (Facts { is_left_alone: true, ..Facts::default() }, "False", "Unavailable"),
        (Facts { said: None, ..available.clone() }, "False", "Deploying"),
        (says(Said { not_built: Some("Replaying 3%".into()), ..Said::default() }), "False", "Deploying"),
        (says(Said { other_log: Some("another".into()), ..Said::default() }), "False", "Unavailable"),
        (Facts::default(), "False", "Deploying"),
    ];
    for (facts, status, reason) in cases {
        let conditions = all(&facts);
        let (is, why, _) = said_of(&conditions, ConditionType::Ready);
        assert_eq!((is, why), (status, reason), "{facts:?}");
    }
}

#[test]
fn why_pods_do_not_come_up_is_told() {
    let stuck = Pods {
        gave_up: Some("pods made no progress for 600 s".into()),
        last_words: Some("error: database.urlSecretRef: password authentication failed\n".into()),
        ..pods(1, 0)
    };
    let facts = Facts { pods: Some(stuck), ..Facts::default() };
    let conditions = all(&facts);
    assert_eq!(said_of(&conditions, ConditionType::Stalled).1, "ProgressDeadlineExceeded");
    let (_, _, message) = said_of(&conditions, ConditionType::Ready);
    assert_eq!(
        message,
        "0 of 1 pods are ready; error: database.urlSecretRef: password authentication failed; pods made no progress for 600 s"
    );
}

#[test]
fn what_no_pod_can_open_is_stalled() {
    for (words, reason) in [
        ("error: database.schema: it is another resource's: EventStream \"a\"", "SchemaOwned"),
        ("error: the log was made by a newer Headwater (its format is 9)", "MigrationFailed"),
    ] {
        let pods = Pods { last_words: Some(words.to_owned()), ..pods(1, 0) };
        let conditions = all(&Facts { pods: Some(pods), ..Facts::default() });
        assert_eq!(said_of(&conditions, ConditionType::Stalled).1, reason);
    }
}

/// What kstatus rests on, over every combination of what may be.
#[test]
fn stalled_excludes_reconciling_and_ready() {
    let missing = Missing { reason: Reason::SecretNotFound, message: "no Secret".into() };
    let refusals = [
        None,
        Some(Refused::Missing(missing)),
        Some(Refused::Invalid("no".into())),
        Some(Refused::Conflict("taken".into())),
        Some(Refused::Forbidden("no quota".into())),
    ];
    let said = [
        None,
        Some(Said::default()),
        Some(Said { not_built: Some("0%".into()), ..Said::default() }),
        Some(Said { other_log: Some("another".into()), ..Said::default() }),
    ];
    let before = all(&Facts { pods: Some(pods(2, 2)), said: Some(Said::default()), ..Facts::default() });
    assert!(is_ready(&before));
    let mut count = 0;
    for (refused, said, wants) in refusals.iter().flat_map(|refused| {
        let wants = [Wants::Running, Wants::Paused, Wants::Stopped];
        said.iter().flat_map(move |said| wants.map(|wants| (refused, said, wants)))
    }) {
        for number in 0..(1 << 7) {
            let bit = |bit: u32| number & (1 << bit) != 0;
            let pods = bit(0).then(|| Pods {
                wanted: i32::from(bit(1)),
                there: i32::from(bit(2)),
                ready: i32::from(bit(2) && bit(3)),
                updated: i32::from(bit(2) && bit(4)),
                is_observed: bit(5),
                gave_up: (bit(1) && !bit(3)).then(|| "given up".to_owned()),
                last_words: None,
            });
            let facts =
                Facts { refused: refused.clone(), said: said.clone(), pods, wants, ..Facts::default() };
            let before = if bit(6) { &before[..] } else { &[] };
            let conditions = conditions(Kind::Projection, &facts, 3, before, Timestamp::UNIX_EPOCH);
            let is = |of| is_true(&conditions, of);
            let [ready, reconciling, stalled] =
                [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled].map(is);
            assert!(!(stalled && (ready || reconciling)), "{facts:?}");
            // What is not in force is being worked at, or is stuck, or waits for whoever left it alone.
            assert!(ready || reconciling || stalled || facts.is_left_alone, "{facts:?}");
            assert!(conditions.iter().all(|it| it.observed_generation == Some(3) && !it.reason.is_empty()));
            // Where nothing has changed, nothing is written.
            let later = Timestamp::from_second(9).unwrap();
            let again = super::conditions(Kind::Projection, &facts, 3, &conditions, later);
            assert_eq!(again, conditions, "{facts:?}");
            count += 1;
        }
    }
    assert_eq!(count, 5 * 4 * 3 * 128);
}

/// A pod that is lost, and one more that is wanted, take nothing from what answers.
#[test]
fn ready_stays_while_something_of_the_newest_make_answers() {
    let says = |pods| Facts { pods: Some(pods), said: Some(Said::default()), ..Facts::default() };
    let ready = all(&says(pods(2, 2)));
    let after = |pods| conditions(Kind::Projection, &says(pods), 3, &ready, Timestamp::UNIX_EPOCH);
    for (pods, is_ready, is_at_work) in [
        (pods(2, 1), true, true),
        (Pods { there: 2, updated: 2, ..pods(3, 2) }, true, true),
        (pods(2, 0), false, true),
        // Of an older make.
        (Pods { updated: 1, ..pods(2, 2) }, false, true),
        (pods(2, 2), true, false),
    ] {
        let after = after(pods.clone());
        let is = [ConditionType::Ready, ConditionType::Reconciling].map(|of| is_true(&after, of));
        assert_eq!(is, [is_ready, is_at_work], "{pods:?}");
    }
}

#[test]
fn who_does_not_answer_says_nothing_else_than_before() {
    let attention = Some((Reason::EventsParked, "3 events".to_owned()));
    let caught_up = Some(CaughtUp { events: 0, most: 10, next: None });
    let said = Said { caught_up, attention, ..Said::default() };
    let one = all(&Facts { pods: Some(pods(1, 1)), said: Some(said), ..Facts::default() });
    let silent = Facts { pods: Some(pods(1, 1)), ..Facts::default() };
    let two = conditions(Kind::Projection, &silent, 4, &one, Timestamp::UNIX_EPOCH);
    for of in [ConditionType::NeedsAttention, ConditionType::CaughtUp] {
        assert_eq!(said_of(&one, of), said_of(&two, of));
    }
    let mended = Facts { said: Some(Said::default()), ..silent.clone() };
    let three = conditions(Kind::Projection, &mended, 4, &two, Timestamp::UNIX_EPOCH);
    assert!(!is_true(&three, ConditionType::NeedsAttention));
    let stopped = Facts { wants: Wants::Stopped, ..silent };
    let four = conditions(Kind::Projection, &stopped, 4, &two, Timestamp::UNIX_EPOCH);
    assert!(!is_true(&four, ConditionType::NeedsAttention));
}

#[test]
fn what_is_being_built_is_not_caught_up() {
    let facts = |next: Option<&str>| Facts {
        pods: Some(pods(1, 1)),
        said: Some(Said {
            caught_up: Some(CaughtUp { events: 0, most: 10, next: next.map(str::to_owned) }),
            ..Said::default()
        }),
        ..Facts::default()
    };
    let building = all(&facts(Some("Replaying 42%")));
    assert_eq!(
        said_of(&building, ConditionType::CaughtUp),
        ("False", "Lagging", "what the spec asks for is being built: Replaying 42%")
    );
    assert_eq!(said_of(&all(&facts(None)), ConditionType::CaughtUp).1, "Current");
}

#[test]
fn how_the_database_and_the_bus_fail_is_told_by_their_words() {
    for (why, reason) in [
        ("connecting to db:5432: connection refused", "Unreachable"),
        ("password authentication failed; look at the credentials: correct", "AuthenticationFailed"),
        ("handshake; look at the TLS settings: see", "TLSFailed"),
        ("the bus had events: what is missing is published again", "MessagesLost"),
    ] {
        let facts = Facts {
            database: Some(Backend::Connected),
            bus: Some(Backend::Failed(why.to_owned())),
            ..Facts::default()
        };
        let conditions = all(&facts);
        assert_eq!(said_of(&conditions, ConditionType::DatabaseReady).1, "Connected");
        assert_eq!(said_of(&conditions, ConditionType::BusReady), ("False", reason, why));
    }
}

#[test]
fn a_time_changes_only_with_its_status() {
    let one = all(&Facts { pods: Some(pods(2, 1)), ..Facts::default() });
    let later = Timestamp::from_second(9).unwrap();
    let none = Facts { pods: Some(pods(2, 0)), ..Facts::default() };
    let two = conditions(Kind::Projection, &none, 4, &one, later);
    assert_ne!(one[0].message, two[0].message);
    assert!(two.iter().all(|it| it.last_transition_time == Time(Timestamp::UNIX_EPOCH)));
    let ready = Facts { pods: Some(pods(2, 2)), said: Some(Said::default()), ..Facts::default() };
    let three = conditions(Kind::Projection, &ready, 4, &two, later);
    assert_eq!(three[0].last_transition_time, Time(later));
}
