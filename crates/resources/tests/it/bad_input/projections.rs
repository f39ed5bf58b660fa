//! Projections whose tables and rules do not go together.

use super::{check, faults};
use crate::manifests::ORDERS;

#[test]
fn columns() {
    check(
        "default: \"0\"",
        "default: none",
        &[
            "orders.yaml:31:46: spec.tables[0].columns[1].default: \"none\" is no Decimal; write a decimal of at most 28 digits, for example \"0.00\"",
        ],
    );
    check(
        "{name: status, type: Text}",
        "{name: amount, type: Text}",
        &[
            "orders.yaml:32:14: spec.tables[0].columns[2].name: \"amount\" is also the name of spec.tables[0].columns[1]; give each its own",
            "orders.yaml:34:26: spec.tables[0].indexes[0].columns[0]: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"amount\", \"created_on\"",
            "orders.yaml:45:38: spec.rules[0].set.status: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"amount\", \"created_on\"",
            "orders.yaml:56:11: spec.rules[2].set.status: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"amount\", \"created_on\"",
        ],
    );
    check(
        "{name: status, type: Text}",
        "{name: hw_status, type: Text}",
        &[
            "orders.yaml:32:14: spec.tables[0].columns[2].name: names that begin with \"hw_\" are Headwater's own; call it something else",
            "orders.yaml:34:26: spec.tables[0].indexes[0].columns[0]: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"hw_status\", \"created_on\"",
            "orders.yaml:45:38: spec.rules[0].set.status: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"hw_status\", \"created_on\"",
            "orders.yaml:56:11: spec.rules[2].set.status: the table \"orders\" has no column \"status\"; there is \"order_id\", \"amount\", \"hw_status\", \"created_on\"",
        ],
    );
    check(
        "{name: created_on,",
        "{name: limit,",
        &[
            "orders.yaml:33:14: spec.tables[0].columns[3].name: \"limit\" is a parameter of every query, so rows could not be looked for by it; call it something else",
            "orders.yaml:34:34: spec.tables[0].indexes[0].columns[1]: the table \"orders\" has no column \"created_on\"; there is \"order_id\", \"amount\", \"status\", \"limit\"",
            "orders.yaml:45:59: spec.rules[0].set.created_on: the table \"orders\" has no column \"created_on\"; there is \"order_id\", \"amount\", \"status\", \"limit\"",
        ],
    );
    for name in ["r1_items", "sqlite_items"] {
        let faults = faults(&[(
            "orders.yaml",
            &ORDERS.replacen("- name: order_items", &format!("- name: {name}"), 1),
        )]);
        let reserved = "spec.tables[1].name: names such as \"r1_…\" and \"sqlite_…\" are for tables that Headwater and databases make themselves; call it something else";
        assert!(faults[0].ends_with(reserved), "{faults:#?}");
    }
    check(
        "{name: order_id, type: Text}",
        "{name: order_id, type: Json}",
        &[
            "orders.yaml:28:11: spec.tables[0].key[0]: the column \"order_id\" is Json, which cannot identify a row; use Text, Integer, Decimal, Boolean or Timestamp",
        ],
    );
    check(
        "set: {amount:",
        "set: {order_id: \"'x'\", amount:",
        &[
            "orders.yaml:45:11: spec.rules[0].set.order_id: the column \"order_id\" is part of the key, which says which row it is; remove it here",
        ],
    );
    check(
        "    type: Update\n    table: orders\n    key: {order_id: event.data.order_id}\n    set: {status: \"'Approved'\"}",
        "    type: Increment\n    table: orders\n    key: {order_id: event.data.order_id}\n    by: {amount: \"1\", status: \"1\"}",
        &[
            "orders.yaml:56:10: spec.rules[2].by.amount: the column \"amount\" is set by spec.rules[0] and incremented here; a column is either set or incremented; let it begin at its default, or keep what is added in another column",
            "orders.yaml:56:23: spec.rules[2].by.status: the column \"status\" is Text, which cannot be added to; make it Integer or Decimal",
            "orders.yaml:56:23: spec.rules[2].by.status: the column \"status\" is set by spec.rules[0] and incremented here; a column is either set or incremented; let it begin at its default, or keep what is added in another column",
        ],
    );
}

#[test]
fn many_streams_over_several_partitions() {
    let several = ORDERS.replacen("  database:\n", "  partitions: 3\n  database:\n", 1).replacen(
        "    key: [order_id]\n",
        "    writers: ManyStreams\n    key: [order_id]\n",
        1,
    );
    assert_eq!(
        faults(&[("orders.yaml", &several)]),
        [
            "orders.yaml:55:11: spec.rules[2].type: Update is not possible in the table \"orders\", whose rows are written from many streams: their order over partitions is not defined; use Upsert or Increment, or declare writers: OneStream and a key that holds to one stream id"
        ]
    );
    let reads = several.replace("'Approved'", "row.status");
    assert_eq!(
        faults(&[("orders.yaml", &reads)]),
        [
            "orders.yaml:55:11: spec.rules[2].type: Update is not possible in the table \"orders\", whose rows are written from many streams: their order over partitions is not defined; use Upsert or Increment, or declare writers: OneStream and a key that holds to one stream id",
            "orders.yaml:58:19: spec.rules[2].set.status: row cannot be read in the table \"orders\", whose rows are written from many streams: their order over partitions is not defined; use the event alone, or declare writers: OneStream"
        ]
    );
    let single = several.replace("  partitions: 3\n", "");
    assert_eq!(faults(&[("orders.yaml", &single)]), [""; 0]);
}
