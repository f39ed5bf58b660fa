//! Validation rules of custom resources, as the API server evaluates them, offline.

use headwater_expr::{Expression, Scope, Type, Value, Variables};
use serde_json::{Value as Json, json};

fn check(rule: &str, new: &Json, old: &Json, expected: bool) {
    let scope = Scope::new().with("self", Type::Any).with("oldSelf", Type::Any).with_escaped_names();
    let rule = Expression::compile_as(rule, &scope, &Type::Bool)
        .unwrap_or_else(|faults| panic!("{rule}: {faults:?}"));
    let variables = Variables::new()
        .with("self", Value::try_from(new).unwrap())
        .with("oldSelf", Value::try_from(old).unwrap());
    assert_eq!(rule.evaluate(&variables), Ok(Value::Bool(expected)), "{} on {new}", rule.source());
}

#[test]
fn scalars() {
    check(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self) <= 40",
        &json!("orders"),
        &json!(null),
        true,
    );
    check(
        "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self) <= 40",
        &json!("Orders"),
        &json!(null),
        false,
    );
    check("self >= 1 && self <= 256", &json!(257), &json!(null), false);
    check("self == oldSelf", &json!(3), &json!(3), true);
    check("self == oldSelf", &json!({"a": [1, {"b": "c"}]}), &json!({"a": [1, {"b": "d"}]}), false);
}

#[test]
fn members_by_type() {
    let rule = "self.type == 'SQL' ? !has(self.redis) : has(self.redis)";
    check(rule, &json!({"type": "SQL"}), &json!(null), true);
    check(rule, &json!({"type": "SQL", "redis": {}}), &json!(null), false);
    check(rule, &json!({"type": "Redis"}), &json!(null), false);
    let immutable =
        "has(self.schema) == has(oldSelf.schema) && (!has(self.schema) || self.schema == oldSelf.schema)";
    check(immutable, &json!({}), &json!({}), true);
    check(immutable, &json!({"schema": "a"}), &json!({}), false);
    check(immutable, &json!({"schema": "a"}), &json!({"schema": "a"}), true);
}

#[test]
fn lists_and_maps() {
    let unique = "self.all(a, self.exists_one(b, a.name == b.name))";
    check(unique, &json!([{"name": "a"}, {"name": "b"}]), &json!(null), true);
    check(unique, &json!([{"name": "a"}, {"name": "a"}]), &json!(null), false);
    check(
        "self.tables.all(t, t.key.all(k, t.columns.exists(c, c.name == k)))",
        &json!({"tables": [{"key": ["id"], "columns": [{"name": "id"}]}]}),
        &json!(null),
        true,
    );
    check("self.all(k, !(k in ['on', 'off']) && size(self[k]) > 0)", &json!({"a": "x"}), &json!(null), true);
    check(
        "size(self.rules.map(r, r.type).filter(t, t == 'Increment')) == 1",
        &json!({"rules": [{"type": "Increment"}, {"type": "Upsert"}]}),
        &json!(null),
        true,
    );
    check("oldSelf.all(o, o in self)", &json!(["a", "b"]), &json!(["a"]), true);
}

#[test]
fn escaped_names() {
    let resource = json!({"namespace": "a", "x-y.z/w__v": 1, "_a__b": 2, "__in": 3});
    check("has(self.__namespace__) && self.__namespace__ == 'a'", &resource, &json!(null), true);
    check("self.x__dash__y__dot__z__slash__w__underscores__v == 1", &resource, &json!(null), true);
    check("self._a__b == 2 && self.__in == 3", &resource, &json!(null), true);
}
