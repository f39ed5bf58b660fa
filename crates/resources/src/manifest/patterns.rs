//! The CRDs' patterns in words: what people are told to write.

use crate::shared::{COUNT_PATTERN, DURATION_PATTERN, TIME_PATTERN};

/// What a text that matches `pattern` is made of; goes after "write".
pub(super) fn words(pattern: &str) -> Option<&'static str> {
    Some(match pattern {
        DURATION_PATTERN => "whole numbers with their units h, m, s or ms, for example 1m30s",
        TIME_PATTERN => "a time such as \"2026-01-31T12:00:00Z\", of the years 1000 to 2999",
        COUNT_PATTERN => "digits in quotes, for example \"42\"",
        "^[1-9][0-9]{0,17}(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$" => "a whole number with its unit, for example 10Gi",
        "^[a-z][a-z0-9_]*$" => "lower-case letters, digits and '_', beginning with a letter",
        "^[a-zA-Z_][a-zA-Z0-9_]*$" => "letters, digits and '_', not beginning with a digit",
        "^[a-zA-Z][a-zA-Z0-9_-]*$" => "letters, digits, '_' and '-', beginning with a letter",
        "^[a-zA-Z0-9][a-zA-Z0-9_.-]*$" => {
            "letters, digits, '_', '.' and '-', beginning with a letter or a digit"
        }
        "^[^,]+$" => "a text without commas",
        "^[a-zA-Z0-9._-]+$" => "letters, digits, '.', '_' and '-'",
        "^[a-z]([-a-z0-9]*[a-z0-9])?$" => {
            "lower-case letters, digits and '-', beginning with a letter and not ending with '-'"
        }
        r"^[^\s.*>/\\]+$" => r"a word without spaces, '.', '*', '>', '/' and '\'",
        r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$" => "the name of a header, for example Authorization",
        "^[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*$" => {
            "PACKAGE.SERVICE/METHOD, for example shop.v1.Payments/Debit"
        }
        _ if pattern.contains("(stream|partition|type)") => {
            "words with dots between them, without spaces, '*' and '>'; {stream}, {partition} and {type} stand for an event's own"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn patterns(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("pattern").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| patterns(field, found));
            }
            Value::Array(elements) => elements.iter().for_each(|element| patterns(element, found)),
            _ => {}
        }
    }

    #[test]
    fn every_pattern_is_said_in_words() {
        let mut found = Vec::new();
        for definition in crate::crd::definitions() {
            patterns(definition.schema(), &mut found);
        }
        assert!(found.len() > 10, "{found:?}");
        found.retain(|pattern| words(pattern).is_none());
        assert_eq!(found, [""; 0]);
    }
}
