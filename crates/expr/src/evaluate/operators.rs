//! Operators with two sides.

use std::cmp::Ordering;

use jiff::SignedDuration;
use rust_decimal::Decimal;

use crate::budget::Budget;
use crate::functions::{number, with_article};
use crate::tree::Operator;
use crate::value::Value;

/// # Errors
/// A message for people: sides that the operator does not take, or a result that does not fit.
pub(super) fn apply<'e>(
    operator: Operator,
    left: &Value<'e>,
    right: &Value<'e>,
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    Ok(match operator {
        Operator::Equal => equal(left, right, budget)?.into(),
        Operator::NotEqual => (!equal(left, right, budget)?).into(),
        Operator::Less => (order(operator, left, right)? == Ordering::Less).into(),
        Operator::LessEqual => (order(operator, left, right)? != Ordering::Greater).into(),
        Operator::Greater => (order(operator, left, right)? == Ordering::Greater).into(),
        Operator::GreaterEqual => (order(operator, left, right)? != Ordering::Less).into(),
        Operator::In => contains(right, left, budget)?.into(),
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
            match (left, right) {
                (Value::Number(a), Value::Number(b)) => number::value(arithmetic(operator, *a, *b)?),
                _ => other_arithmetic(operator, left, right, budget)?,
            }
        }
    })
}

fn arithmetic(operator: Operator, a: Decimal, b: Decimal) -> Result<Decimal, String> {
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide | Operator::Remainder if b.is_zero() => {
            return Err(format!("{a} is divided by zero"));
        }
        Operator::Divide => a.checked_div(b).map(|quotient| tidy(quotient, a.scale())),
        _ => a.checked_rem(b),
    };
    result.ok_or_else(|| format!("the result of {a} {} {b} does not fit in 28 digits", operator.symbol()))
}

/// Without the zeros that division leaves at the end, down to the dividend's scale: 7 / 2 is 3.5, 59.70 / 3 is 19.90.
fn tidy(quotient: Decimal, scale: u32) -> Decimal {
    let mut quotient = quotient.normalize();
    if quotient.scale() < scale {
        quotient.rescale(scale);
    }
    quotient
}

fn other_arithmetic<'e>(
    operator: Operator,
    left: &Value<'e>,
    right: &Value<'e>,
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    const TOO_FAR: &str = "the result is beyond the years -9999 to 9999, or too long a time";
    Ok(match (operator, left, right) {
        (Operator::Add, Value::Text(a), Value::Text(b)) => {
            budget.spend(a.len() + b.len())?;
            [&**a, &**b].concat().into()
        }
        (Operator::Add, Value::List(a), Value::List(b)) => {
            budget.spend((a.len() + b.len()) * size_of::<Value<'_>>())?;
            Value::list(a.iter().chain(b.iter()).cloned())
        }
        (Operator::Add, Value::Timestamp(moment), Value::Duration(by))
        | (Operator::Add, Value::Duration(by), Value::Timestamp(moment)) => {
            moment.checked_add(*by).map_err(|_| TOO_FAR)?.into()
        }
        (Operator::Subtract, Value::Timestamp(moment), Value::Duration(by)) => {
            moment.checked_sub(*by).map_err(|_| TOO_FAR)?.into()
        }
        (Operator::Subtract, Value::Timestamp(later), Value::Timestamp(earlier)) => {
            later.duration_since(*earlier).into()
        }
        (Operator::Add, Value::Duration(a), Value::Duration(b)) => length(a.checked_add(*b), TOO_FAR)?,
        (Operator::Subtract, Value::Duration(a), Value::Duration(b)) => length(a.checked_sub(*b), TOO_FAR)?,
        _ => return Err(mismatch(operator, left, right)),
    })
}

fn length<'e>(result: Option<SignedDuration>, problem: &str) -> Result<Value<'e>, String> {
    result.map(Value::Duration).ok_or_else(|| problem.to_owned())
}

fn equal(left: &Value<'_>, right: &Value<'_>, budget: &mut Budget) -> Result<bool, String> {
    match (left, right) {
        // Memory is compared many bytes at a time.
        (Value::Text(a), Value::Text(b)) if a.len() == b.len() => budget.spend(a.len() / 64)?,
        (Value::List(_) | Value::Map(_) | Value::Object(_), Value::List(_) | Value::Map(_)) => {
            budget.spend(weight(right))?;
        }
        _ => {}
    }
    Ok(left == right)
}

/// The number of values within.
fn weight(value: &Value<'_>) -> usize {
    1 + match value {
        Value::List(elements) => elements.iter().map(weight).sum(),
        Value::Map(map) => map.iter().map(|(_, value)| weight(value)).sum(),
        _ => 0,
    }
}

fn order(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, String> {
    left.partial_cmp(right).ok_or_else(|| mismatch(operator, left, right))
}

fn contains(collection: &Value<'_>, wanted: &Value<'_>, budget: &mut Budget) -> Result<bool, String> {
    match (collection, wanted) {
        (Value::List(elements), wanted) => {
            budget.spend(elements.len())?;
            Ok(elements.contains(wanted))
        }
        (Value::Map(map), Value::Text(key)) => Ok(map.get(key).is_some()),
        (Value::Object(object), Value::Text(name)) => Ok(object.field(name).is_some()),
        // Keys are text, so nothing else is among them.
        (Value::Map(_) | Value::Object(_), _) => Ok(false),
        (other, _) => {
            Err(format!("`in` needs a list or map, and this is {}", with_article(other.type_name())))
        }
    }
}

fn mismatch(operator: Operator, left: &Value<'_>, right: &Value<'_>) -> String {
    let (left, right) = (with_article(left.type_name()), with_article(right.type_name()));
    format!("`{}` does not take {left} and {right}", operator.symbol())
}
