//! Text. Positions count characters (Unicode code points), from 0.

use std::borrow::Cow;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::run::refused;
use crate::budget::Budget;
use crate::value::{Value, fields};

pub(super) fn to_bool(value: &Value<'_>) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Text(text) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(true),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(false),
            other => Err(format!("'{other}' is neither 'true' nor 'false'")),
        },
        other => Err(refused("a bool or text", other)),
    }
}

pub(super) fn to_text<'e>(value: &mut Value<'e>) -> Result<Value<'e>, String> {
    if let Value::Text(_) = value {
        return Ok(std::mem::take(value));
    }
    match value.to_text() {
        Some(text) => Ok(Value::from(text.into_owned())),
        None => Err(refused("a bool, number, text, timestamp or duration", value)),
    }
}

pub(super) fn size(value: &Value<'_>) -> Result<usize, String> {
    Ok(match value {
        Value::Text(text) => text.chars().count(),
        Value::List(elements) => elements.len(),
        Value::Map(map) => map.len(),
        Value::Object(object) => fields(*object).count(),
        other => return Err(refused("text, a list or a map", other)),
    })
}

/// A position or count: whole and not below zero.
fn position(value: &Value<'_>) -> Result<usize, String> {
    let number = value.as_number().ok_or_else(|| refused("a number", value))?;
    let position = Some(number).filter(Decimal::is_integer).and_then(|number| number.to_usize());
    position.ok_or_else(|| format!("{number} is no position; positions are 0, 1, 2, …"))
}

/// The byte offset of a character, or of the end.
fn offset(text: &str, position: usize) -> Result<usize, String> {
    let mut offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]);
    offsets.nth(position).ok_or_else(|| {
        format!("there is no position {position} in a text of {} characters", text.chars().count())
    })
}

pub(super) fn char_at<'e>(text: &str, at: &Value<'_>) -> Result<Value<'e>, String> {
    let from = offset(text, position(at)?)?;
    Ok(text[from..].chars().next().map(String::from).unwrap_or_default().into())
}

pub(super) fn substring<'e>(
    text: &str,
    from: &Value<'_>,
    to: Option<&Value<'_>>,
) -> Result<Value<'e>, String> {
    let from = offset(text, position(from)?)?;
    let to = match to {
        Some(to) => offset(text, position(to)?)?,
        None => text.len(),
    };
    match text.get(from..to) {
        Some(part) => Ok(part.to_owned().into()),
        None => Err("the end of a substring can't be before its beginning".to_owned()),
    }
}

fn found<'e>(text: &str, at: Option<usize>) -> Value<'e> {
    at.map_or(Value::Number(Decimal::NEGATIVE_ONE), |at| Value::from(text[..at].chars().count() as u64))
}

fn found_element<'e>(at: Option<usize>) -> Value<'e> {
    at.map_or(Value::Number(Decimal::NEGATIVE_ONE), |at| Value::from(at as u64))
}

pub(super) fn index_of<'e>(
    within: &Value<'_>,
    wanted: &Value<'_>,
    from: Option<&Value<'_>>,
) -> Result<Value<'e>, String> {
    match (within, wanted) {
        (Value::List(elements), wanted) if from.is_none() => {
            Ok(found_element(elements.iter().position(|element| element == wanted)))
        }
        (Value::Text(text), Value::Text(part)) => {
            let from = match from {
                Some(from) => offset(text, position(from)?)?,
                None => 0,
            };
            Ok(found(text, text[from..].find(&**part).map(|at| from + at)))
        }
        (Value::Text(_), other) => Err(refused("text", other)),
        (Value::List(_), _) => Err("indexOf of a list takes no position".to_owned()),
        (other, _) => Err(refused("text or a list", other)),
    }
}

pub(super) fn last_index_of<'e>(within: &Value<'_>, wanted: &Value<'_>) -> Result<Value<'e>, String> {
    match (within, wanted) {
        (Value::List(elements), wanted) => {
            Ok(found_element(elements.iter().rposition(|element| element == wanted)))
        }
        (Value::Text(text), Value::Text(part)) => Ok(found(text, text.rfind(&**part))),
        (Value::Text(_), other) => Err(refused("text", other)),
        (other, _) => Err(refused("text or a list", other)),
    }
}

pub(super) fn join<'e>(
    elements: &[Value<'_>],
    separator: &str,
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    let mut joined = String::new();
    for (at, element) in elements.iter().enumerate() {
        let element = element.as_str().ok_or_else(|| refused("a list of text", element))?;
        budget.spend(separator.len() + element.len())?;
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(element);
    }
    Ok(joined.into())
}

/// A count of which a negative one means all.
fn times(count: Option<Decimal>) -> Result<Option<usize>, String> {
    match count {
        None => Ok(None),
        Some(count) if count < Decimal::ZERO => Ok(None),
        Some(count) => position(&Value::Number(count)).map(Some),
    }
}

pub(super) fn replace<'e>(
    text: &str,
    part: &str,
    by: &str,
    count: Option<Decimal>,
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    let count = times(count)?.unwrap_or(usize::MAX);
    let occurrences = text.matches(part).count().min(count);
    budget.spend(text.len().saturating_add(occurrences.saturating_mul(by.len())))?;
    Ok(text.replacen(part, by, count).into())
}

pub(super) fn split<'e>(
    text: &str,
    separator: &str,
    count: Option<Decimal>,
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    budget.spend(text.len().saturating_mul(8))?;
    let count = times(count)?;
    let owned = |part: &str| Value::Text(Cow::Owned(part.to_owned()));
    if count == Some(0) {
        return Ok(Value::list([]));
    }
    let limit = count.unwrap_or(usize::MAX);
    if separator.is_empty() {
        // Into characters; Rust would add an empty text at both ends.
        let single = text.chars().count().min(limit.saturating_sub(1));
        let rest_from = offset(text, single)?;
        let mut parts: Vec<Value<'e>> =
            text[..rest_from].chars().map(|c| Value::from(c.to_string())).collect();
        if rest_from < text.len() {
            parts.push(owned(&text[rest_from..]));
        }
        return Ok(Value::List(parts.into()));
    }
    Ok(Value::list(text.splitn(limit, separator).map(owned)))
}
