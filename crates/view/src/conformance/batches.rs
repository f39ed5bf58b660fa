//! A batch and its checkpoint.

#[allow(clippy::wildcard_imports, reason = "one suite in several files")]
use super::*;

/// Rows, checkpoint and parked events come together, and a refused batch leaves nothing.
pub async fn a_batch_takes_effect_as_a_whole(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    assert_eq!(position(&*store, revision, P0).await, 0);
    assert_eq!(position(&*store, revision, P1).await, 10, "a partition begins where the rollout starts");

    let written = store
        .apply(batch(revision, P0, 0, 3, vec![write("a", "1.50", None), write("b", "2", None)]).into())
        .await
        .unwrap();
    let loaded =
        load(&*store, revision, 0, vec![key([text("b")]), key([text("none")]), key([text("a")])]).await;
    let expected = |row: Row| Some((RowState::Live(row), RowVersion(written.version)));
    assert_eq!(loaded, [expected(order("b", "2", "s")), None, expected(order("a", "1.50", "s"))]);
    assert_eq!(position(&*store, revision, P0).await, 3);

    // The second row's version is wrong, so neither the first row nor the checkpoint changes.
    let version = Some(RowVersion(written.version));
    let refused = batch(
        revision,
        P0,
        3,
        5,
        vec![write("a", "9", version), write("b", "9", None), write("c", "9", None)],
    );
    assert!(matches!(store.apply(Arc::new(refused)).await, Err(ApplyError::Conflict { .. })));
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [expected(order("a", "1.50", "s"))]);
    assert_eq!(load(&*store, revision, 0, vec![key([text("c")])]).await, [None]);
    assert_eq!(position(&*store, revision, P0).await, 3);

    let removal = RowWrite { table: 0, key: key([text("a")]), expected: version, state: None };
    store.apply(batch(revision, P0, 3, 4, vec![removal]).into()).await.unwrap();
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [None]);
}

/// Many workers at one position: one of them moves it, the others are told where it is.
pub async fn of_two_batches_for_one_position_one_is_applied(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    for round in 0..10_u64 {
        let tasks: Vec<_> = (0..8)
            .map(|worker| {
                let store = store.clone();
                let rows = vec![write(&format!("{round}-{worker}"), "1", None)];
                tokio::spawn(
                    async move { store.apply(batch(revision, P0, round, round + 1, rows).into()).await },
                )
            })
            .collect();
        let mut applied = 0;
        for task in tasks {
            match task.await.expect("no panic") {
                Ok(_) => applied += 1,
                Err(ApplyError::Checkpoint { found }) => assert_eq!(found.get(), round + 1),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(applied, 1);
    }
    assert_eq!(ids(&*store, &all(revision, 0)).await.len(), 10);
    let behind = batch(revision, P0, 3, 4, vec![]);
    assert!(
        matches!(store.apply(Arc::new(behind)).await, Err(ApplyError::Checkpoint { found }) if found.get() == 10)
    );
}

/// A row changed since it was loaded refuses the batch, whichever way it was changed.
pub async fn a_changed_row_refuses_the_batch(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let first = store.apply(batch(revision, P0, 0, 1, vec![write("a", "1", None)]).into()).await.unwrap();
    let second = store
        .apply(batch(revision, P1, 10, 11, vec![write("a", "2", Some(RowVersion(first.version)))]).into())
        .await
        .unwrap();
    assert!(second.version > first.version);
    for expected in [None, Some(RowVersion(first.version)), Some(RowVersion(second.version + 1))] {
        for state in [
            Some(RowState::Live(order("a", "3", "s"))),
            Some(RowState::Deleted { writer: stream("s") }),
            None,
        ] {
            let write = RowWrite { table: 0, key: key([text("a")]), expected, state };
            let refused = store.apply(batch(revision, P0, 1, 2, vec![write]).into()).await;
            assert!(matches!(refused, Err(ApplyError::Conflict { .. })), "{expected:?} gave {refused:?}");
        }
    }
    let absent = RowWrite { table: 0, key: key([text("none")]), expected: Some(RowVersion(1)), state: None };
    assert!(matches!(
        store.apply(batch(revision, P0, 1, 2, vec![absent]).into()).await,
        Err(ApplyError::Conflict { .. })
    ));
}

/// A version never comes again, not even after the row was removed.
pub async fn a_row_made_again_is_another_row(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let first = store.apply(batch(revision, P0, 0, 1, vec![write("a", "1", None)]).into()).await.unwrap();
    let removal =
        RowWrite { table: 0, key: key([text("a")]), expected: Some(RowVersion(first.version)), state: None };
    store.apply(batch(revision, P0, 1, 2, vec![removal]).into()).await.unwrap();
    store.apply(batch(revision, P0, 2, 3, vec![write("a", "1", None)]).into()).await.unwrap();
    let old = batch(revision, P0, 3, 4, vec![write("a", "2", Some(RowVersion(first.version)))]);
    assert!(matches!(store.apply(Arc::new(old)).await, Err(ApplyError::Conflict { .. })));
}

/// What is read is what was written, to the digit, the microsecond and the byte.
pub async fn every_cell_is_kept_exactly(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let columns: [Vec<Cell>; 5] = [
        vec![Cell::Integer(i64::MIN), Cell::Integer(i64::MAX), Cell::Integer(0), Cell::Null],
        ["0", "-0.00", "1.50", "79228162514264337593543950335", "-0.0000000000000000000000000001", "100.000"]
            .map(decimal)
            .to_vec(),
        vec![Cell::Boolean(true), Cell::Boolean(false), Cell::Null],
        [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "2026-02-28T12:00:00.000001Z",
            "9999-12-30T21:59:59.999999Z",
        ]
        .map(|text| Cell::timestamp(text.parse().expect("a moment")).expect("in range"))
        .to_vec(),
        vec![
            Cell::Json("{\"a\":[1.10,null,\"\u{e9}\"]}".into()),
            Cell::Json("\"\"".into()),
            Cell::Json("null".into()),
            Cell::Null,
        ],
    ];
    let names =
        ["", "plain", "\u{1F3E6} \u{e9} \u{65}\u{301}", "quote ' \" ; -- %", "nul \0 inside", "new\nline"];
    let mut rows = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut cells = vec![text(name)];
        cells.extend(columns.iter().map(|column| column[number % column.len()].clone()));
        rows.push(Row { cells, writer: Some(stream(&format!("w-{number}"))), stamps: vec![] });
    }
    let writes = rows.iter().map(|row| RowWrite {
        table: 0,
        key: key([row.cells[0].clone()]),
        expected: None,
        state: Some(RowState::Live(row.clone())),
    });
    store.apply(batch(revision, P0, 0, 1, writes.collect()).into()).await.unwrap();
    let store = place.open().await;
    let loaded =
        load(&*store, revision, 0, rows.iter().map(|row| key([row.cells[0].clone()])).collect()).await;
    for (row, loaded) in rows.iter().zip(loaded) {
        let Some((RowState::Live(found), _)) = loaded else { panic!("{row:?} is gone") };
        assert_eq!(found.writer, row.writer);
        // Equality of cells is by value; the spelling must be kept too.
        let spelling =
            |row: &Row| row.cells.iter().map(|cell| format!("{cell:?} {cell}")).collect::<Vec<_>>();
        assert_eq!(spelling(&found), spelling(row));
    }
    let queried = store.query(&all(revision, 0)).await.unwrap().rows;
    assert_eq!(queried.len(), rows.len());
    for row in &rows {
        assert!(queried.contains(&row.cells), "{row:?}");
    }
}

/// Who writes a row, and when each column was set, comes back; a deleted row is seen by nobody but its writer.
pub async fn writers_and_stamps_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let stamp = Stamp {
        recorded_at: "2026-01-01T00:00:00.000001Z".parse().expect("a moment"),
        partition: P1,
        position: 9,
    };
    let total = Row {
        cells: vec![text("mon"), text("x"), decimal("5")],
        writer: None,
        stamps: vec![None, Some(stamp), None],
    };
    let written = store
        .apply(
            batch(
                revision,
                P0,
                0,
                1,
                vec![
                    RowWrite {
                        table: 0,
                        key: key([text("gone")]),
                        expected: None,
                        state: Some(RowState::Deleted { writer: stream("w") }),
                    },
                    RowWrite {
                        table: 1,
                        key: key([text("mon")]),
                        expected: None,
                        state: Some(RowState::Live(total.clone())),
                    },
                ],
            )
            .into(),
        )
        .await
        .unwrap();
    let version = RowVersion(written.version);
    assert_eq!(
        load(&*store, revision, 0, vec![key([text("gone")])]).await,
        [Some((RowState::Deleted { writer: stream("w") }, version))]
    );
    assert_eq!(
        load(&*store, revision, 1, vec![key([text("mon")])]).await,
        [Some((RowState::Live(total), version))]
    );
    assert!(ids(&*store, &all(revision, 0)).await.is_empty());
    // It lives again, and is deleted again.
    let again =
        store.apply(batch(revision, P0, 1, 2, vec![write("gone", "1", Some(version))]).into()).await.unwrap();
    assert_eq!(ids(&*store, &all(revision, 0)).await, ["gone"]);
    let deleted = RowWrite {
        table: 0,
        key: key([text("gone")]),
        expected: Some(RowVersion(again.version)),
        state: Some(RowState::Deleted { writer: stream("w") }),
    };
    store.apply(batch(revision, P0, 2, 3, vec![deleted]).into()).await.unwrap();
    assert!(ids(&*store, &all(revision, 0)).await.is_empty());
}
