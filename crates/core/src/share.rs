use uuid::Uuid;

use crate::Partition;

/// What one of several processes should change, so that all have about as many partitions: ⌈partitions / members⌉ at most.
///
/// Each decides for itself, from what it saw. Those that saw the same never want the same partition more than needed, and none gives up
/// what nobody else would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// What it should take, of what nobody holds.
    pub wanted: Vec<Partition>,
    /// What it should give up.
    pub too_many: Vec<Partition>,
}

impl Share {
    /// The share of `me` among `members`, which are in an order that is the same for all. Who is not among them has no share. `holders` is by
    /// partition; `None`: nobody holds it.
    pub fn of(holders: &[Option<Uuid>], members: &[Uuid], me: Uuid) -> Self {
        let partitions = || (0..holders.len()).map(|number| Partition::new(number as u16));
        let held: Vec<Partition> =
            partitions().filter(|partition| holders[partition.index()] == Some(me)).collect();
        let Some(rank) = members.iter().position(|member| *member == me) else {
            return Self { wanted: Vec::new(), too_many: held };
        };
        let share = holders.len() / members.len() + usize::from(rank < holders.len() % members.len());
        let mut free: Vec<Partition> =
            partitions().filter(|partition| holders[partition.index()].is_none()).collect();
        // Members that look at the same time begin at different places.
        if !free.is_empty() {
            let first = rank * free.len() / members.len();
            free.rotate_left(first);
        }
        free.truncate(share.saturating_sub(held.len()));
        let too_many = held.get(share..).unwrap_or_default().to_vec();
        Self { wanted: free, too_many }
    }

    /// The share of `me` where one member has all partitions, and the others stand by: whoever has the first has the rest as well. `holders` as
    /// in [`of`](Self::of).
    pub fn all_or_none(holders: &[Option<Uuid>], me: Uuid) -> Self {
        let partitions = |holder: Option<Uuid>| {
            let numbers = holders.iter().enumerate().filter(move |(_, other)| **other == holder);
            numbers.map(|(number, _)| Partition::new(number as u16)).collect::<Vec<_>>()
        };
        match holders.first() {
            None => Self { wanted: Vec::new(), too_many: Vec::new() },
            Some(None) => Self { wanted: vec![Partition::ZERO], too_many: Vec::new() },
            Some(Some(first)) if *first == me => Self { wanted: partitions(None), too_many: Vec::new() },
            Some(Some(_)) => Self { wanted: Vec::new(), too_many: partitions(Some(me)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn whoever_has_the_first_has_all() {
        fn check(what: &str, holders: &[u128], wanted: &[u16], too_many: &[u16]) {
            let holders: Vec<_> = holders.iter().map(|holder| (*holder > 0).then(|| id(*holder))).collect();
            let partitions = |numbers: &[u16]| numbers.iter().copied().map(Partition::new).collect();
            let expected = Share { wanted: partitions(wanted), too_many: partitions(too_many) };
            assert_eq!(Share::all_or_none(&holders, id(1)), expected, "{what}");
        }
        check("nobody has any: one alone gets the first", &[0, 0, 0], &[0], &[]);
        check("the rest follows", &[1, 0, 2], &[1], &[]);
        check("all is well", &[1, 1, 1], &[], &[]);
        check("another has them", &[2, 2, 2], &[], &[]);
        check("another got the first", &[2, 1, 0], &[], &[1]);
        check("the first is free again", &[0, 1, 2], &[0], &[]);
    }

    #[test]
    fn each_takes_and_gives_up_what_makes_its_share() {
        fn check(what: &str, holders: &[u128], members: &[u128], me: u128, wanted: &[u16], too_many: &[u16]) {
            let holders: Vec<_> = holders.iter().map(|holder| (*holder > 0).then(|| id(*holder))).collect();
            let members: Vec<_> = members.iter().copied().map(id).collect();
            let partitions = |numbers: &[u16]| numbers.iter().copied().map(Partition::new).collect();
            let expected = Share { wanted: partitions(wanted), too_many: partitions(too_many) };
            assert_eq!(Share::of(&holders, &members, id(me)), expected, "{what}");
        }
        check("alone", &[0, 0, 0], &[1], 1, &[0, 1, 2], &[]);
        check("all is well", &[1, 1, 2], &[1, 2], 1, &[], &[]);
        check("the second of two", &[0, 0, 0, 0], &[1, 2], 2, &[2, 3], &[]);
        check("another has come", &[1, 1, 1, 1], &[1, 2], 1, &[], &[2, 3]);
        check("it waits for what the other gives up", &[1, 1, 1, 1], &[1, 2], 2, &[], &[]);
        check("more members than partitions", &[1], &[1, 2, 3], 2, &[], &[]);
        check("another is gone", &[1, 0, 0], &[1], 1, &[1, 2], &[]);
        check("who is no member has no share", &[2, 0, 1], &[1], 2, &[], &[0]);
        check("nobody is a member", &[2, 0], &[], 2, &[], &[0]);
    }

    #[test]
    fn all_partitions_are_shared_out_whatever_the_numbers() {
        for partitions in 1..=13_usize {
            let mut holders = vec![None; partitions];
            // They come one after the other, and go one after the other.
            let groups = (1..=7).chain((1..7).rev()).map(|last| (1..=last).map(id).collect::<Vec<_>>());
            for members in groups {
                for holder in &mut holders {
                    *holder = holder.filter(|holder| members.contains(holder));
                }
                for _ in 0..2 {
                    for me in &members {
                        let share = Share::of(&holders, &members, *me);
                        share.too_many.iter().for_each(|partition| holders[partition.index()] = None);
                        share.wanted.iter().for_each(|partition| holders[partition.index()] = Some(*me));
                    }
                }
                let most = partitions.div_ceil(members.len());
                for me in &members {
                    let held = holders.iter().filter(|holder| **holder == Some(*me)).count();
                    assert!((partitions / members.len()..=most).contains(&held), "{held} of {partitions}");
                }
            }
        }
    }
}
