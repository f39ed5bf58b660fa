//! What a plain (unquoted) scalar is: by YAML 1.2, as we read it, and by YAML 1.1, as kubectl and Helm may read it.

use serde_json::{Number, Value};

/// What a plain scalar stands for, by the core schema of YAML 1.2.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = integer(text).or_else(|| float(text));
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn integer(text: &str) -> Option<Number> {
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).ok().map(Number::from);
        }
    }
    if !text.trim_start_matches(['-', '+']).bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok()
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn float(text: &str) -> Option<Number> {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let numeric = body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.bytes().any(|byte| byte.is_ascii_digit())
        && body.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !numeric {
        return None;
    }
    text.strip_prefix('+').unwrap_or(text).parse().ok().and_then(Number::from_f64)
}

/// What a reader of YAML 1.1 makes of a plain scalar, where that is not what [`resolve`] makes of it.
///
/// Dates are left out: kubectl keeps them as text.
pub(super) fn read_differently(text: &str) -> Option<&'static str> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(text.to_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off") {
        // Mixed case such as `yEs` is text for everybody.
        let first_only = text.chars().skip(1).all(char::is_lowercase);
        let all_upper = text.chars().all(char::is_uppercase);
        return (first_only || all_upper).then_some("a boolean");
    }
    if text == "<<" {
        return Some("a merge key");
    }
    if text == "=" {
        return Some("a default value");
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if unsigned.len() > 1 && unsigned.starts_with('0') && digits(unsigned) {
        return Some("an octal number");
    }
    if unsigned.starts_with("0o") && digits(&unsigned[2..]) {
        return Some("a text");
    }
    if unsigned.starts_with("0b")
        && unsigned.len() > 2
        && unsigned[2..].bytes().all(|b| matches!(b, b'0' | b'1' | b'_'))
    {
        return Some("a binary number");
    }
    if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
        let without = unsigned.replace('_', "");
        if without != unsigned && float(&without).is_some() {
            return Some("a number");
        }
        let mut parts = unsigned.split('.').next().unwrap_or_default().split(':');
        if unsigned.contains(':')
            && parts.next().is_some_and(|part| digits(&part.replace('_', "")))
            && parts.clone().count() > 0
            && parts.all(|part| digits(part) && part.len() <= 2 && part.parse::<u8>().is_ok_and(|n| n < 60))
        {
            return Some("a number of base 60");
        }
        let exponent = unsigned.find(['e', 'E']);
        let mantissa_has_point = exponent.is_some_and(|at| unsigned[..at].contains('.'));
        if exponent.is_some()
            && !unsigned.starts_with("0x")
            && !mantissa_has_point
            && float(unsigned).is_some()
        {
            return Some("a text");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_plain_text_stands_for() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("true", json!(true)),
            ("False", json!(false)),
            ("tRUE", json!("tRUE")),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+12", json!(12)),
            ("0x1F", json!(31)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("1.5", json!(1.5)),
            ("-.5", json!(-0.5)),
            ("1e3", json!(1000.0)),
            ("-", json!("-")),
            (".", json!(".")),
            ("1.2.3", json!("1.2.3")),
            ("127.0.0.1:80", json!("127.0.0.1:80")),
            ("--1", json!("--1")),
            ("nan", json!("nan")),
            ("inf", json!("inf")),
            ("e5", json!("e5")),
            ("24h", json!("24h")),
            ("yes", json!("yes")),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
    }

    #[test]
    fn what_yaml_1_1_reads_differently() {
        for (text, reading) in [
            ("yes", Some("a boolean")),
            ("NO", Some("a boolean")),
            ("On", Some("a boolean")),
            ("y", Some("a boolean")),
            ("N", Some("a boolean")),
            ("yEs", None),
            ("true", None),
            ("010", Some("an octal number")),
            ("-010", Some("an octal number")),
            ("0o17", Some("a text")),
            ("0b11", Some("a binary number")),
            ("0", None),
            ("0x1F", None),
            ("1_000", Some("a number")),
            ("1:20", Some("a number of base 60")),
            ("1:20:30.5", Some("a number of base 60")),
            ("1:75", None),
            ("12:30:45", Some("a number of base 60")),
            ("127.0.0.1:80", None),
            ("1e3", Some("a text")),
            ("1.0e+3", None),
            ("<<", Some("a merge key")),
            ("2026-01-01T00:00:00Z", None),
            ("event.data.amount", None),
            ("nats://nats:4222", None),
        ] {
            assert_eq!(read_differently(text), reading, "{text}");
        }
    }
}
