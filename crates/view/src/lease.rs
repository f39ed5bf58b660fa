use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headwater_core::{Partition, PartitionCount, Result};
use uuid::Uuid;

/// A process that folds into a read model, beside others or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Made anew at each start: a process that was started again is another member.
    pub id: Uuid,
    /// What people call it: where it answers queries.
    pub name: String,
    /// Which partitions it is to have.
    pub standing: Standing,
    /// What it tells the other members; opaque to the sink.
    pub report: String,
}

/// Whether a member takes part when partitions are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Folds,
    /// Only where nobody else does: something keeps it from folding all, as far as it knows.
    Reserve,
    /// It does not: it only answers queries.
    Watches,
}

impl Standing {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Folds => "folds",
            Self::Reserve => "reserve",
            Self::Watches => "watches",
        }
    }

    /// The standing that is stored as `text`. A newer Headwater may know others.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Folds, Self::Reserve, Self::Watches].into_iter().find(|standing| standing.as_str() == text)
    }
}

/// A member says that it is alive, and what it is to hold.
#[derive(Debug, Clone)]
pub struct Look {
    /// The member.
    pub member: Member,
    /// What it is to hold of what it holds already or nobody holds. What else it holds, it gives up.
    pub hold: Vec<Partition>,
    /// How many partitions there are.
    pub partitions: PartitionCount,
    /// How long it is alive from now on, and its leases last.
    pub term: Duration,
}

/// Who folds what, as seen in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Those that are alive, in the order of their ids.
    pub members: Vec<Member>,
    /// By partition; `None`: nobody.
    pub holders: Vec<Option<Uuid>>,
}

impl Holdings {
    /// The members that partitions are shared out to, in order: those that fold, or else those in reserve.
    pub fn sharing(&self) -> Vec<Uuid> {
        let of = |standing: Standing| -> Vec<Uuid> {
            self.members.iter().filter(|member| member.standing == standing).map(|member| member.id).collect()
        };
        let folding = of(Standing::Folds);
        if folding.is_empty() { of(Standing::Reserve) } else { folding }
    }
}

/// Decides which of several processes folds a partition: in all revisions of the projection.
///
/// ```text
/// look: I am alive, and hold {0, 1} ──▶ free or mine: until now + term ──▶ who is alive, who holds what
///                                  └──▶ mine, and not named: free at once
/// ```
/// **A lease only decides who tries.** What makes an effect exactly-once is the checkpoint's compare-and-set: a sink that forgets its leases,
/// and a holder that was stopped for longer than its lease, do no harm.
///
/// Implementations MUST:
/// - let a partition have one holder or none at any moment of the store's own clock, and no clock of a member's;
/// - keep the lease of a holder that looks in time, and end that of one that does not when its term is over;
/// - do all of a look at once, in one round trip, and answer what is so afterwards: a look that is repeated does no harm;
/// - keep members and leases apart from what is folded: a look MUST NOT wait for a batch, nor a batch for a look.
#[async_trait]
pub trait SinkLeases: Send + Sync + 'static {
    /// Renews, takes and gives up, all at once.
    ///
    /// # Errors
    /// `Unavailable`: it may have been done; `Corrupt`.
    async fn look(&self, look: &Look) -> Result<Holdings>;

    /// The member is gone, and holds nothing.
    ///
    /// # Errors
    /// `Unavailable`: then its leases run out by themselves.
    async fn leave(&self, member: Uuid) -> Result<()>;
}

/// The leases of a store that only one process has: they end with it.
#[derive(Debug, Default)]
pub struct LocalLeases(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    members: BTreeMap<Uuid, (Member, Instant)>,
    holders: BTreeMap<Partition, (Uuid, Instant)>,
}

impl LocalLeases {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between two changes can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SinkLeases for LocalLeases {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        let mut state = self.lock();
        let (now, me) = (Instant::now(), look.member.id);
        let until = now + look.term;
        state.members.retain(|_, (_, until)| *until > now);
        state.members.insert(me, (look.member.clone(), until));
        state.holders.retain(|partition, (holder, until)| {
            *until > now && (*holder != me || look.hold.contains(partition))
        });
        for partition in &look.hold {
            let lease = state.holders.entry(*partition).or_insert((me, until));
            if lease.0 == me {
                lease.1 = until;
            }
        }
        let holder = |partition| state.holders.get(&partition).map(|(holder, _)| *holder);
        Ok(Holdings {
            members: state.members.values().map(|(member, _)| member.clone()).collect(),
            holders: look.partitions.partitions().map(holder).collect(),
        })
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        let mut state = self.lock();
        state.members.remove(&member);
        state.holders.retain(|_, (holder, _)| *holder != member);
        Ok(())
    }
}
