//! A log, a sink and a projection, and what they hold, as tests want to see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId, Token};
use headwater_log::{LogReader, LogStore, LogWriter, MemoryStore, Sequencer, SequencerOptions};
use headwater_projection::{Desired, ProjectionService, ProjectionStatus};
use headwater_redis::RedisView;
use headwater_resources::manifest::read_texts;
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_sql::{Database, PostgresView, SqliteView};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::redis::Redis;
use headwater_view::{MemoryView, Query, ViewStore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Longest that anything here may take; only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The specs in a manifest of one EventStream and one Projection.
pub(crate) fn specs(yaml: &str) -> (ProjectionSpec, EventStreamSpec) {
    let manifests = read_texts([("test.yaml", yaml)]);
    let faults: Vec<String> = manifests.errors().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    (manifests.projections[0].spec.clone(), manifests.event_streams[0].spec.clone())
}

/// What the manifest wants.
pub(crate) fn desired(yaml: &str) -> Desired {
    let (projection, event_stream) = specs(yaml);
    Desired::new(&projection, &event_stream)
}

/// A log in memory.
pub(crate) struct Log {
    pub(crate) store: Arc<MemoryStore>,
    writer: Sequencer,
}

impl Log {
    pub(crate) fn new(partitions: u32) -> Self {
        let store = Arc::new(MemoryStore::new(PartitionCount::new(partitions).unwrap()));
        let writer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
        Self { store, writer }
    }

    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.store) as Arc<dyn LogReader>
    }

    /// Appends one event and gives its id and the token to wait for.
    pub(crate) async fn append(&self, stream_id: &str, event_type: &str, data: &str) -> (Uuid, Token) {
        let event = NewEvent::json(EventType::new(event_type).unwrap(), data.to_owned());
        let id = event.id;
        (id, self.append_all(stream_id, vec![event]).await)
    }

    pub(crate) async fn append_all(&self, stream_id: &str, events: Vec<NewEvent>) -> Token {
        let append = Append { stream_id: StreamId::new(stream_id).unwrap(), expected: Expected::Any, events };
        self.writer.append(append).await.unwrap().token()
    }
}

/// A place for a sink that can be opened again.
pub(crate) enum Sink {
    Memory(Arc<MemoryView>),
    Sqlite(tempfile::TempDir),
    /// The server lives as long as the sink.
    Postgres {
        view: PostgresView,
        _server: Arc<Postgres>,
    },
    /// As above.
    Redis {
        view: RedisView,
        _server: Arc<Redis>,
    },
}

impl Sink {
    pub(crate) fn memory() -> Self {
        Self::Memory(Arc::new(MemoryView::new()))
    }

    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A schema of its own.
    pub(crate) async fn postgres() -> Self {
        let server = Postgres::shared().unwrap();
        let database =
            Database { url: server.url(), schema: Postgres::schema(), max_connections: 8, tls: None };
        Self::Postgres { view: PostgresView::open(&database, "test").await.unwrap(), _server: server }
    }

    /// A prefix of its own.
    pub(crate) async fn redis() -> Self {
        let server = Redis::shared().unwrap();
        let view = RedisView::open(&server.url(), &Redis::prefix(), "test").await.unwrap();
        Self::Redis { view, _server: server }
    }

    pub(crate) fn open(&self) -> Arc<dyn ViewStore> {
        match self {
            Self::Redis { view, .. } => Arc::new(view.clone()),
            Self::Postgres { view, .. } => Arc::new(view.clone()),
            Self::Memory(store) => store.clone(),
            Self::Sqlite(directory) => {
                Arc::new(SqliteView::open(directory.path().join("view.sqlite")).unwrap())
            }
        }
    }
}

/// A projection that is started, over a log.
pub(crate) async fn start(log: &Log, store: Arc<dyn ViewStore>, desired: Desired) -> ProjectionService {
    let service = ProjectionService::start("test", "here", log.reader(), store, CancellationToken::new())
        .await
        .unwrap();
    service.reconcile(desired).await.unwrap();
    service
}

/// Waits until the status is as `wanted` says.
pub(crate) async fn until(
    service: &ProjectionService,
    what: &str,
    wanted: impl Fn(&ProjectionStatus) -> bool,
) -> Arc<ProjectionStatus> {
    let mut watch = service.watch();
    let waiting = watch.wait_for(|status| wanted(status));
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(status) => status.unwrap().clone(),
        Err(tokio::time::error::Elapsed { .. }) => panic!("not in time: {what}: {:#?}", service.status()),
    }
}

/// Waits until all that is in the log is folded into the active revision.
pub(crate) async fn caught_up(log: &Log, service: &ProjectionService) {
    let positions = headwater_log::end(&*log.store).await.unwrap();
    let token = Token::new(log.store.descriptor().log_id, positions);
    match tokio::time::timeout(PATIENCE, service.wait_for(&token)).await {
        Ok(result) => result.unwrap(),
        Err(tokio::time::error::Elapsed { .. }) => panic!("not caught up in time: {:#?}", service.status()),
    }
}

/// All rows of a table of the active revision, by key, as text.
pub(crate) async fn rows(store: &dyn ViewStore, table: &str) -> BTreeMap<String, Vec<String>> {
    try_rows(store, table).await.expect("an active revision")
}

/// The same; `None` where no revision is active, or another one since it was looked at.
pub(crate) async fn try_rows(store: &dyn ViewStore, table: &str) -> Option<BTreeMap<String, Vec<String>>> {
    let rollout = store.rollout().await.ok()?;
    let record = rollout.active_record()?;
    let number = record.tables.iter().position(|known| known.name == table).expect("a table");
    let schema = &record.tables[number];
    let query = Query {
        revision: record.revision,
        active: true,
        table: number,
        filter: vec![],
        order: Query::total_order(schema, &[]),
        after: None,
        limit: usize::MAX >> 1,
    };
    let answer = store.query(&query).await.ok()?;
    let row = |cells: Vec<headwater_view::Cell>| {
        (schema.key_of(&cells).to_string(), cells.iter().map(ToString::to_string).collect())
    };
    Some(answer.rows.into_iter().map(row).collect())
}
