//! Queries and snapshots.

#[allow(clippy::wildcard_imports, reason = "one suite in several files")]
use super::*;

/// Rows come in the order asked for, nulls first, and page by page without loss or repeat.
pub async fn rows_are_filtered_ordered_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let at = |second| Cell::timestamp(at(second)).expect("in range");
    let rows = [
        ("a", Cell::Integer(2), true, at(5)),
        ("b", Cell::Integer(1), true, Cell::Null),
        ("c", Cell::Integer(2), false, at(3)),
        ("d", Cell::Null, true, at(5)),
        ("e", Cell::Integer(-1), true, Cell::Null),
        ("f", Cell::Null, true, at(4)),
    ];
    let writes = rows.iter().map(|(id, number, paid, at)| {
        let cells =
            vec![text(id), number.clone(), decimal("1"), Cell::Boolean(*paid), at.clone(), Cell::Null];
        RowWrite {
            table: 0,
            key: key([text(id)]),
            expected: None,
            state: Some(RowState::Live(Row { cells, writer: Some(stream("s")), stamps: vec![] })),
        }
    });
    store.apply(batch(revision, P0, 0, 1, writes.collect()).into()).await.unwrap();

    let schema = &tables()[0];
    let by =
        |column: &str, descending| Order { column: schema.column(column).expect("a column"), descending };
    let check = async |filter: Vec<(usize, Cell)>, order: &[Order], expected: &[&str]| {
        let mut query = Query { filter, order: Query::total_order(schema, order), ..all(revision, 0) };
        assert_eq!(ids(&*store, &query).await, expected, "{order:?}");
        for limit in 1..=3 {
            query.limit = limit;
            query.after = None;
            let mut seen = Vec::new();
            loop {
                let answer = store.query(&query).await.expect("an answer");
                seen.extend(answer.rows.iter().map(|row| row[0].to_string()));
                if !answer.more {
                    break;
                }
                assert_eq!(answer.rows.len(), limit);
                query.after = answer.rows.last().map(|row| query.cursor(row));
            }
            assert_eq!(seen, expected, "{order:?} in pages of {limit}");
        }
    };
    check(vec![], &[], &["a", "b", "c", "d", "e", "f"]).await;
    check(vec![], &[by("id", true)], &["f", "e", "d", "c", "b", "a"]).await;
    check(vec![], &[by("number", false)], &["d", "f", "e", "b", "a", "c"]).await;
    check(vec![], &[by("number", true), by("id", true)], &["c", "a", "b", "e", "f", "d"]).await;
    check(vec![], &[by("at", false), by("number", true)], &["b", "e", "c", "f", "a", "d"]).await;
    check(vec![], &[by("at", true)], &["a", "d", "f", "c", "b", "e"]).await;
    check(vec![(3, Cell::Boolean(true))], &[by("number", false)], &["d", "f", "e", "b", "a"]).await;
    check(vec![(1, Cell::Null)], &[], &["d", "f"]).await;
    check(vec![(1, Cell::Integer(2)), (3, Cell::Boolean(false))], &[], &["c"]).await;
    check(vec![(4, at(5))], &[by("id", true)], &["d", "a"]).await;
    check(vec![(0, text("A"))], &[], &[]).await;

    let refuse = async |query: Query, name: &str| match store.query(&query).await {
        Err(QueryError::Failed(headwater_core::Error::Invalid { field, .. })) => assert_eq!(field, name),
        other => panic!("{other:?}"),
    };
    refuse(Query { filter: vec![(5, Cell::Null)], ..all(revision, 0) }, "extra").await;
    refuse(Query { filter: vec![(1, text("2"))], ..all(revision, 0) }, "number").await;
    refuse(Query { order: Query::total_order(schema, &[by("extra", false)]), ..all(revision, 0) }, "extra")
        .await;
    refuse(Query { after: Some(vec![]), ..all(revision, 0) }, "after").await;
}

/// 9 is less than 10, and 1.5 is 1.50, whatever their text.
pub async fn decimals_are_compared_as_numbers(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let amounts = [
        "10",
        "9",
        "-1.5",
        "1.50",
        "1.5",
        "0",
        "-10",
        "0.0000000000000000000000000001",
        "79228162514264337593543950335",
    ];
    let rows = amounts.iter().enumerate().map(|(number, amount)| write(&format!("{number}"), amount, None));
    store.apply(batch(revision, P0, 0, 1, rows.collect()).into()).await.unwrap();
    let schema = &tables()[0];
    let ascending = Query {
        order: Query::total_order(schema, &[Order { column: 2, descending: false }]),
        ..all(revision, 0)
    };
    assert_eq!(ids(&*store, &ascending).await, ["6", "2", "5", "7", "3", "4", "1", "0", "8"]);
    let after = Query { after: Some(vec![decimal("1.500"), text("3")]), ..ascending };
    assert_eq!(ids(&*store, &after).await, ["4", "1", "0", "8"]);
    let equal = Query { filter: vec![(2, decimal("1.500"))], ..all(revision, 0) };
    assert_eq!(ids(&*store, &equal).await, ["3", "4"]);

    // As keys, equal decimals are one row.
    let line = |amount: &str, from: &str, expected| RowWrite {
        table: 2,
        key: key([decimal(amount), Cell::Integer(1)]),
        expected,
        state: Some(RowState::Live(Row {
            cells: vec![decimal(amount), Cell::Integer(1), text(from)],
            writer: None,
            stamps: vec![],
        })),
    };
    let written = store.apply(batch(revision, P0, 1, 2, vec![line("1.50", "x", None)]).into()).await.unwrap();
    let again = vec![
        line("1.5", "y", Some(RowVersion(written.version))),
        line("10", "z", None),
        line("9", "z", None),
    ];
    store.apply(batch(revision, P0, 2, 3, again).into()).await.unwrap();
    let rows = store.query(&all(revision, 2)).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row[2].to_string()).collect::<Vec<_>>(), ["y", "z", "z"]);
    let one = Query {
        active: false,
        ..Query::by_key(revision, 2, &tables()[2], &key([decimal("1.5000"), Cell::Integer(1)]))
    };
    assert_eq!(store.query(&one).await.unwrap().rows.len(), 1);
}

/// While a worker writes, every answer's rows are exactly those of its positions.
pub async fn an_answer_is_of_one_snapshot(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    promote(&*store, revision).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut version = None;
            for position in 0..200_u64 {
                let rows = vec![
                    write("counter", &(position + 1).to_string(), version),
                    write(&format!("r{position}"), "0", None),
                ];
                let written = store
                    .apply(batch(revision, P0, position, position + 1, rows).into())
                    .await
                    .expect("a write");
                version = Some(RowVersion(written.version));
            }
        })
    };
    let query = Query { active: true, limit: 1_000, ..all(revision, 0) };
    loop {
        let done = writer.is_finished();
        let answer = store.query(&query).await.expect("an answer");
        let position = answer.positions.get(P0).get();
        assert_eq!(answer.rows.len() as u64, if position == 0 { 0 } else { position + 1 });
        if position > 0 {
            let counter = answer.rows.iter().find(|row| row[0] == text("counter")).expect("a counter");
            assert_eq!(counter[2], decimal(&position.to_string()));
        }
        assert_eq!(answer.positions.get(P1).get(), 10);
        if done {
            break;
        }
    }
    writer.await.expect("no panic");
}
