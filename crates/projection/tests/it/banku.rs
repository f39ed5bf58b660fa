//! Accounts written from many streams over three partitions: the sums are right whatever comes first.

use std::collections::BTreeMap;

use crate::support::{Log, Sink, caught_up, desired, rows, start};

pub(crate) const MANIFEST: &str = concat!(
    include_str!("../../../../examples/banku/eventstream.yaml"),
    "\n---\n",
    include_str!("../../../../examples/banku/projection.yaml")
);

/// Appends a session of `events` events over `accounts` accounts and gives the balances that a bank would have.
pub(crate) async fn session(log: &Log, accounts: u64, events: u64, seed: u64) -> BTreeMap<String, i64> {
    let mut balances = BTreeMap::new();
    for account in 0..accounts {
        log.append(
            &format!("acc-{account}"),
            "CreateEvent",
            &format!(r#"{{"AccId":"acc-{account}","Type":"CreateEvent","AccName":"Name {account}"}}"#),
        )
        .await;
        balances.insert(format!("acc-{account}"), 0);
    }
    let mut random = seed;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    for _ in 0..events {
        let (from, to) = (format!("acc-{}", next(accounts)), format!("acc-{}", next(accounts)));
        let amount = next(1_000) as i64 + 1;
        let (kind, change, target) = match next(3) {
            0 => ("DepositEvent", amount, None),
            1 => ("WithdrawEvent", -amount, None),
            _ => ("TransferEvent", -amount, Some(to)),
        };
        let member = target.as_ref().map(|to| format!(r#","TargetId":"{to}""#)).unwrap_or_default();
        log.append(
            &from,
            kind,
            &format!(r#"{{"AccId":"{from}","Type":"{kind}","Amount":{amount}{member}}}"#),
        )
        .await;
        *balances.get_mut(&from).unwrap() += change;
        if let Some(to) = target {
            *balances.get_mut(&to).unwrap() += amount;
        }
    }
    balances
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_are_the_banks() {
    for sink in [Sink::memory(), Sink::sqlite()] {
        let log = Log::new(3);
        let before = session(&log, 20, 500, 1).await;
        let store = sink.open();
        let service = start(&log, store.clone(), desired(MANIFEST)).await;
        caught_up(&log, &service).await;
        let check = async |balances: &BTreeMap<String, i64>| {
            let found = rows(&*store, "accounts").await;
            assert_eq!(found.len(), balances.len());
            for (id, balance) in balances {
                assert_eq!(found[id][2], balance.to_string(), "{id}");
                assert!(found[id][1].starts_with("Name "));
            }
        };
        check(&before).await;
        // Live, beside what is there.
        let mut after = session(&log, 20, 500, 2).await;
        for (id, balance) in before {
            *after.get_mut(&id).unwrap() += balance;
        }
        caught_up(&log, &service).await;
        check(&after).await;
        service.stop().await;
    }
}
