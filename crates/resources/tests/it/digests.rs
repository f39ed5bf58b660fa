//! A digest is kept beside the rows for as long as they are: it changes when they would, and never otherwise.

use headwater_resources::digest;

use crate::manifests::{ORDERS, valid};

fn digest_of(text: &str) -> String {
    let manifests = valid(&[("orders.yaml", text)]);
    digest::projection(&manifests.projections[0].spec, &manifests.event_streams[0].spec).to_string()
}

/// Golden: a release that gives another digest rebuilds every read model there is.
#[test]
fn digests_survive_releases() {
    assert_eq!(digest_of(ORDERS), "v1:99053b6b8bed7ae3a08b19e22c6271062ea5913bc9e18695ce2caba4ca468d44");
    let upcast = ORDERS.replace(
        "  - name: OrderApproved\n",
        "  - name: OrderApproved\n    schemaVersion: 3\n    upcast: [{from: 2, set: {b: event.data.a}}, {from: 1, set: {a: \"'x'\"}}]\n",
    );
    assert_eq!(digest_of(&upcast), "v1:66e926b30041bc7f6134a552e2182a8e059a38254f80ffc258e12cf1030ba8e3");
}

#[test]
fn a_digest_changes_with_what_the_rows_depend_on_and_with_nothing_else() {
    fn check(from: &str, to: &str, changes: bool) {
        assert!(ORDERS.contains(from), "{from}");
        let changed = ORDERS.replace(from, to);
        assert_eq!(digest_of(ORDERS) != digest_of(&changed), changes, "{from} -> {to}");
    }
    check("event.data.amount > 0", "event.data.amount > 1", true);
    check("'Approved'", "'Accepted'", true);
    check("default: \"0\"", "default: \"1\"", true);
    check("{name: code, type: Text}", "{name: code, type: Json}", true);
    check("indexes: [{columns: [status, created_on]}]", "indexes: [{columns: [status]}]", true);
    check("  tables:\n", "  rebuildToken: again\n  tables:\n", true);
    check("  tables:\n", "  sink: {sql: {schema: elsewhere}}\n  tables:\n", true);
    check(
        "  - name: OrderApproved\n",
        "  - name: OrderApproved\n    schemaVersion: 2\n    upcast: [{from: 1, set: {a: \"1\"}}]\n",
        true,
    );

    check("name: created\n", "name: made\n", false);
    check("  tables:\n", "  sink: {type: SQL}\n  tables:\n", false);
    check(
        "  tables:\n",
        "  replicas: 3\n  onError: {policy: Halt}\n  rollout: {maxLag: 5}\n  tables:\n",
        false,
    );
    check("as: item, ", "", false);
    check("    key: [order_id]\n", "    writers: OneStream\n    key: [order_id]\n", false);
    check("{type: number}", "{type: number, minimum: 0}", false);
    check(
        "  - name: OrderApproved\n",
        "  - name: OrderApproved\n  - name: Other\n    schemaVersion: 2\n    upcast: [{from: 1, set: {a: \"1\"}}]\n",
        false,
    );
    check(
        "    set: {amount: event.data.amount, status: \"'Pending'\", created_on: event.time}",
        "    set: {status: \"'Pending'\", created_on: event.time, amount: event.data.amount}",
        false,
    );
}
