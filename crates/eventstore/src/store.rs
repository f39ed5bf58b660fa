use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use headwater_core::{Append, Appended, Error, Expected, Positions, RecordedEvent, Result, Token, Version};
use headwater_log::{LogReader, LogWriter};
use headwater_runtime::Metrics;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::EventTypes;
use crate::metrics::{Api, Counters};
use crate::relays::Relays;
use crate::traced::{self, Caller};

/// The longest wait that a caller can ask for. Well below the idle time-outs of proxies, which are 30 seconds and more.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Events a page; as many as fit some hundred kilobytes on the wire, so that a page is neither all overhead nor a burst.
pub(crate) const PAGE_EVENTS: usize = 1_000;

/// Bytes of data and metadata a page: with the names around them they stay below what one gRPC message may have.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// What all APIs do: the log, and what an event stream says about its events.
pub(crate) struct Store {
    /// The event stream, where it has been said.
    pub(crate) name: OnceLock<String>,
    /// Where the log is relayed from here.
    pub(crate) relays: OnceLock<Arc<dyn Relays>>,
    pub(crate) reader: Arc<dyn LogReader>,
    writer: Arc<dyn LogWriter>,
    /// For what another event store has forwarded.
    local: Arc<dyn LogWriter>,
    event_types: RwLock<Arc<EventTypes>>,
    pub(crate) counters: Counters,
    /// Ends what would not end by itself.
    pub(crate) shutdown: CancellationToken,
    /// Appends under way, which are waited for at the end.
    pub(crate) tasks: TaskTracker,
}

impl Store {
    pub(crate) fn new(
        reader: Arc<dyn LogReader>,
        writer: Arc<dyn LogWriter>,
        local: Arc<dyn LogWriter>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            name: OnceLock::new(),
            relays: OnceLock::new(),
            reader,
            writer,
            local,
            event_types: RwLock::default(),
            counters: Counters::new(metrics),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn event_types(&self) -> Arc<EventTypes> {
        Arc::clone(&self.event_types.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_event_types(&self, event_types: EventTypes) {
        *self.event_types.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(event_types);
    }

    /// Appends what meets the schemas, as part of the caller's trace, and counts it.
    pub(crate) async fn append(&self, api: Api, caller: &Caller, mut append: Append) -> Result<Appended> {
        let _under_way = self.tasks.token();
        let started = Instant::now();
        let events = append.events.len();
        let writer = if api == Api::replica { &self.local } else { &self.writer };
        let span = traced::append(self.name.get().map_or("", String::as_str), api, &append);
        traced::carry(&span, caller, &mut append);
        let work = async {
            match self.event_types().admit(&mut append) {
                Ok(()) => writer.append(append).await,
                Err(refusal) => repeated(&**writer, append, refusal).await,
            }
        };
        let result = work.instrument(span.clone()).await;
        traced::appended(&span, &result);
        self.counters.appended(api, events, started.elapsed(), result.as_ref().err());
        result
    }

    /// The place `positions` in this log.
    pub(crate) fn token(&self, positions: Positions) -> Token {
        Token::new(self.reader.descriptor().log_id, positions)
    }

    /// Events as a reader gets them.
    pub(crate) fn give(&self, events: Vec<RecordedEvent>, upcast: bool) -> Result<Vec<RecordedEvent>> {
        match self.give_until(events, upcast) {
            (events, None) => Ok(events),
            (_, Some(error)) => Err(error),
        }
    }

    /// Events as a reader gets them, up to the first that cannot be brought up to date, and why that cannot.
    pub(crate) fn give_until(
        &self,
        mut events: Vec<RecordedEvent>,
        upcast: bool,
    ) -> (Vec<RecordedEvent>, Option<Error>) {
        let mut failed = None;
        if upcast {
            let event_types = self.event_types();
            for index in 0..events.len() {
                if let Err(error) = event_types.upcast(&mut events[index]) {
                    events.truncate(index);
                    failed = Some(error);
                    break;
                }
            }
        }
        self.counters.read(events.len());
        (events, failed)
    }
}

/// What is declared now refuses `append`; but events that are stored already were taken by what was declared then, and a writer whose
/// answer was lost must get it. A repeat is answered whatever is expected, and nothing else is at the last version of all.
async fn repeated(writer: &dyn LogWriter, mut append: Append, refusal: Error) -> Result<Appended> {
    append.expected = Expected::Version(Version::MAX);
    match writer.append(append).await {
        Err(Error::WrongVersion { .. } | Error::Invalid { .. }) => Err(refusal),
        answer => answer,
    }
}
