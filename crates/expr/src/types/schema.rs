//! Types from JSON Schemas.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{ObjectType, Type};

/// Deeper than this, a schema is not looked into.
const MAX_DEPTH: usize = 64;

/// Schemas with more parts than this, each counted as often as it is referred to, are not looked into any further.
const MAX_PARTS: usize = 20_000;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Dialect {
    JsonSchema,
    Structural,
}

pub(super) fn read(schema: &Json, dialect: Dialect) -> Type {
    Reader { root: schema, dialect, parts: MAX_PARTS, following: Vec::new() }.read(schema, MAX_DEPTH)
}

struct Reader<'a> {
    root: &'a Json,
    dialect: Dialect,
    /// How many parts may still be read.
    parts: usize,
    /// The references that are being followed, so that a cycle ends in `Any`.
    following: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, schema: &'a Json, depth: usize) -> Type {
        let Some(parts) = self.parts.checked_sub(1) else { return Type::Any };
        self.parts = parts;
        let (Some(schema), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else {
            return Type::Any;
        };
        if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
            return self.reference(reference, depth);
        }
        if schema.get("x-kubernetes-int-or-string") == Some(&Json::Bool(true)) {
            return Type::Any;
        }
        let branches = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
        let mut known = match (schema.get("type"), branches) {
            (Some(Json::String(name)), _) => self.named(name, schema, depth),
            (Some(Json::Array(names)), _) => self.one_of(names, schema, depth),
            (_, Some(branches)) => self.any_of(branches, depth),
            _ if schema.contains_key("properties") => self.named("object", schema, depth),
            _ => of_examples(schema),
        };
        if schema.get("nullable") == Some(&Json::Bool(true)) {
            known = Type::nullable(known);
        }
        known
    }

    fn reference(&mut self, reference: &'a str, depth: usize) -> Type {
        let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else {
            return Type::Any;
        };
        if self.following.contains(&reference) {
            return Type::Any;
        }
        self.following.push(reference);
        let known = self.read(target, depth);
        self.following.pop();
        known
    }

    fn named(&mut self, name: &str, schema: &'a serde_json::Map<String, Json>, depth: usize) -> Type {
        match name {
            "null" => Type::Null,
            "boolean" => Type::Bool,
            "integer" | "number" => Type::Number,
            "string" => Type::Text,
            "array" => Type::list(schema.get("items").map_or(Type::Any, |items| self.read(items, depth))),
            "object" => self.object(schema, depth),
            _ => Type::Any,
        }
    }

    fn one_of(&mut self, names: &'a [Json], schema: &'a serde_json::Map<String, Json>, depth: usize) -> Type {
        let (nulls, others): (Vec<_>, Vec<_>) =
            names.iter().filter_map(Json::as_str).partition(|name| *name == "null");
        let known = match others.as_slice() {
            [] => Type::Null,
            ["integer", "number"] | ["number", "integer"] => Type::Number,
            [one] => self.named(one, schema, depth),
            _ => Type::Any,
        };
        if nulls.is_empty() { known } else { Type::nullable(known) }
    }

    /// Something or null, as optional fields are often described; any other choice is not known.
    fn any_of(&mut self, branches: &'a [Json], depth: usize) -> Type {
        let mut known: Vec<Type> = branches.iter().map(|branch| self.read(branch, depth)).collect();
        let count = known.len();
        known.retain(|branch| *branch != Type::Null);
        match (known.len(), count) {
            (1, 2) => Type::nullable(known.remove(0)),
            (1, 1) => known.remove(0),
            _ => Type::Any,
        }
    }

    fn object(&mut self, schema: &'a serde_json::Map<String, Json>, depth: usize) -> Type {
        let properties = schema.get("properties").and_then(Json::as_object);
        let additional = schema.get("additionalProperties");
        let preserves = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Json::Bool(true));
        let open = match self.dialect {
            Dialect::JsonSchema => {
                additional != Some(&Json::Bool(false)) || schema.contains_key("patternProperties")
            }
            Dialect::Structural => {
                preserves || additional.is_some_and(|additional| *additional != Json::Bool(false))
            }
        };
        match (properties, additional) {
            (None, Some(additional @ Json::Object(_))) if !schema.contains_key("patternProperties") => {
                Type::map(self.read(additional, depth))
            }
            (None, _) if open => Type::map(Type::Any),
            (properties, _) => {
                let fields = properties.into_iter().flatten();
                let fields = fields.map(|(name, field)| (name.clone(), self.read(field, depth))).collect();
                Type::Object(Arc::new(ObjectType { fields, open }))
            }
        }
    }
}

/// The type of `const`, or of all values of `enum`.
fn of_examples(schema: &serde_json::Map<String, Json>) -> Type {
    let of = |example: &Json| match example {
        Json::Null => Type::Null,
        Json::Bool(_) => Type::Bool,
        Json::Number(_) => Type::Number,
        Json::String(_) => Type::Text,
        Json::Array(_) | Json::Object(_) => Type::Any,
    };
    match (schema.get("const"), schema.get("enum").and_then(Json::as_array)) {
        (Some(example), _) => of(example),
        (None, Some(examples)) => {
            examples.iter().map(of).reduce(|known, next| known.join(&next)).unwrap_or(Type::Any)
        }
        (None, None) => Type::Any,
    }
}
