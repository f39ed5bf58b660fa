//! What a process tells those that fold the same projection, with every look at the leases: what it does with each partition. So people see it
//! wherever they ask, and nobody promotes what another has not begun to build.

use std::collections::BTreeMap;

use headwater_core::Partition;
use headwater_view::{Member, Revision};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::worker::Activity;

/// The most that is said of what does not run: what is beyond is left out, and shows where it happens.
const MOST: usize = 64 << 10;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    /// By revision, the partitions that run.
    #[serde(default)]
    running: BTreeMap<u32, Vec<u16>>,
    /// Entries of those that do not.
    #[serde(default)]
    others: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    revision: u32,
    partition: u16,
    activity: Activity,
}

/// The report of what `workers` do.
pub(crate) fn write(workers: impl IntoIterator<Item = (Revision, Partition, Activity)>) -> String {
    let (mut report, mut size) = (Report::default(), 0);
    for (revision, partition, activity) in workers {
        let (revision, partition) = (revision.0, partition.get());
        if activity == Activity::Running {
            report.running.entry(revision).or_default().push(partition);
            continue;
        }
        let entry = serde_json::json!(Entry { revision, partition, activity });
        let length = entry.to_string().len();
        // A shorter one may still fit.
        if size + length <= MOST {
            size += length;
            report.others.push(entry);
        }
    }
    serde_json::json!(report).to_string()
}

/// What `member` says that it does with `partition` of `revision`, which it holds.
pub(crate) fn read(member: &Member, revision: Revision, partition: Partition) -> Activity {
    // Another Headwater may write other things: then it is not known to run.
    let report: Report = serde_json::from_str(&member.report).unwrap_or_default();
    let (revision, partition) = (revision.0, partition.get());
    if report.running.get(&revision).is_some_and(|running| running.contains(&partition)) {
        return Activity::Running;
    }
    report
        .others
        .into_iter()
        .filter_map(|entry| serde_json::from_value::<Entry>(entry).ok())
        .find(|entry| entry.revision == revision && entry.partition == partition)
        .map_or(Activity::Starting, |entry| entry.activity)
}

#[cfg(test)]
mod tests {
    use headwater_view::Standing;
    use uuid::Uuid;

    use super::*;
    use crate::fold::{Failure, RuleError};

    fn member(report: String) -> Member {
        Member { id: Uuid::nil(), name: String::new(), standing: Standing::Folds, report }
    }

    #[test]
    fn a_report_has_a_golden_form() {
        let failure = Failure {
            event_id: Uuid::from_u128(7),
            event_type: "Paid".to_owned(),
            stream_id: "order-1".to_owned(),
            partition: 2,
            position: "9".to_owned(),
            error: RuleError { place: "rule paid".to_owned(), message: "no".to_owned() },
        };
        let halted = Activity::Halted(Box::new(failure));
        let two = Partition::new(2);
        let text = write([
            (Revision(1), Partition::ZERO, Activity::Running),
            (Revision(1), two, halted.clone()),
            (Revision(3), two, Activity::Failing("gone".to_owned())),
        ]);
        let golden = r#"{"others":[{"activity":{"Halted":{"event_id":"00000000-0000-0000-0000-000000000007","event_type":"Paid","message":"no","partition":2,"place":"rule paid","position":"9","stream_id":"order-1"}},"partition":2,"revision":1},{"activity":{"Failing":"gone"},"partition":2,"revision":3}],"running":{"1":[0]}}"#;
        let (text, golden): (Value, Value) =
            (serde_json::from_str(&text).unwrap(), serde_json::from_str(golden).unwrap());
        assert_eq!(text, golden);
        let text = golden.to_string();
        let member = member(text);
        assert_eq!(read(&member, Revision(1), two), halted);
        assert_eq!(read(&member, Revision(3), two), Activity::Failing("gone".to_owned()));
        assert_eq!(read(&member, Revision(1), Partition::ZERO), Activity::Running);
        // Of what it does not speak it has not begun.
        assert_eq!(read(&member, Revision(3), Partition::ZERO), Activity::Starting);
        assert_eq!(read(&member, Revision(1), Partition::new(1)), Activity::Starting);
    }

    #[test]
    fn what_another_version_says_beside_it_is_passed_over() {
        let text = r#"{"running":{"1":[2]},"others":[{"revision":1,"partition":0,"activity":"Dreaming"},{"revision":1,"partition":1,"activity":{"Failing":"x"},"more":1}],"more":1}"#;
        let member = member(text.to_owned());
        assert_eq!(read(&member, Revision(1), Partition::ZERO), Activity::Starting);
        assert_eq!(read(&member, Revision(1), Partition::new(1)), Activity::Failing("x".to_owned()));
        assert_eq!(read(&member, Revision(1), Partition::new(2)), Activity::Running);
    }

    #[test]
    fn a_report_is_bounded() {
        let all = (0..1_000)
            .map(|number| (Revision(1), Partition::new(number), Activity::Failing("x".repeat(1_000))));
        let text = write(all);
        assert!(text.len() <= MOST + 1_000, "{}", text.len());
        let member = member(text);
        assert_eq!(read(&member, Revision(1), Partition::ZERO), Activity::Failing("x".repeat(1_000)));
    }
}
