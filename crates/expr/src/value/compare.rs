//! Equality and order.

use std::cmp::Ordering;

use super::{Map, Object, Value, fields};

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::List(a), Value::List(b)) => a == b,
            (Value::Map(a), Value::Map(b)) => a == b,
            (Value::Object(object), Value::Map(map)) | (Value::Map(map), Value::Object(object)) => {
                same_fields(*object, map)
            }
            (Value::Object(a), Value::Object(b)) => {
                fields(*a).count() == fields(*b).count()
                    && fields(*a).all(|(name, value)| b.field(name).is_some_and(|other| other == value))
            }
            _ => false,
        }
    }
}

fn same_fields(object: &dyn Object, map: &Map<'_>) -> bool {
    fields(object).count() == map.len() && fields(object).all(|(name, value)| map.get(name) == Some(&value))
}

/// Within bool, number, text (by code point), timestamp and duration; there is no order among others, nor between two.
impl PartialOrd for Value<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::Number(a), Value::Number(b)) => Some(a.cmp(b)),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}
