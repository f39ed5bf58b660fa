use std::sync::Arc;

use async_trait::async_trait;
use headwater_sql::SqliteView;
use headwater_view::ViewStore;
use headwater_view::conformance::Place;

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("view.sqlite")
    }
}

#[async_trait]
impl Place for Directory {
    async fn open(&self) -> Arc<dyn ViewStore> {
        Arc::new(SqliteView::open(self.file()).expect("a store"))
    }
}

headwater_view::view_conformance!(Directory::new());

mod files {
    use headwater_core::{Error, LogId, Partition, PartitionCount, Position, Positions};
    use headwater_view::{
        Advance, Batch, Cell, Change, Column, ColumnType, Decisions, Declared, Index, Key, NewRevision, Row,
        RowState, RowWrite, SpecGeneration, TableSchema, ViewAdmin, ViewSink, Writers,
    };
    use jiff::Timestamp;
    use rusqlite::Connection;

    use super::*;

    fn revision(digest: &str, columns: &[&str]) -> NewRevision {
        let column = |name: &&str| {
            let column_type = if *name == "balance" { ColumnType::Decimal } else { ColumnType::Text };
            Column::new(*name, column_type, Cell::Null)
        };
        NewRevision {
            digest: digest.to_owned(),
            definition: "{}".to_owned(),
            tables: vec![TableSchema {
                name: "accounts".to_owned(),
                columns: columns.iter().map(column).collect(),
                key: vec![0],
                indexes: vec![Index { columns: vec![1] }],
                writers: Writers::OneStream,
            }],
            log_id: LogId::generate(),
            partitions: PartitionCount::ONE,
            start: Positions::default(),
        }
    }

    async fn build(store: &SqliteView, new: NewRevision, cells: Vec<Cell>) {
        let rollout =
            store.change(store.rollout().await.unwrap().version, &Change::Create(new)).await.unwrap();
        let revision = rollout.candidate.unwrap();
        let row = Row {
            cells: cells.clone(),
            writer: Some(headwater_core::StreamId::new("s").unwrap()),
            stamps: vec![],
        };
        let batch = Batch {
            advance: Some(Advance {
                partition: Partition::ZERO,
                from: Position::ZERO,
                to: Position::new(1),
                recorded_at: None,
                skipped: 0,
            }),
            rows: vec![RowWrite {
                table: 0,
                key: Key::new(vec![cells[0].clone()]),
                expected: None,
                state: Some(RowState::Live(row)),
            }],
            ..Batch::new(revision, Decisions(0))
        };
        store.apply(Arc::new(batch)).await.unwrap();
        let promote = Change::Promote { revision, keep_until: Timestamp::UNIX_EPOCH, hold: None };
        store.change(rollout.version, &promote).await.unwrap();
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    /// `sqlite3 FILE 'select * from accounts'` shows the active revision's columns and no others, in any program.
    #[tokio::test]
    async fn people_find_the_active_revision_under_plain_names() {
        let directory = Directory::new();
        let store = SqliteView::open(directory.file()).unwrap();
        let first = revision("a", &["id", "balance"]);
        let log_id = first.log_id;
        build(&store, first, vec![text("x"), Cell::Decimal("10.50".parse().unwrap())]).await;
        // A program that knows nothing of our collation.
        let other = Connection::open(directory.file()).unwrap();
        let select = |sql: &str| -> Vec<(String, String)> {
            let mut statement = other.prepare(sql).unwrap();
            assert_eq!(statement.column_count(), 2);
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        assert_eq!(select("select * from accounts"), [("x".into(), "10.50".into())]);
        assert_eq!(
            select("select * from accounts where balance = '10.50' order by cast(balance as real)").len(),
            1
        );

        let second = NewRevision { log_id, ..revision("b", &["id", "owner"]) };
        build(&store, second, vec![text("x"), text("Adam")]).await;
        assert_eq!(select("select * from accounts"), [("x".into(), "Adam".into())]);
        assert_eq!(select("select id, balance from r1_accounts"), [("x".into(), "10.50".into())]);
    }

    #[tokio::test]
    async fn another_file_and_a_newer_one_are_refused_plainly() {
        let directory = Directory::new();
        let fault = || match SqliteView::open(directory.file()) {
            Err(Error::Corrupt { message }) => message,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("it was opened"),
        };
        drop(SqliteView::open(directory.file()).unwrap());
        let other = Connection::open(directory.file()).unwrap();
        other.pragma_update(None, "user_version", 3).unwrap();
        assert!(fault().contains("made by a newer Headwater (format 3, this one knows 2)"), "{}", fault());
        other.pragma_update(None, "user_version", 2).unwrap();
        drop(SqliteView::open(directory.file()).unwrap());
        other.pragma_update(None, "application_id", 1).unwrap();
        assert!(fault().contains("it is another database"), "{}", fault());
        drop(other);
        std::fs::write(directory.file(), "not a database, and long enough to be looked at ".repeat(100))
            .unwrap();
        assert!(fault().contains("not a database"), "{}", fault());
    }

    #[tokio::test]
    async fn a_file_of_the_first_format_is_brought_up_to_date() {
        // As it was released: what the program makes now may be written otherwise.
        const FIRST: &str = include_str!("golden/sqlite_view_1.sql");
        let directory = Directory::new();
        let shell = Connection::open(directory.file()).unwrap();
        shell.execute_batch(FIRST).unwrap();
        shell
            .execute_batch(
                "UPDATE hw_rollout SET last_revision = 4, version = 9; PRAGMA application_id = 0x48577677; PRAGMA user_version = 1",
            )
            .unwrap();
        let store = SqliteView::open(directory.file()).unwrap();
        let rollout = store.rollout().await.unwrap();
        assert_eq!((rollout.last_revision, rollout.declared), (4, None));
        let declared = Some(Declared { generation: SpecGeneration::default(), digest: "a".to_owned() });
        let after = store.change(rollout.version, &Change::Declare(declared.clone())).await.unwrap();
        assert_eq!(after.declared, declared);
        drop(store);
        let format = shell.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0));
        assert_eq!(format.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_temporary_store_goes_with_its_last_handle() {
        let directory = Directory::new();
        let files = || std::fs::read_dir(directory.0.path()).unwrap().count();
        let store = SqliteView::temporary(directory.0.path()).unwrap();
        store.rollout().await.unwrap();
        let other = store.clone();
        drop(store);
        assert!(files() > 0);
        drop(other);
        assert_eq!(files(), 0);
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_is_named() {
        let directory = Directory::new();
        let error = SqliteView::open(directory.0.path().join("none/view.sqlite")).err().unwrap();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("none/view.sqlite"), "{error}");
    }
}
