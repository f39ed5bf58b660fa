//! What is known of a value before it is there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

mod schema;

/// The type of an expression or variable, as far as it can be known.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Not known: everything is accepted, and shows when it is evaluated.
    Any,
    /// Only `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// An exact decimal.
    Number,
    /// A string of characters.
    Text,
    /// A moment.
    Timestamp,
    /// A length of time.
    Duration,
    /// A list of values of one type.
    List(Arc<Type>),
    /// Any text keys, with values of one type.
    Map(Arc<Type>),
    /// Named fields.
    Object(Arc<ObjectType>),
    /// The type or `null`.
    Nullable(Arc<Type>),
}

/// The fields of [`Type::Object`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectType {
    /// The fields that are known. Each of them may be absent from a value.
    pub fields: BTreeMap<String, Type>,
    /// Whether there may be others, of any type.
    pub open: bool,
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Type {
        Type::List(Arc::new(element))
    }

    /// A map from text to `value`.
    pub fn map(value: Type) -> Type {
        Type::Map(Arc::new(value))
    }

    /// An object with these fields and no others.
    pub fn object<N: Into<String>>(fields: impl IntoIterator<Item = (N, Type)>) -> Type {
        let fields = fields.into_iter().map(|(name, r#type)| (name.into(), r#type)).collect();
        Type::Object(Arc::new(ObjectType { fields, open: false }))
    }

    /// An object with these fields and perhaps others.
    pub fn open_object<N: Into<String>>(fields: impl IntoIterator<Item = (N, Type)>) -> Type {
        let fields = fields.into_iter().map(|(name, r#type)| (name.into(), r#type)).collect();
        Type::Object(Arc::new(ObjectType { fields, open: true }))
    }

    /// `inner` or null. `Any` and what is nullable already stay as they are.
    pub fn nullable(inner: Type) -> Type {
        match inner {
            Type::Any | Type::Null | Type::Nullable(_) => inner,
            other => Type::Nullable(Arc::new(other)),
        }
    }

    /// The type without its null: `Nullable(Text)` is `Text`.
    pub fn non_null(&self) -> &Type {
        match self {
            Type::Nullable(inner) => inner,
            other => other,
        }
    }

    /// Whether a value of this type could be one of `wanted`: false only where it can't ever be.
    ///
    /// A nullable type could be what it is without null. Maps and objects could be each other.
    pub fn could_be(&self, wanted: &Type) -> bool {
        if let (Type::Nullable(_) | Type::Null, Type::Nullable(_) | Type::Null) = (self, wanted) {
            return true;
        }
        match (self.non_null(), wanted.non_null()) {
            (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => a.could_be(b),
            (Type::Any, _)
            | (_, Type::Any)
            | (Type::Object(_), Type::Map(_) | Type::Object(_))
            | (Type::Map(_), Type::Object(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Whether a value of this type could have a text: see [`Value::to_text`](crate::Value::to_text).
    pub fn has_text(&self) -> bool {
        !matches!(self.non_null(), Type::Null | Type::List(_) | Type::Map(_) | Type::Object(_))
    }

    /// The narrowest type here that holds the values of both.
    pub fn join(&self, other: &Type) -> Type {
        match (self, other) {
            (a, b) if a == b => a.clone(),
            (Type::Null, b) => Type::nullable(b.clone()),
            (a, Type::Null) => Type::nullable(a.clone()),
            (Type::Nullable(a), b) | (b, Type::Nullable(a)) => Type::nullable(a.join(b.non_null())),
            (Type::List(a), Type::List(b)) => Type::list(a.join(b)),
            (Type::Map(a), Type::Map(b)) => Type::map(a.join(b)),
            _ => Type::Any,
        }
    }

    /// The type that a JSON Schema describes, as far as it can: `$ref` within the document, `type`, `properties`,
    /// `items`, `additionalProperties`, `enum`, `const`, and `anyOf` of something and null. What else there is makes
    /// [`Type::Any`]. An object is closed only by `additionalProperties: false`; `format: date-time` stays text.
    pub fn from_json_schema(schema: &serde_json::Value) -> Type {
        schema::read(schema, schema::Dialect::JsonSchema)
    }

    /// The type that a custom resource's structural schema describes. As [`Type::from_json_schema`], but objects are
    /// closed, as the API server prunes what they do not name, except under `x-kubernetes-preserve-unknown-fields`.
    pub fn from_structural_schema(schema: &serde_json::Value) -> Type {
        schema::read(schema, schema::Dialect::Structural)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => f.write_str("anything"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Number => f.write_str("number"),
            Type::Text => f.write_str("text"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(element) if **element == Type::Any => f.write_str("list"),
            Type::List(element) => write!(f, "list of {element}"),
            Type::Map(value) if **value == Type::Any => f.write_str("map"),
            Type::Map(value) => write!(f, "map of {value}"),
            Type::Object(_) => f.write_str("object"),
            Type::Nullable(inner) => write!(f, "{inner} or null"),
        }
    }
}
