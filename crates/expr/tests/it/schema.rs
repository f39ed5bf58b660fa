//! Types from JSON Schemas.

use headwater_expr::{Expression, Scope, Type};
use serde_json::{Value as Json, json};

fn check(schema: &Json, expected: &Type) {
    assert_eq!(&Type::from_json_schema(schema), expected, "{schema}");
}

#[test]
fn scalars() {
    check(&json!({"type": "string"}), &Type::Text);
    check(&json!({"type": "string", "format": "date-time"}), &Type::Text);
    check(&json!({"type": "integer"}), &Type::Number);
    check(&json!({"type": ["integer", "number"]}), &Type::Number);
    check(&json!({"type": "boolean"}), &Type::Bool);
    check(&json!({"type": "null"}), &Type::Null);
    check(&json!({"type": ["string", "null"]}), &Type::nullable(Type::Text));
    check(&json!({"type": ["string", "integer"]}), &Type::Any);
    check(&json!({"type": "string", "nullable": true}), &Type::nullable(Type::Text));
    check(&json!({"enum": ["a", "b"]}), &Type::Text);
    check(&json!({"enum": ["a", null]}), &Type::nullable(Type::Text));
    check(&json!({"enum": ["a", 1]}), &Type::Any);
    check(&json!({"const": 5}), &Type::Number);
    check(&json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), &Type::nullable(Type::Text));
    check(&json!({"anyOf": [{"type": "string"}, {"type": "number"}]}), &Type::Any);
    check(&json!({"allOf": [{"type": "string"}]}), &Type::Any);
    check(&json!({}), &Type::Any);
    check(&json!(true), &Type::Any);
    check(&json!({"type": "nonsense"}), &Type::Any);
    check(&json!({"x-kubernetes-int-or-string": true, "type": "string"}), &Type::Any);
}

#[test]
fn structures() {
    check(&json!({"type": "array", "items": {"type": "string"}}), &Type::list(Type::Text));
    check(&json!({"type": "array"}), &Type::list(Type::Any));
    check(&json!({"type": "object"}), &Type::map(Type::Any));
    check(&json!({"type": "object", "additionalProperties": {"type": "number"}}), &Type::map(Type::Number));
    check(&json!({"properties": {"a": {"type": "string"}}}), &Type::open_object([("a", Type::Text)]));
    check(
        &json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
        &Type::object([("a", Type::Text)]),
    );
    check(
        &json!({"type": "object", "additionalProperties": false, "patternProperties": {"^x": {}}}),
        &Type::map(Type::Any),
    );
}

#[test]
fn references_within_the_document() {
    check(
        &json!({"$ref": "#/$defs/order", "$defs": {
            "order": {"type": "object", "properties": {"id": {"$ref": "#/$defs/a~1b"}}, "additionalProperties": false},
            "a/b": {"type": "string"}
        }}),
        &Type::object([("id", Type::Text)]),
    );
    check(&json!({"$ref": "#/nowhere"}), &Type::Any);
    check(&json!({"$ref": "https://example.com/schema"}), &Type::Any);
    check(
        &json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}),
        &Type::list(Type::Any),
    );
}

#[test]
fn schemas_that_grow_when_followed_are_read_quickly() {
    let mut definitions = serde_json::Map::new();
    for level in 0..200 {
        let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
        definitions.insert(format!("d{level}"), json!({"properties": {"a": next, "b": next}}));
    }
    let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
    assert!(matches!(Type::from_json_schema(&schema), Type::Object(_)));
}

#[test]
fn structural_schemas_are_closed() {
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}
    }});
    let scope = Scope::new().with("self", Type::from_structural_schema(&schema));
    let faults =
        |source: &str| Expression::compile(source, &scope).err().map(|faults| faults[0].message.clone());
    assert_eq!(faults("self.free.x.y == 1 && self.labels.app.startsWith('a')"), None);
    assert_eq!(faults("has(self.nam)"), Some("`self` has no field `nam`; did you mean `name`?".to_owned()));
    assert_eq!(
        faults("self.labels.app + 1").map(|message| message.starts_with("`+` does not take text")),
        Some(true)
    );
}
