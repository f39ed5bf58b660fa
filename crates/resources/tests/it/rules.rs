//! The rules in the CRDs: each compiles against its own schema, and none is there for show.

use headwater_expr::{Expression, Scope, Type};
use headwater_resources::crd;
use serde_json::Value;

fn each_rule(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value, &Value)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        visit(path, schema, rule);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        each_rule(property, &format!("{path}.{name}"), visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            each_rule(&schema[key], &format!("{path}[]"), visit);
        }
    }
}

#[test]
fn every_rule_compiles_against_its_schema_and_says_what_it_wants() {
    let mut rules = 0;
    for definition in crd::definitions() {
        let mut root = definition.schema().clone();
        root["properties"]["metadata"] =
            serde_json::json!({"type": "object", "properties": {"name": {"type": "string"}}});
        each_rule(&root, definition.kind, &mut |path, schema, rule| {
            let source = rule["rule"].as_str().unwrap();
            // `namespace` is a word of CEL; Kubernetes escapes it, and so does the evaluation offline.
            let source_unescaped = source.replace("__namespace__", "namespace_");
            let mut own = schema.clone();
            if let Some(namespace) = own["properties"].get("namespace").cloned() {
                own["properties"]["namespace_"] = namespace;
            }
            let own = Type::from_structural_schema(&own);
            let scope = Scope::new().with("self", own.clone()).with("oldSelf", own);
            if let Err(faults) = Expression::compile_as(&source_unescaped, &scope, &Type::Bool) {
                panic!("{path}: {source}: {faults:?}");
            }
            assert!(rule["message"].as_str().is_some_and(|message| message.len() > 10), "{path}: {source}");
            rules += 1;
        });
    }
    assert!(rules >= 40, "{rules}");
}
