//! Queries: as the plainest store answers them, and refused where they would hold Redis up.

use std::sync::Arc;

use headwater_core::Error;
use headwater_redis::RedisView;
use headwater_testkit::redis::Redis;
use headwater_view::{
    Cell, Column, ColumnType, Index, Key, MemoryView, Order, Query, QueryError, Revision, Row, RowState,
    RowVersion, RowWrite, TableSchema, ViewReader, ViewStore, Writers,
};
use proptest::prelude::*;

use crate::support::{accounts, batch, create, text, write};

/// A key of two columns, and indexes that overlap it and each other.
fn lines() -> TableSchema {
    let column = |name: &str, column_type| Column::new(name, column_type, Cell::Null);
    TableSchema {
        name: "lines".into(),
        columns: vec![
            column("order", ColumnType::Text),
            column("line", ColumnType::Integer),
            column("amount", ColumnType::Decimal),
            column("paid", ColumnType::Boolean),
            column("note", ColumnType::Text),
        ],
        key: vec![0, 1],
        indexes: vec![
            Index { columns: vec![2] },
            Index { columns: vec![3, 2] },
            Index { columns: vec![4, 1, 3] },
        ],
        writers: Writers::Free,
    }
}

fn cell(column: usize, number: u32) -> Cell {
    // Few values, so that many rows are equal somewhere; some are null, but not in the key.
    match (column, number % 5) {
        (0, number) => text(["", "a", "a/b", "a\0", "b"][number as usize]),
        (1, number) => Cell::Integer(i64::from(number) - 2),
        (_, 0) => Cell::Null,
        (2, number) => Cell::Decimal(["1.5", "1.50", "-0.00", "-12"][number as usize - 1].parse().unwrap()),
        (3, number) => Cell::Boolean(number > 2),
        (_, number) => text(["x", "y", "y\u{0}", "\u{e9}"][number as usize - 1]),
    }
}

fn cells(seed: u32) -> Vec<Cell> {
    (0..5).map(|column| cell(column, seed / 5_u32.pow(column as u32))).collect()
}

async fn ids(store: &dyn ViewStore, query: &Query) -> Vec<Vec<String>> {
    let answer = store.query(query).await.expect("an answer");
    answer.rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
}

#[derive(Debug, Clone)]
struct Asked {
    filter: Vec<(usize, u32)>,
    order: Vec<(usize, bool)>,
    after: Option<u32>,
    limit: usize,
}

fn asked() -> impl Strategy<Value = Asked> {
    let filter = prop::collection::btree_map(0..5_usize, 0..5_u32, 0..3);
    let one_way = any::<bool>().prop_flat_map(|way| {
        prop::collection::vec((0..5_usize, prop_oneof![4 => Just(way), 1 => any::<bool>()]), 0..5)
    });
    (filter, one_way, prop::option::of(0..3125_u32), 1..9_usize).prop_map(|(filter, order, after, limit)| {
        let mut seen = std::collections::HashSet::new();
        let order = order.into_iter().filter(|(column, _)| seen.insert(*column)).collect();
        Asked { filter: filter.into_iter().collect(), order, after, limit }
    })
}

fn query(revision: Revision, asked: &Asked) -> Query {
    let order: Vec<Order> = asked
        .order
        .iter()
        .map(|(column, descending)| Order { column: *column, descending: *descending })
        .collect();
    let order = Query::total_order(&lines(), &order);
    let after = asked.after.map(|seed| {
        let row = cells(seed);
        order.iter().map(|order| row[order.column].clone()).collect()
    });
    Query {
        revision,
        active: false,
        table: 0,
        filter: asked.filter.iter().map(|(column, number)| (*column, cell(*column, *number))).collect(),
        order,
        after,
        limit: asked.limit,
    }
}

/// Writes the rows, then writes some of them anew and removes others, in both stores.
async fn fill(store: &dyn ViewStore, seeds: &[u32]) -> Revision {
    let revision = create(store, "a", vec![lines()]).await;
    let mut known: std::collections::HashMap<Key, RowVersion> = std::collections::HashMap::new();
    for (position, seeds) in seeds.chunks(20).enumerate() {
        let mut rows: Vec<RowWrite> = Vec::new();
        for (number, seed) in seeds.iter().enumerate() {
            let cells = cells(*seed);
            let key = lines().key_of(&cells);
            if rows.iter().any(|row| row.key == key) {
                continue;
            }
            let is_there = known.contains_key(&key);
            let state = (!is_there || number % 4 > 0)
                .then(|| RowState::Live(Row { cells, writer: None, stamps: vec![] }));
            rows.push(RowWrite { table: 0, expected: known.get(&key).copied(), key, state });
        }
        let position = position as u64;
        let written = store.apply(batch(revision, position, position + 1, rows.clone())).await.unwrap();
        for row in rows {
            match row.state {
                Some(_) => known.insert(row.key, RowVersion(written.version)),
                None => known.remove(&row.key),
            };
        }
    }
    revision
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn redis_answers_as_memory_does(
        seeds in prop::collection::vec(0..3125_u32, 1..90),
        questions in prop::collection::vec(asked(), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Redis::shared().unwrap();
            let redis = RedisView::open(&server.url(), &Redis::prefix(), "lines").await.unwrap();
            let memory = MemoryView::new();
            let (of_redis, of_memory) = (fill(&redis, &seeds).await, fill(&memory, &seeds).await);
            for asked in &questions {
                let mut wanted = query(of_memory, asked);
                let mut found = query(of_redis, asked);
                assert_eq!(ids(&redis, &found).await, ids(&memory, &wanted).await, "{asked:?}");
                // And on from there, page by page.
                loop {
                    let (a, b) = (redis.query(&found).await.unwrap(), memory.query(&wanted).await.unwrap());
                    assert_eq!((&a.rows, a.more), (&b.rows, b.more), "{asked:?}");
                    let Some(last) = b.rows.last().filter(|_| b.more) else { break };
                    wanted.after = Some(wanted.cursor(last));
                    found.after.clone_from(&wanted.after);
                }
            }
        });
    }
}

#[tokio::test]
async fn what_would_hold_redis_up_is_refused_and_says_which_index_to_declare() {
    let server = Redis::shared().unwrap();
    let store: Arc<dyn ViewStore> =
        Arc::new(RedisView::open(&server.url(), &Redis::prefix(), "accounts").await.unwrap());
    let revision = create(&*store, "a", vec![accounts()]).await;
    for chunk in 0..11_u32 {
        let row = |number: u32| {
            let number = chunk * 1000 + number;
            let cells = vec![
                text(&format!("{number:05}")),
                text(&(number % 3).to_string()),
                Cell::Decimal((number / 10).into()),
                Cell::Null,
                Cell::Null,
                Cell::Null,
            ];
            write(cells, None)
        };
        let position = u64::from(chunk);
        store.apply(batch(revision, position, position + 1, (0..1000).map(row).collect())).await.unwrap();
    }
    let schema = accounts();
    let by = |column: &str, descending| Order { column: schema.column(column).unwrap(), descending };
    let query = |filter: Vec<(usize, Cell)>, order: &[Order]| Query {
        revision,
        active: false,
        table: 0,
        filter,
        order: Query::total_order(&schema, order),
        after: None,
        limit: 10,
    };
    let first = async |query: Query| store.query(&query).await.unwrap().rows[0][0].to_string();
    let balance = |number: i64| (2, Cell::Decimal(number.into()));

    // By key, by an index, both ways, however many rows there are.
    assert_eq!(first(query(vec![], &[])).await, "00000");
    assert_eq!(first(query(vec![], &[by("id", true)])).await, "10999");
    assert_eq!(first(query(vec![], &[by("balance", false)])).await, "00000");
    assert_eq!(first(query(vec![], &[by("balance", true), by("id", true)])).await, "10999");
    assert_eq!(first(query(vec![balance(700)], &[])).await, "07000");
    // An index narrows it down, and the rest is looked at.
    assert_eq!(first(query(vec![balance(700), (1, text("2"))], &[by("name", false)])).await, "07001");

    let refused = async |query: Query, column: &str, remedy: &str| match store.query(&query).await {
        Err(QueryError::Failed(Error::Invalid { field, message })) => {
            assert_eq!(field, column);
            assert!(message.contains(remedy), "{message}");
        }
        other => panic!("{other:?}"),
    };
    refused(
        query(vec![], &[by("name", false)]),
        "name",
        "declare an index of table \"accounts\" with columns: [name]",
    )
    .await;
    refused(query(vec![], &[by("balance", true)]), "balance", "all in one direction").await;
    refused(query(vec![(1, text("none"))], &[]), "name", "filtering on it").await;
    refused(query(vec![(1, text("1"))], &[by("balance", true)]), "balance", "with columns: [name, balance]")
        .await;

    // A page has an end, whatever is asked for.
    let whole = store.query(&Query { limit: usize::MAX >> 1, ..query(vec![], &[]) }).await.unwrap();
    assert_eq!((whole.rows.len(), whole.more), (10_000, true));
}
