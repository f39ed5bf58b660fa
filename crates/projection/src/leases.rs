//! Which partitions are folded here, when several processes fold one projection.
//!
//! ```text
//! every half second:  look (alive; holds these) ─▶ who is alive, who holds what ─▶ more than my share? fold it no longer, then give it up
//!                                                                             └──▶ less?               look again, and take what is free
//! manager ──ours()──▶ a worker for each partition ──holds()──▶ before each page
//!    └──────folding()──▶ what is held until its worker has ended
//! ```
//!
//! A lease is of a partition in all revisions: what a rollout builds is shared out as what serves is. It only decides who tries; the checkpoint's
//! compare-and-set decides what counts.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_core::{Error, Partition, PartitionCount, Result, Share};
use headwater_log::{Backoff, LeaseTimes, say_failure};
use headwater_view::{Holdings, Look, Member, SinkLeases, Standing};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How soon a look that failed is taken again, at first.
const SOON: Duration = Duration::from_millis(20);

/// Looks in a row at most: where something was taken by another in between, the next one comes soon.
const LOOKS: usize = 3;

/// How long leases may take to be given up: whoever ends waits for it.
const LEAVE: Duration = Duration::from_secs(1);

/// This process among those that fold a projection. Dropped without [`leave`](Self::leave), its leases run out.
pub(crate) struct Leases {
    inner: Arc<Inner>,
    looking: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    /// The projection's name, for messages.
    projection: String,
    sink: Arc<dyn SinkLeases>,
    partitions: PartitionCount,
    times: LeaseTimes,
    wishes: Mutex<Wishes>,
    view: watch::Sender<View>,
    nudge: Notify,
    stop: CancellationToken,
}

/// What the next look is to say.
struct Wishes {
    member: Member,
    /// Has a worker here still.
    folding: BTreeSet<Partition>,
    /// Is to have one.
    wanted: BTreeSet<Partition>,
}

/// What the last look gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct View {
    pub(crate) holdings: Holdings,
    /// To be folded here, while the leases last.
    pub(crate) ours: BTreeSet<Partition>,
    /// Until when they do, by our own clock.
    until: Option<Instant>,
    /// How many partitions have come or gone so far.
    pub(crate) moves: u64,
}

impl Leases {
    /// Joins those that fold the projection, and looks from now on. It takes part when partitions are shared out once its
    /// [standing](Self::stand) says so.
    pub(crate) fn join(
        projection: &str,
        sink: Arc<dyn SinkLeases>,
        partitions: PartitionCount,
        name: String,
        times: LeaseTimes,
    ) -> Self {
        let member = Member { id: Uuid::new_v4(), name, standing: Standing::Watches, report: String::new() };
        let inner = Arc::new(Inner {
            projection: projection.to_owned(),
            sink,
            partitions,
            times,
            wishes: Mutex::new(Wishes { member, folding: BTreeSet::new(), wanted: BTreeSet::new() }),
            view: watch::Sender::default(),
            nudge: Notify::new(),
            stop: CancellationToken::new(),
        });
        let looking = tokio::spawn(Arc::clone(&inner).keep_looking());
        Self { inner, looking: Mutex::new(Some(looking)) }
    }

    /// Says which part it takes from now on, and what the others are to know.
    pub(crate) fn stand(&self, standing: Standing, report: String) {
        let is_new = self.inner.wish(|wishes| {
            wishes.member.report = report;
            std::mem::replace(&mut wishes.member.standing, standing) != standing
        });
        if is_new {
            self.inner.nudge.notify_one();
        }
    }

    /// Says which partitions have a worker here: none of them is given up before it has none.
    pub(crate) fn folding(&self, partitions: BTreeSet<Partition>) {
        let is_less = self.inner.wish(|wishes| {
            let is_less = !wishes.folding.is_subset(&partitions);
            wishes.folding = partitions;
            is_less
        });
        if is_less {
            self.inner.nudge.notify_one();
        }
    }

    /// What is to be folded here, and who else holds what. It stays what it was while the sink does not answer.
    pub(crate) fn view(&self) -> View {
        self.inner.view.borrow().clone()
    }

    /// Changes when the view does.
    pub(crate) fn changes(&self) -> watch::Receiver<View> {
        self.inner.view.subscribe()
    }

    /// How many partitions are held now, and how many have come or gone.
    pub(crate) fn count(&self) -> (usize, u64) {
        let view = self.inner.view.borrow();
        (if view.is_valid() { view.ours.len() } else { 0 }, view.moves)
    }

    /// Whether `partition` is folded here now.
    pub(crate) fn holds(&self, partition: Partition) -> bool {
        let view = self.inner.view.borrow();
        view.is_valid() && view.ours.contains(&partition)
    }

    /// Waits until `partition` is folded here.
    pub(crate) async fn until_held(&self, partition: Partition) {
        // The sender is ours.
        let _ = self
            .inner
            .view
            .subscribe()
            .wait_for(|view| view.is_valid() && view.ours.contains(&partition))
            .await;
    }

    fn take(&self) -> Option<JoinHandle<()>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives up all partitions, so that others take them at once. Nothing is folded here any more.
    pub(crate) async fn leave(&self) {
        self.inner.stop.cancel();
        let looking = self.take();
        let abort = looking.as_ref().map(JoinHandle::abort_handle);
        let left = tokio::time::timeout(LEAVE, async {
            // A look that is under way may take something: it is finished first.
            if let Some(looking) = looking
                && let Err(error) = looking.await
            {
                tracing::error!(projection = self.inner.projection, %error, "the task that renews leases has panicked");
            }
            self.inner.sink.leave(self.inner.wish(|wishes| wishes.member.id)).await
        });
        let why = match left.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(tokio::time::error::Elapsed { .. }) => {
                abort.iter().for_each(tokio::task::AbortHandle::abort);
                Some(format!("no answer within {LEAVE:?}"))
            }
        };
        if let Some(why) = why {
            tracing::warn!(
                projection = self.inner.projection,
                why,
                "the leases could not be given up, and run out by themselves"
            );
        }
        self.inner.view.send_modify(|view| *view = View { moves: view.moves, ..View::default() });
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        if let Some(looking) = self.take() {
            looking.abort();
        }
    }
}

impl View {
    fn is_valid(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// Who holds `partition`.
    pub(crate) fn holder(&self, partition: Partition) -> Option<&Member> {
        let id = self.holdings.holders.get(partition.index()).copied().flatten()?;
        self.holdings.members.iter().find(|member| member.id == id)
    }
}

impl Inner {
    fn wish<T>(&self, wish: impl FnOnce(&mut Wishes) -> T) -> T {
        // Wishes are whole after each assignment.
        wish(&mut self.wishes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn keep_looking(self: Arc<Self>) {
        let mut failing: Option<Backoff> = None;
        loop {
            let wait = match self.look().await {
                Ok(()) => {
                    if failing.take().is_some() {
                        tracing::info!(projection = self.projection, "leases can be looked at again");
                    }
                    self.times.look
                }
                Err(error) => {
                    say_failure!(failing.is_none(), projection = self.projection, %error, "leases cannot be looked at, and are tried again");
                    failing.get_or_insert_with(|| Backoff::new(SOON, self.times.look)).pause()
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.nudge.notified() => {}
            }
        }
    }

    /// Looks, and at once again while there is something to be taken or given up.
    async fn look(&self) -> Result<()> {
        for _ in 0..LOOKS {
            if !self.look_once().await? || self.stop.is_cancelled() {
                break;
            }
        }
        Ok(())
    }

    /// Looks, and gives whether something else is to be held now.
    async fn look_once(&self) -> Result<bool> {
        let (member, hold) = self.wish(|wishes| (wishes.member.clone(), wishes.hold()));
        let me = member.id;
        let look = Look { member, hold: hold.clone(), partitions: self.partitions, term: self.times.term };
        // Before the sink can have counted from.
        let until = Instant::now() + self.times.term.saturating_sub(self.times.margin);
        let answer = tokio::time::timeout(self.times.term, self.sink.look(&look)).await;
        let holdings = answer.map_err(|_| {
            Error::unavailable(format!("looking at leases: no answer within {:?}", self.times.term))
        })??;
        let share = Share::of(&holdings.holders, &holdings.sharing(), me);
        let ours: BTreeSet<Partition> = self
            .partitions
            .partitions()
            .filter(|partition| holdings.holders[partition.index()] == Some(me))
            .filter(|partition| !share.too_many.contains(partition))
            .collect();
        let is_more = self.wish(|wishes| {
            wishes.wanted = ours.iter().chain(&share.wanted).copied().collect();
            wishes.hold() != hold
        });
        self.view.send_if_modified(|view| {
            let moves = view.ours.symmetric_difference(&ours).count() as u64;
            let next = View { holdings, ours, until: Some(until), moves: view.moves + moves };
            let is_new = !view.is_valid() || moves > 0 || view.holdings != next.holdings;
            *view = next;
            is_new
        });
        Ok(is_more)
    }
}

impl Wishes {
    /// All that is to be held, in order.
    fn hold(&self) -> Vec<Partition> {
        self.wanted.union(&self.folding).copied().collect()
    }
}
