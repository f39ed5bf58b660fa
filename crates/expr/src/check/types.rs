//! What operators make of types.

use crate::functions::with_article;
use crate::tree::Operator;
use crate::types::Type;

/// The type of the result, or why there can be none. Null within a nullable type is not looked at: it may not be there.
pub(super) fn of_binary(operator: Operator, left: &Type, right: &Type) -> Result<Type, String> {
    let (a, b) = (left.non_null(), right.non_null());
    let known = match operator {
        Operator::Equal | Operator::NotEqual => {
            let nullable = |side: &Type| matches!(side, Type::Null | Type::Nullable(_));
            (left.could_be(right) || nullable(left) || nullable(right)).then_some(Type::Bool)
        }
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
            let unordered =
                |side: &Type| matches!(side, Type::Null | Type::List(_) | Type::Map(_) | Type::Object(_));
            (a.could_be(b) && !unordered(a) && !unordered(b)).then_some(Type::Bool)
        }
        Operator::In => match b {
            Type::Any => Some(Type::Bool),
            Type::List(element) => (left.could_be(element) || **element == Type::Null).then_some(Type::Bool),
            Type::Map(_) | Type::Object(_) => left.could_be(&Type::Text).then_some(Type::Bool),
            _ => None,
        },
        Operator::Add => add(a, b),
        Operator::Subtract => subtract(a, b),
        Operator::Multiply | Operator::Divide | Operator::Remainder => {
            (a.could_be(&Type::Number) && b.could_be(&Type::Number)).then_some(Type::Number)
        }
    };
    known.ok_or_else(|| {
        let remedy = remedy(left, right);
        let (left, right) = (with_article(&left.to_string()), with_article(&right.to_string()));
        match operator {
            Operator::Equal | Operator::NotEqual => {
                format!("`{}` compares {left} with {right}, which are never equal{remedy}", operator.symbol())
            }
            Operator::In => format!("`in` looks for {left} in {right}, where it can't be{remedy}"),
            _ => format!("`{}` does not take {left} and {right}{remedy}", operator.symbol()),
        }
    })
}

/// The type to go on with after a fault.
pub(super) fn of_faulty(operator: Operator) -> Type {
    match operator {
        Operator::Add | Operator::Subtract => Type::Any,
        Operator::Multiply | Operator::Divide | Operator::Remainder => Type::Number,
        _ => Type::Bool,
    }
}

fn add(a: &Type, b: &Type) -> Option<Type> {
    Some(match (a, b) {
        (Type::List(a), Type::List(b)) => Type::list(a.join(b)),
        (Type::List(_), Type::Any) | (Type::Any, Type::List(_)) => Type::list(Type::Any),
        (Type::Any, Type::Any | Type::Duration) | (Type::Duration, Type::Any) => Type::Any,
        (Type::Number, Type::Number | Type::Any) | (Type::Any, Type::Number) => Type::Number,
        (Type::Text, Type::Text | Type::Any) | (Type::Any, Type::Text) => Type::Text,
        (Type::Timestamp, Type::Duration | Type::Any) | (Type::Duration | Type::Any, Type::Timestamp) => {
            Type::Timestamp
        }
        (Type::Duration, Type::Duration) => Type::Duration,
        _ => return None,
    })
}

fn subtract(a: &Type, b: &Type) -> Option<Type> {
    Some(match (a, b) {
        (Type::Any, Type::Any | Type::Duration) | (Type::Timestamp, Type::Any) => Type::Any,
        (Type::Number, Type::Number | Type::Any) | (Type::Any, Type::Number) => Type::Number,
        (Type::Timestamp | Type::Any, Type::Timestamp) | (Type::Duration, Type::Duration | Type::Any) => {
            Type::Duration
        }
        (Type::Timestamp, Type::Duration) => Type::Timestamp,
        _ => return None,
    })
}

/// How one of two types that do not fit together is made the other.
pub(super) fn remedy(a: &Type, b: &Type) -> &'static str {
    match (a.non_null(), b.non_null()) {
        (Type::Text, Type::Number) | (Type::Number, Type::Text) => {
            "; string(…) makes text of a number, decimal(…) a number of text"
        }
        (Type::Text, Type::Timestamp) | (Type::Timestamp, Type::Text) => {
            "; timestamp(…) makes a timestamp of text, string(…) text of a timestamp"
        }
        (Type::Text, Type::Duration) | (Type::Duration, Type::Text) => {
            "; duration(…) makes a duration of text, string(…) text of a duration"
        }
        (Type::Text, Type::Bool) | (Type::Bool, Type::Text) => {
            "; bool(…) makes a bool of text, string(…) text of a bool"
        }
        _ => "",
    }
}
