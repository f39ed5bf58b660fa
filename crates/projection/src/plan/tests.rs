use headwater_resources::ProjectionSpec;
use serde_json::{Value, json};

use super::*;

fn spec() -> Value {
    json!({
        "streamRef": {"name": "s"},
        "tables": [
            {"name": "t", "key": ["id"], "columns": [
                {"name": "id", "type": "Text"}, {"name": "sum", "type": "Decimal"}, {"name": "on", "type": "Timestamp"}
            ]},
            {"name": "many", "key": ["id"], "writers": "ManyStreams", "columns": [
                {"name": "id", "type": "Text"}, {"name": "sum", "type": "Decimal", "default": "1.50"}
            ]}
        ],
        "rules": [
            {"events": ["E"], "type": "Upsert", "table": "t", "key": {"id": "event.streamId"}, "set": {"sum": "1"}},
            {"events": ["E"], "type": "Increment", "table": "many", "key": {"id": "event.streamId"}, "by": {"sum": "1"}}
        ]
    })
}

fn compile(spec: Value, partitions: u32) -> Result<Plan, Vec<Fault>> {
    let spec: ProjectionSpec = serde_json::from_value(spec).unwrap();
    Plan::compile(&Definition::new(&spec, &[]), PartitionCount::new(partitions).unwrap())
}

#[test]
fn what_is_wrong_has_a_path_and_a_remedy() {
    fn check(pointer: &str, value: Value, path: &str, part: &str) {
        let mut spec = spec();
        *spec.pointer_mut(pointer).unwrap() = value;
        let faults = compile(spec, 2).unwrap_err();
        assert!(faults.iter().any(|fault| fault.path == path && fault.message.contains(part)), "{faults:#?}");
    }
    check("/rules/0/table", json!("tt"), "rules[0].table", "there is \"t\", \"many\"");
    check("/rules/0/set", json!({"summ": "1"}), "rules[0].set.summ", "there is \"id\", \"sum\", \"on\"");
    check("/rules/0/set", json!({"id": "'a'"}), "rules[0].set.id", "part of the key");
    check("/rules/0/set", json!({"sum": "true"}), "rules[0].set.sum", "gives bool");
    check("/rules/0/set", json!({"sum": "evnt.data"}), "rules[0].set.sum", "evnt");
    check("/rules/0/set", json!({"on": "1"}), "rules[0].set.on", "gives number");
    check("/rules/0/key", json!({"sum": "1"}), "rules[0].key.sum", "not part of the key");
    check("/rules/0/key", json!({"sum": "1"}), "rules[0].key", "\"id\" is missing");
    check("/rules/0/key", json!({"id": "row.id"}), "rules[0].key.id", "row");
    check("/rules/1/by", json!({"id": "1"}), "rules[1].by.id", "only Integer and Decimal");
    check("/rules/1/by", json!({"sum": "row.sum"}), "rules[1].by.sum", "row");
    check("/rules/1/type", json!("Delete"), "rules[1].type", "many streams write");
    check("/rules/0/table", json!("many"), "rules[0].set.sum", "either set or added to");
    check("/tables/0/key", json!(["no"]), "tables[0].key[0]", "no column \"no\"");
    check("/tables/0/name", json!("many"), "tables[1].name", "twice");
    check("/tables/1/columns/1/default", json!("much"), "tables[1].columns[1].default", "no Decimal");
    check("/tables/0/name", json!("hw_t"), "tables[0].name", "kept for");
}

#[test]
fn all_faults_are_shown_at_once() {
    let mut spec = spec();
    spec["rules"][0]["set"] = json!({"sum": "a", "on": "b"});
    let faults = compile(spec, 1).unwrap_err();
    assert_eq!(faults.len(), 2);
    let error = faults_error(&faults).to_string();
    assert!(error.contains("rules[0].set.on") && error.contains("rules[0].set.sum"), "{error}");
}

#[test]
fn who_may_write_follows_from_partitions_and_rules() {
    fn check(partitions: u32, change: impl Fn(&mut Value), expected: [Writers; 2]) {
        let mut spec = spec();
        change(&mut spec);
        let plan = compile(spec, partitions).unwrap();
        assert_eq!([plan.tables[0].writers, plan.tables[1].writers], expected);
    }
    check(1, |_| {}, [Writers::Free, Writers::ManyStreams]);
    check(3, |_| {}, [Writers::OneStream, Writers::ManyStreams]);
    let reads = |spec: &mut Value| spec["rules"][1]["when"] = json!("row == null");
    check(1, reads, [Writers::Free, Writers::Free]);
    let deletes = |spec: &mut Value| {
        spec["rules"][1] =
            json!({"events": ["E"], "type": "Delete", "table": "many", "key": {"id": "event.streamId"}});
    };
    check(1, deletes, [Writers::Free, Writers::Free]);
}

#[test]
fn a_definition_has_a_golden_form() {
    let golden = r#"{"format":1,"tables":[{"name":"t","key":["id"],"columns":[{"name":"id","type":"Text"},{"name":"sum","type":"Decimal"},{"name":"on","type":"Timestamp"}],"writers":"OneStream"},{"name":"many","key":["id"],"columns":[{"name":"id","type":"Text"},{"name":"sum","type":"Decimal","default":"1.50"}],"writers":"ManyStreams"}],"rules":[{"events":["E"],"type":"Upsert","table":"t","key":{"id":"event.streamId"},"set":{"sum":"1"}},{"events":["E"],"type":"Increment","table":"many","key":{"id":"event.streamId"},"by":{"sum":"1"}}]}"#;
    let spec: ProjectionSpec = serde_json::from_value(spec()).unwrap();
    let definition = Definition::new(&spec, &[]);
    assert_eq!(definition.encode().unwrap(), golden);
    assert_eq!(Definition::decode(golden).unwrap(), definition);
    let newer = Definition::decode(&golden.replace("\"format\":1", "\"format\":2")).unwrap_err().to_string();
    assert!(newer.contains("format 2, written by a newer Headwater"), "{newer}");
    assert!(Definition::decode("{}").is_err());
}
