//! Numbers, and what is compared.

use std::cmp::Ordering;

use jiff::SignedDuration;
use rust_decimal::Decimal;

use super::run::refused;
use crate::decimal;
use crate::value::Value;

/// A number as a value; zero has no sign, so that equal numbers print alike.
pub(crate) fn value<'e>(mut number: Decimal) -> Value<'e> {
    if number.is_zero() {
        number.set_sign_positive(true);
    }
    Value::Number(number)
}

pub(super) fn decimal(value: &Value<'_>) -> Result<Decimal, String> {
    match value {
        Value::Number(number) => Ok(*number),
        Value::Text(text) => decimal::parse(text).ok_or_else(|| {
            format!(
                "'{}' is not a number of at most 28 digits, such as '12.50'",
                text.chars().take(60).collect::<String>()
            )
        }),
        other => Err(refused("a number or text", other)),
    }
}

/// Towards zero, as CEL has it; text must be whole already.
pub(super) fn int(value: &Value<'_>) -> Result<Decimal, String> {
    match value {
        Value::Timestamp(moment) => Ok(moment.as_second().into()),
        Value::Text(text) => match decimal(value)? {
            number if number.is_integer() => Ok(number.trunc()),
            _ => Err(format!(
                "'{text}' is not a whole number; int(decimal(…)) cuts off what follows the point"
            )),
        },
        other => match decimal(other)?.trunc() {
            number if number.is_zero() => Ok(Decimal::ZERO),
            number => Ok(number),
        },
    }
}

pub(super) fn uint(value: &Value<'_>) -> Result<Decimal, String> {
    match int(value)? {
        number if number < Decimal::ZERO => Err(format!("{number} is below zero")),
        number => Ok(number),
    }
}

pub(super) fn round<'e>(number: Decimal, scale: Decimal) -> Result<Value<'e>, String> {
    decimal::round(number, scale)
        .map(value)
        .ok_or_else(|| format!("{scale} digits after the point can't be asked for; 0 to 28 can"))
}

/// The greatest or least of several arguments, or of the elements of the only one.
pub(super) fn extreme<'e>(arguments: &[Value<'e>], wanted: Ordering) -> Result<Value<'e>, String> {
    let values = match arguments {
        [Value::List(elements)] => elements,
        several => several,
    };
    let (first, rest) = values.split_first().ok_or("the list is empty")?;
    let mut best = first;
    for next in rest {
        if compare(next, best)? == wanted {
            best = next;
        }
    }
    // A lone value must be one that has an order, too.
    compare(best, best)?;
    Ok(best.clone())
}

pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, String> {
    a.partial_cmp(b).ok_or_else(|| format!("{} and {} have no order", a.type_name(), b.type_name()))
}

pub(super) fn is_sorted(elements: &[Value<'_>]) -> Result<bool, String> {
    for pair in elements.windows(2) {
        if compare(&pair[0], &pair[1])? == Ordering::Greater {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Of numbers or of durations; of nothing it is the number 0.
pub(super) fn sum<'e>(elements: &[Value<'e>]) -> Result<Value<'e>, String> {
    if let Some(Value::Duration(_)) = elements.first() {
        let mut total = SignedDuration::ZERO;
        for element in elements {
            let Value::Duration(next) = element else { return Err(refused("a duration", element)) };
            total = total.checked_add(*next).ok_or("the sum is too long a time")?;
        }
        return Ok(total.into());
    }
    let mut total = Decimal::ZERO;
    for element in elements {
        let next = element.as_number().ok_or_else(|| refused("a number", element))?;
        total = total.checked_add(next).ok_or("the sum does not fit in 28 digits")?;
    }
    Ok(value(total))
}
