//! Files that are no manifests.

use super::{check, faults};
use crate::manifests::ORDERS;

#[test]
fn yaml() {
    check(
        "kind: EventStream\n",
        "kind: EventStream\nkind: EventStream\n",
        &["orders.yaml:3:1: kind: \"kind\" stands twice here, first in line 2; remove one of them"],
    );
    check(
        "metadata: {name: orders, labels",
        "metadata: {name: orders, labels: {a: no, y: \"1\", b: 0123}, annotations",
        &[
            "orders.yaml:3:38: metadata.labels.a: no without quotes is a boolean for kubectl and other readers of YAML 1.1; quote it: \"no\"",
            "orders.yaml:3:42: metadata.labels.y: y without quotes is a boolean for kubectl and other readers of YAML 1.1; quote it: \"y\"",
            "orders.yaml:3:53: metadata.labels.b: 0123 without quotes is an octal number for kubectl and other readers of YAML 1.1; quote it: \"0123\"",
        ],
    );
    check(
        "spec:\n",
        "spec: [\n",
        &[
            "orders.yaml:6:9: not YAML: while parsing a flow mapping, did not find expected ',' or '}'; correct the syntax here or just before",
        ],
    );
    check(
        "name: orders, labels: {team: orders}",
        "name: orders, labels: {team: !who orders}",
        &["orders.yaml:3:41: the tag !who is not known; leave it out"],
    );
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (before, this) in "abcdefg".chars().zip("bcdefgh".chars()) {
        bomb += &[format!("{this}: &{this} ["), format!("*{before}, ").repeat(10), "]\n".to_owned()].concat();
    }
    assert_eq!(
        faults(&[("bomb.yaml", &bomb)]),
        ["bomb.yaml:1:29: more than 200000 values in one file; use fewer aliases, or several files"]
    );
    let deep = "[".repeat(5_000);
    assert_eq!(
        faults(&[("deep.yaml", &deep)]),
        ["deep.yaml:1:256: not YAML: recursion limit exceeded; correct the syntax here or just before"]
    );
    let steps = "- ".repeat(5_000);
    assert_eq!(faults(&[("deep.yaml", &steps)]), ["deep.yaml:1:131: nested deeper than 64; make it flatter"]);
}

#[test]
fn aliases_that_nest_without_end() {
    let head = "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: x}\nspec:\n  partitions: 1\n  x0: &x0 []\n";
    let levels = (1..70).map(|level| {
        let (open, close) = ("[".repeat(58), "]".repeat(58));
        format!("  x{level}: &x{level} {open}*x{}{close}\n", level - 1)
    });
    let text: String = std::iter::once(head.to_owned()).chain(levels).collect();
    // On a stack as small as that of the thread that reads saved files.
    let read = std::thread::Builder::new().stack_size(1 << 20).spawn(move || faults(&[("deep.yaml", &text)]));
    let faults = read.unwrap().join().unwrap();
    assert!(faults.iter().any(|fault| fault.contains("nested deeper than 64")), "{faults:#?}");
}

#[test]
fn a_long_line_is_read_in_a_moment() {
    let list = vec!["1"; 50_000].join(",");
    let text = format!(
        "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: x}}\nspec: {{partitions: [{list}]}}\n"
    );
    let faults = faults(&[("long.yaml", &text)]);
    assert_eq!(faults, ["long.yaml:4:20: spec.partitions: is a list, but a whole number is needed"]);
}

#[test]
fn kinds_and_names() {
    assert_eq!(
        faults(&[("a.yaml", "kind: EventStream\n")]),
        [
            "a.yaml:1:1: apiVersion: is missing; a resource begins with apiVersion, headwater.dev/v1alpha1 for Headwater's own, and kind"
        ]
    );
    check(
        "headwater.dev/v1alpha1",
        "headwater.dev/v2",
        &[
            "orders.yaml:1:13: apiVersion: this version of Headwater knows no headwater.dev/v2; write headwater.dev/v1alpha1, or use a version that knows it",
        ],
    );
    check(
        "kind: Projection",
        "kind: Projektion",
        &["orders.yaml:22:7: kind: headwater.dev has no kind \"Projektion\"; did you mean \"Projection\"?"],
    );
    assert_eq!(
        faults(&[("a.yaml", ORDERS), ("b.yaml", ORDERS)]),
        [
            "b.yaml:3:18: metadata.name: there is another EventStream \"orders\" at a.yaml:1; rename or remove one of them",
            "b.yaml:23:18: metadata.name: there is another Projection \"orders\" at a.yaml:21; rename or remove one of them"
        ]
    );
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {token: \"not base64!\", port: 80}\n";
    assert_eq!(
        faults(&[("a.yaml", secret)]),
        [
            "a.yaml:4:15: data.token: is no base64; encode it, or put it under stringData as it is",
            "a.yaml:4:36: data.port: is no text; quote it"
        ]
    );
}
