use serde_json::value::RawValue;

/// How deep JSON may be nested. Readers that hold it as a tree stop at 127 or 128, of which an event's page and envelope take some.
const MAX_DEPTH: usize = 100;

/// Checks that `bytes` are one JSON text that every reader can read: beside the grammar, nested no deeper than a reader's stack, and
/// with no escape that stands for half a character, which is no text at all. Says what is wrong and what to do.
pub(crate) fn check_json(bytes: &[u8]) -> Result<&RawValue, String> {
    let json = serde_json::from_slice::<&RawValue>(bytes).map_err(|error| format!("not JSON: {error}"))?;
    let text = json.get().as_bytes();
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' => at = end_of_string(text, at + 1)?,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!(
                "the JSON is nested deeper than {MAX_DEPTH} levels at byte {at}; make it flatter"
            ));
        }
        at += 1;
    }
    Ok(json)
}

/// Where the string ends whose first character is at `at`, in text that keeps to the grammar.
fn end_of_string(text: &[u8], mut at: usize) -> Result<usize, String> {
    loop {
        at += match (text.get(at), code_unit(text, at)) {
            (None | Some(b'"'), _) => return Ok(at),
            (_, Some(0xd800..=0xdbff)) if matches!(code_unit(text, at + 6), Some(0xdc00..=0xdfff)) => 12,
            (_, Some(0xd800..=0xdfff)) => {
                return Err(format!(
                    "the escape {} at byte {at} is half of a surrogate pair and no character; send the whole pair, or the character itself",
                    String::from_utf8_lossy(&text[at..at + 6])
                ));
            }
            (_, Some(_)) => 6,
            (Some(b'\\'), None) => 2,
            (Some(_), None) => 1,
        }
    }
}

/// The UTF-16 code unit that the escape at `at` stands for, if one is there.
fn code_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_reader_refuses_is_refused_at_once() {
        #[track_caller]
        fn check(text: &str, fault: Option<&str>) {
            let error = check_json(text.as_bytes()).err();
            match fault {
                None => {
                    assert_eq!(error, None, "{text}");
                    // Numbers aside, of which readers have their own ideas.
                    if !text.contains("1e400") {
                        serde_json::from_str::<serde_json::Value>(text).unwrap();
                    }
                }
                Some(fault) => {
                    assert!(error.as_ref().is_some_and(|error| error.contains(fault)), "{error:?}");
                }
            }
        }
        let nested = |depth: usize| format!("{}1{}", "[{\"a\":".repeat(depth / 2), "}]".repeat(depth / 2));
        check(&nested(100), None);
        check(&nested(102), Some("nested deeper than 100 levels"));
        check(&format!("[{}[]]", "[],".repeat(500)), None);
        check(&format!("\"{}\"", "[{".repeat(500)), None);
        check(&format!("\"\\\"{}\"", "[".repeat(500)), None);
        check(r#"["\ud83d\ude00", "\u00fc", "\\ud800", "\\\\", "1e5", 1e400, "ü"]"#, None);
        check(r#"{"\ud83d\ude00":"\uD83D\uDE00\""}"#, None);
        check(r#""\ud800""#, Some("\\ud800 at byte 1 is half"));
        check(r#"{"a\udc00":1}"#, Some("\\udc00 at byte 3 is half"));
        check(r#""\ud83d\u0041""#, Some("\\ud83d at byte 1"));
        check(r#""\ud83d\ud83d\ude00""#, Some("\\ud83d at byte 1"));
        check(r#""\ud83d \ude00""#, Some("\\ud83d at byte 1"));
        check("{", Some("not JSON: EOF"));
        check("\"\u{1}\"", Some("not JSON"));
        assert!(check_json(b"\"\xff\"").is_err());
    }
}
