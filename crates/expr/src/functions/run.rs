//! From a function and its arguments to its value.

use regex::{Regex, RegexBuilder};
use rust_decimal::Decimal;

use super::{Function, number, text, time};
use crate::budget::Budget;
use crate::value::Value;

/// Calls `function`. The arguments are as many as its signature takes; they may be taken out.
///
/// # Errors
/// A message for people: an argument of a type or value that the function does not take, or a result that does not fit.
pub(crate) fn call<'e>(
    function: Function,
    arguments: &mut [Value<'e>],
    budget: &mut Budget,
) -> Result<Value<'e>, String> {
    use Function as F;
    // Looking at the arguments once; what is made of them is counted where it is made.
    budget.spend(arguments.iter().map(length).sum())?;
    Ok(match function {
        F::Dyn => std::mem::take(&mut arguments[0]),
        F::TypeOf => Value::from(type_of(&arguments[0])),
        F::Bool => Value::Bool(text::to_bool(&arguments[0])?),
        F::Text => text::to_text(&mut arguments[0])?,
        F::Number => number::decimal(&arguments[0])?.into(),
        F::Int => number::int(&arguments[0])?.into(),
        F::Uint => number::uint(&arguments[0])?.into(),
        F::Timestamp => time::timestamp(&arguments[0])?.into(),
        F::Duration => time::duration(&arguments[0])?.into(),

        F::Abs => Value::Number(number_at(arguments, 0)?.abs()),
        F::Ceil => number::value(number_at(arguments, 0)?.ceil()),
        F::Floor => number::value(number_at(arguments, 0)?.floor()),
        F::Round => {
            let scale = if arguments.len() > 1 { number_at(arguments, 1)? } else { Decimal::ZERO };
            number::round(number_at(arguments, 0)?, scale)?
        }
        F::Max => number::extreme(arguments, std::cmp::Ordering::Greater)?,
        F::Min => number::extreme(arguments, std::cmp::Ordering::Less)?,
        F::Sum => number::sum(list_at(arguments, 0)?)?,
        F::IsSorted => number::is_sorted(list_at(arguments, 0)?)?.into(),
        F::Size => Value::from(text::size(&arguments[0])? as u64),

        F::CharAt => text::char_at(text_at(arguments, 0)?, &arguments[1])?,
        F::Contains => text_at(arguments, 0)?.contains(text_at(arguments, 1)?).into(),
        F::StartsWith => text_at(arguments, 0)?.starts_with(text_at(arguments, 1)?).into(),
        F::EndsWith => text_at(arguments, 0)?.ends_with(text_at(arguments, 1)?).into(),
        F::IndexOf => text::index_of(&arguments[0], &arguments[1], arguments.get(2))?,
        F::LastIndexOf => text::last_index_of(&arguments[0], &arguments[1])?,
        F::Join => {
            let separator = if arguments.len() > 1 { text_at(arguments, 1)? } else { "" };
            text::join(list_at(arguments, 0)?, separator, budget)?
        }
        F::LowerAscii => text_at(arguments, 0)?.to_ascii_lowercase().into(),
        F::UpperAscii => text_at(arguments, 0)?.to_ascii_uppercase().into(),
        F::Matches => {
            // Compiling costs much more than a step.
            budget.spend(1 << 14)?;
            pattern(text_at(arguments, 1)?)?.is_match(text_at(arguments, 0)?).into()
        }
        F::Replace => {
            let times = if arguments.len() > 3 { Some(number_at(arguments, 3)?) } else { None };
            text::replace(
                text_at(arguments, 0)?,
                text_at(arguments, 1)?,
                text_at(arguments, 2)?,
                times,
                budget,
            )?
        }
        F::Reverse => text_at(arguments, 0)?.chars().rev().collect::<String>().into(),
        F::Split => {
            let parts = if arguments.len() > 2 { Some(number_at(arguments, 2)?) } else { None };
            text::split(text_at(arguments, 0)?, text_at(arguments, 1)?, parts, budget)?
        }
        F::Substring => text::substring(text_at(arguments, 0)?, &arguments[1], arguments.get(2))?,
        F::Trim => text_at(arguments, 0)?.trim().to_owned().into(),

        F::Date
        | F::DayOfMonth
        | F::DayOfWeek
        | F::DayOfYear
        | F::FullYear
        | F::Hours
        | F::Milliseconds
        | F::Minutes
        | F::Month
        | F::Seconds => time::part(function, &arguments[0], arguments.get(1))?,
    })
}

fn length(value: &Value<'_>) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::List(elements) => elements.len(),
        _ => 0,
    }
}

/// Compiles a pattern; its size is bounded.
pub(crate) fn pattern(pattern: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(pattern).size_limit(1 << 20).nest_limit(64).build();
    compiled.map_err(|error| {
        // The crate's message draws the pattern over several lines, and says what is wrong in the last.
        let message = error.to_string();
        let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{pattern}` is not a regular expression: {reason}")
    })
}

/// The name that `type()` gives.
fn type_of(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null_type",
        Value::Text(_) => "string",
        other => other.type_name(),
    }
}

/// `this function takes text here, and not a number`.
pub(super) fn refused(wanted: &str, value: &Value<'_>) -> String {
    format!("{wanted} is needed, and this is {}", with_article(value.type_name()))
}

pub(crate) fn with_article(type_name: &str) -> String {
    match type_name {
        name if ["null", "text", "anything"].iter().any(|bare| name.starts_with(bare)) => name.to_owned(),
        name if name.starts_with('o') => format!("an {name}"),
        name => format!("a {name}"),
    }
}

pub(super) fn text_at<'v>(arguments: &'v [Value<'_>], at: usize) -> Result<&'v str, String> {
    arguments[at].as_str().ok_or_else(|| refused("text", &arguments[at]))
}

pub(super) fn number_at(arguments: &[Value<'_>], at: usize) -> Result<Decimal, String> {
    arguments[at].as_number().ok_or_else(|| refused("a number", &arguments[at]))
}

fn list_at<'v, 'e>(arguments: &'v [Value<'e>], at: usize) -> Result<&'v [Value<'e>], String> {
    arguments[at].as_list().ok_or_else(|| refused("a list", &arguments[at]))
}
