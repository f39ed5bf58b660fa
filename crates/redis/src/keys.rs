//! The names of all keys. Part of the stored formats.
//!
//! ```text
//! {PREFIX}:active                    the revision that answers queries, for those who read Redis directly
//! {PREFIX}:g3:accounts:ID            a row of revision 3: a hash of its columns
//! {PREFIX}:hw:state                  a hash: whose it is, the rollout, revisions, the last write and the last decision
//! {PREFIX}:hw:skips                  a set: events that people skipped
//! {PREFIX}:hw:leases                 a hash: until:ID, name:ID, standing:ID, report:ID by process that folds; lease:P by partition
//! {PREFIX}:hw:g3:progress            a hash: position:P, recorded_at:P, parked:P, skipped:P by partition
//! {PREFIX}:hw:g3:rows:accounts       a hash: by row, its version, and what else belongs to it
//! {PREFIX}:hw:g3:order:accounts      a sorted set: the rows in the order of their keys
//! {PREFIX}:hw:g3:index:accounts:1    a sorted set: the rows in the order of the first index
//! {PREFIX}:hw:g3:entries:accounts:1  a hash: by row, its member there
//! {PREFIX}:hw:g3:parked              a hash: by stream id, version, partition, since when, why
//! {PREFIX}:hw:g3:parked:streams      a sorted set: the stream ids
//! {PREFIX}:hw:g3:parked:events       a sorted set: their events
//! ```
//!
//! The braces are what a Redis Cluster computes the slot from: all keys of a projection lie in one.

use std::fmt::Write as _;

use headwater_view::{Cell, Key, Revision};

/// The names of a projection's keys.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: format!("{{{prefix}}}") }
    }

    /// As people have given it.
    pub(crate) fn prefix(&self) -> &str {
        self.prefix.trim_start_matches('{').trim_end_matches('}')
    }

    pub(crate) fn state(&self) -> String {
        format!("{}:hw:state", self.prefix)
    }

    /// What the names of all keys match, as `SCAN` takes it; whatever else has the prefix is somebody else's.
    pub(crate) fn patterns(&self) -> [String; 3] {
        ["hw:*", "g[0-9]*:*", "active"].map(|what| format!("{}:{what}", self.prefix))
    }

    /// Whether a key that matches them is one of ours.
    pub(crate) fn is_own(&self, key: &[u8]) -> bool {
        let Some(rest) = key.strip_prefix(format!("{}:", self.prefix).as_bytes()) else { return false };
        let Some(rest) = rest.strip_prefix(b"g") else { return true };
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        digits > 0 && rest.get(digits) == Some(&b':')
    }

    pub(crate) fn active(&self) -> String {
        format!("{}:active", self.prefix)
    }

    pub(crate) fn skips(&self) -> String {
        format!("{}:hw:skips", self.prefix)
    }

    pub(crate) fn leases(&self) -> String {
        format!("{}:hw:leases", self.prefix)
    }

    /// What `what` of a revision is kept in.
    fn of(&self, revision: Revision, what: std::fmt::Arguments<'_>) -> String {
        format!("{}:hw:g{}:{what}", self.prefix, revision.0)
    }

    pub(crate) fn progress(&self, revision: Revision) -> String {
        self.of(revision, format_args!("progress"))
    }

    pub(crate) fn parked(&self, revision: Revision) -> String {
        self.of(revision, format_args!("parked"))
    }

    pub(crate) fn parked_streams(&self, revision: Revision) -> String {
        self.of(revision, format_args!("parked:streams"))
    }

    pub(crate) fn parked_events(&self, revision: Revision) -> String {
        self.of(revision, format_args!("parked:events"))
    }

    pub(crate) fn versions(&self, revision: Revision, table: &str) -> String {
        self.of(revision, format_args!("rows:{table}"))
    }

    /// The sorted set number `number` of a table: 0 is the order of its keys.
    pub(crate) fn order(&self, revision: Revision, table: &str, number: usize) -> String {
        match number {
            0 => self.of(revision, format_args!("order:{table}")),
            _ => self.of(revision, format_args!("index:{table}:{number}")),
        }
    }

    pub(crate) fn entries(&self, revision: Revision, table: &str, number: usize) -> String {
        self.of(revision, format_args!("entries:{table}:{number}"))
    }

    /// What the keys of a table's rows begin with; a row's name follows.
    pub(crate) fn rows(&self, revision: Revision, table: &str) -> String {
        format!("{}:g{}:{table}:", self.prefix, revision.0)
    }
}

/// The last part of a row's key: its key columns as people read them, with `/` between them. Where there are several, a `/` within one is `%2F`
/// and a `%` is `%25`, so that no two keys have one name.
pub(crate) fn row_name(key: &Key) -> Vec<u8> {
    let mut name = String::new();
    match key.cells() {
        [one] => push(&mut name, one),
        cells => {
            for (number, cell) in cells.iter().enumerate() {
                if number > 0 {
                    name.push('/');
                }
                match cell {
                    Cell::Text(text) => name.push_str(&text.replace('%', "%25").replace('/', "%2F")),
                    other => push(&mut name, other),
                }
            }
        }
    }
    name.into_bytes()
}

fn push(name: &mut String, cell: &Cell) {
    // Writing into a String never fails.
    let _ = write!(name, "{cell}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_people_type_and_are_never_those_of_two_rows() {
        let text = |text: &str| Cell::Text(text.into());
        let name = |cells: Vec<Cell>| String::from_utf8(row_name(&Key::new(cells))).unwrap();
        assert_eq!(name(vec![text("a/b%")]), "a/b%");
        assert_eq!(name(vec![Cell::Decimal("1.50".parse().unwrap()), Cell::Integer(-2)]), "1.5/-2");
        assert_eq!(name(vec![text("a/b"), text("c")]), "a%2Fb/c");
        assert_eq!(name(vec![text("a"), text("b/c")]), "a/b%2Fc");
        assert_eq!(name(vec![text("a%2Fb"), text("c")]), "a%252Fb/c");
        assert_eq!(name(vec![text(""), text("")]), "/");
    }

    #[test]
    fn keys_have_golden_names_with_one_hash_tag() {
        let (keys, three) = (Keys::new("banku"), Revision(3));
        let all = [
            keys.active(),
            keys.rows(three, "accounts") + "7",
            keys.state(),
            keys.skips(),
            keys.leases(),
            keys.progress(three),
            keys.versions(three, "accounts"),
            keys.order(three, "accounts", 0),
            keys.order(three, "accounts", 1),
            keys.entries(three, "accounts", 1),
            keys.parked(three),
            keys.parked_streams(three),
            keys.parked_events(three),
        ];
        let golden = [
            "active",
            "g3:accounts:7",
            "hw:state",
            "hw:skips",
            "hw:leases",
            "hw:g3:progress",
            "hw:g3:rows:accounts",
            "hw:g3:order:accounts",
            "hw:g3:index:accounts:1",
            "hw:g3:entries:accounts:1",
            "hw:g3:parked",
            "hw:g3:parked:streams",
            "hw:g3:parked:events",
        ];
        assert_eq!(all, golden.map(|name| format!("{{banku}}:{name}")));
    }
}
