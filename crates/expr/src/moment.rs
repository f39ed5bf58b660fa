//! Moments as text.

use jiff::Timestamp;

/// Reads a moment in RFC 3339.
///
/// # Errors
/// What is wrong with it and what to write, as the end of a sentence about it.
pub fn parse_moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error: jiff::Error| {
        if error.is_range() {
            format!("is no moment that there is, or is after {}, the last one that is known", Timestamp::MAX)
        } else {
            "is not a moment in RFC 3339, such as '2026-01-31T12:00:00Z'".to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_moment_is_told_from_what_is_beyond_the_last() {
        parse_moment("9999-12-30T22:00:00.999999999Z").unwrap();
        for (text, part) in [
            ("9999-12-30T22:00:01Z", "is after 9999-12-30T22:00:00.999999999Z"),
            ("9999-12-31T23:59:59Z", "is after 9999-12-30T22:00:00.999999999Z"),
            ("2026-02-30T00:00:00Z", "no moment that there is"),
            ("yesterday", "such as '2026-01-31T12:00:00Z'"),
            ("2026-01-31", "such as '2026-01-31T12:00:00Z'"),
        ] {
            let fault = parse_moment(text).unwrap_err();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }
}
