//! What is to be done next about revisions: decided from what there is and what is wanted, so that a process that ends at any point
//! goes on where it was.

use headwater_view::{Declared, Revision, Rollout, SpecGeneration};
use jiff::Timestamp;

/// What a process wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'w> {
    /// The digest of its spec.
    pub(crate) digest: &'w str,
    /// How new its spec is, where that is known.
    pub(crate) generation: Option<SpecGeneration>,
}

impl Wanted<'_> {
    /// It, as the spec that decides; `None`: nobody has said how new it is.
    pub(crate) fn declared(self) -> Option<Declared> {
        Some(Declared { generation: self.generation?, digest: self.digest.to_owned() })
    }

    /// The digest of what is to be active: that of the spec that decides.
    pub(crate) fn deciding(self, rollout: &Rollout) -> String {
        let declared = rollout.declared.as_ref().filter(|_| self.is_outdated(rollout));
        declared.map_or(self.digest, |declared| &declared.digest).to_owned()
    }

    /// Whether a process with a newer spec has said so, and wants something else: there is nothing to decide here then.
    pub(crate) fn is_outdated(self, rollout: &Rollout) -> bool {
        rollout.declared.as_ref().is_some_and(|declared| {
            Some(declared.generation) > self.generation && declared.digest != self.digest
        })
    }

    /// What is to be said, where this spec is the newest.
    fn to_declare(self, rollout: &Rollout) -> Option<Declared> {
        let known = rollout.declared.as_ref().map(|declared| declared.generation);
        self.declared().filter(|_| self.generation > known)
    }
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// All is as it should be, for now.
    Nothing,
    /// Leave it to those who have a newer spec.
    Follow,
    /// Say that this spec is the newest.
    Declare(Declared),
    /// Build what is wanted.
    Create,
    /// Remove a revision that nobody wants.
    Drop(Revision),
    /// What was rolled back from is no longer what is wanted: it may be promoted again when it is.
    ReleaseHold,
    /// Make this the active one as soon as it is ready.
    Promote(Revision),
}

/// Decides, for a spec that is `wanted`, at `now`.
pub(crate) fn next(rollout: &Rollout, wanted: Wanted<'_>, now: Timestamp) -> Next {
    if wanted.is_outdated(rollout) {
        return Next::Follow;
    }
    if let Some(declared) = wanted.to_declare(rollout) {
        return Next::Declare(declared);
    }
    let wanted = wanted.digest;
    let digest = |revision: Revision| rollout.record(revision).map(|record| record.digest.as_str());
    let previous = rollout.previous.map(|previous| previous.revision);
    let has_role =
        |revision: Revision| [rollout.active, rollout.candidate, previous].contains(&Some(revision));
    if let Some(orphan) = rollout.revisions.iter().find(|record| !has_role(record.revision)) {
        return Next::Drop(orphan.revision);
    }
    if rollout.held_digest.as_deref().is_some_and(|held| held != wanted) {
        return Next::ReleaseHold;
    }
    if let Some(candidate) = rollout.candidate {
        // A candidate of the active one's digest is a rebuild that somebody asked for.
        return if digest(candidate) == Some(wanted) {
            Next::Promote(candidate)
        } else {
            Next::Drop(candidate)
        };
    }
    let is_active = rollout.active.and_then(digest) == Some(wanted);
    let is_held = rollout.held_digest.as_deref() == Some(wanted);
    if let Some(revision) =
        previous.filter(|revision| !is_active && !is_held && digest(*revision) == Some(wanted))
    {
        return Next::Promote(revision);
    }
    if let Some(previous) = rollout.previous.filter(|previous| previous.until <= now) {
        return Next::Drop(previous.revision);
    }
    if is_active || is_held { Next::Nothing } else { Next::Create }
}

#[cfg(test)]
mod tests {
    use headwater_view::{Generation, Previous, RevisionRecord};

    use super::*;

    /// Revisions 1 to 9 of digests "1" to "9".
    fn rollout(active: u32, candidate: u32, previous: u32, held: &str, others: &[u32]) -> Rollout {
        let some = |revision: u32| (revision > 0).then_some(Revision(revision));
        let record = |revision: u32| RevisionRecord {
            revision: Revision(revision),
            digest: revision.to_string(),
            definition: String::new(),
            tables: vec![],
            created_at: Timestamp::UNIX_EPOCH,
        };
        let all = [active, candidate, previous].into_iter().chain(others.iter().copied());
        Rollout {
            active: some(active),
            candidate: some(candidate),
            previous: some(previous)
                .map(|revision| Previous { revision, until: Timestamp::from_second(100).unwrap() }),
            held_digest: (!held.is_empty()).then(|| held.to_owned()),
            revisions: all.filter(|revision| *revision > 0).map(record).collect(),
            ..Rollout::default()
        }
    }

    #[test]
    fn what_is_next() {
        fn check(what: &str, rollout: &Rollout, wanted: &str, at: i64, expected: Next) {
            let wanted = Wanted { digest: wanted, generation: None };
            assert_eq!(next(rollout, wanted, Timestamp::from_second(at).unwrap()), expected, "{what}");
        }
        let drop = |revision| Next::Drop(Revision(revision));
        let promote = |revision| Next::Promote(Revision(revision));
        check("nothing is there", &rollout(0, 0, 0, "", &[]), "1", 0, Next::Create);
        check("the first is being built", &rollout(0, 1, 0, "", &[]), "1", 0, promote(1));
        check("the first is replaced before it was ready", &rollout(0, 1, 0, "", &[]), "2", 0, drop(1));
        check("all is well", &rollout(1, 0, 0, "", &[]), "1", 0, Next::Nothing);
        check("the spec has changed", &rollout(1, 0, 0, "", &[]), "2", 0, Next::Create);
        check("a candidate is being built", &rollout(1, 2, 0, "", &[]), "2", 0, promote(2));
        check("the spec has changed again", &rollout(1, 2, 0, "", &[]), "3", 0, drop(2));
        check("the spec has gone back to the active one", &rollout(1, 2, 0, "", &[]), "1", 0, drop(2));
        check("the previous one is kept", &rollout(2, 0, 1, "", &[]), "2", 99, Next::Nothing);
        check("and dropped in time", &rollout(2, 0, 1, "", &[]), "2", 100, drop(1));
        check("the spec has gone back to the previous one", &rollout(2, 0, 1, "", &[]), "1", 0, promote(1));
        check("even when its time is over", &rollout(2, 0, 1, "", &[]), "1", 200, promote(1));
        check("what is nobody's is dropped", &rollout(2, 0, 3, "", &[1]), "2", 0, drop(1));
        check("rolled back", &rollout(1, 0, 2, "2", &[]), "2", 0, Next::Nothing);
        check("rolled back, and the other dropped in time", &rollout(1, 0, 2, "2", &[]), "2", 100, drop(2));
        check("rolled back, long ago", &rollout(1, 0, 0, "2", &[]), "2", 200, Next::Nothing);
        check("rolled back, then the spec followed", &rollout(1, 0, 2, "2", &[]), "1", 0, Next::ReleaseHold);
        check("rolled back, then mended", &rollout(1, 0, 2, "2", &[]), "3", 0, Next::ReleaseHold);
        check("rolled back, then a rebuild was asked for", &rollout(1, 2, 0, "2", &[]), "2", 0, promote(2));
    }

    #[test]
    fn a_rebuild_of_the_same_digest_takes_over() {
        let mut rollout = rollout(1, 2, 0, "", &[]);
        rollout.revisions[1].digest = "1".to_owned();
        let wanted = Wanted { digest: "1", generation: None };
        assert_eq!(next(&rollout, wanted, Timestamp::UNIX_EPOCH), Next::Promote(Revision(2)));
        (rollout.active, rollout.candidate) = (Some(Revision(2)), None);
        rollout.previous = Some(Previous { revision: Revision(1), until: Timestamp::MAX });
        assert_eq!(next(&rollout, wanted, Timestamp::UNIX_EPOCH), Next::Nothing);
    }

    #[test]
    fn the_newest_spec_decides() {
        fn generation(projection: (i64, i64), event_stream: (i64, i64)) -> SpecGeneration {
            let [projection, event_stream] =
                [projection, event_stream].map(|(created_at, number)| Generation { created_at, number });
            SpecGeneration { projection, event_stream }
        }
        let first = generation((10, 1), (5, 1));
        let newer = [
            generation((10, 2), (5, 1)),
            generation((10, 1), (5, 2)),
            // They were deleted and created again.
            generation((11, 1), (5, 1)),
            generation((10, 1), (12, 1)),
        ];
        let mut state = rollout(1, 2, 0, "", &[]);
        let decides = |state: &Rollout, digest: &str, generation: Option<SpecGeneration>| {
            next(state, Wanted { digest, generation }, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(decides(&state, "1", None), Next::Drop(Revision(2)), "nobody says how new theirs is");
        for newer in newer {
            let of =
                |digest: &str, generation: SpecGeneration| Declared { generation, digest: digest.to_owned() };
            state.declared = None;
            assert_eq!(decides(&state, "1", Some(first)), Next::Declare(of("1", first)));
            state.declared = Some(of("1", first));
            assert_eq!(decides(&state, "2", Some(newer)), Next::Declare(of("2", newer)));
            assert_eq!(decides(&state, "1", Some(newer)), Next::Declare(of("1", newer)));
            state.declared = Some(of("2", newer));
            assert_eq!(decides(&state, "2", Some(newer)), Next::Promote(Revision(2)));
            assert_eq!(decides(&state, "1", Some(first)), Next::Follow);
            assert_eq!(decides(&state, "1", None), Next::Follow);
            // Whoever wants the same need not be told.
            assert_eq!(decides(&state, "2", Some(first)), Next::Promote(Revision(2)));
            assert_eq!(decides(&state, "2", None), Next::Promote(Revision(2)));
        }
    }
}
