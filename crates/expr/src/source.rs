//! Places in a source: where strings, comments and brackets begin and end, and what text a part of the tree covers.

use std::ops::Range;

/// The offset after the token that begins at `at`, as far as brackets are concerned: a whole string literal, a whole
/// comment, else one character. A string or comment without an end goes to the end of the source.
pub(crate) fn after_token(source: &str, at: usize) -> usize {
    let rest = &source[at..];
    let bytes = rest.as_bytes();
    match bytes[0] {
        quote @ (b'"' | b'\'') => {
            let raw = is_raw(source, at);
            let length = if bytes.len() >= 3 && bytes[1] == quote && bytes[2] == quote { 3 } else { 1 };
            let closing = &bytes[..length];
            let mut end = length;
            while end < bytes.len() {
                if bytes[end] == b'\\' && !raw {
                    end += 2;
                } else if bytes[end..].starts_with(closing) {
                    return at + end + length;
                } else {
                    end += 1;
                }
            }
            source.len()
        }
        b'/' if bytes.get(1) == Some(&b'/') => rest.find('\n').map_or(source.len(), |newline| at + newline),
        _ => at + rest.chars().next().map_or(1, char::len_utf8),
    }
}

/// Whether the string literal whose quote stands at `at` has an `r` before it, perhaps with a `b`.
fn is_raw(source: &str, at: usize) -> bool {
    let before = &source.as_bytes()[..at];
    let prefix =
        before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let prefix = &source[at - prefix..at];
    prefix.len() <= 2 && prefix.contains(['r', 'R'])
}

/// The pairs of brackets in a source.
pub(crate) struct Brackets {
    /// Opening and closing offset.
    pairs: Vec<(usize, usize)>,
}

impl Brackets {
    pub(crate) fn of(source: &str) -> Brackets {
        let (mut pairs, mut open) = (Vec::new(), Vec::new());
        let mut at = 0;
        while at < source.len() {
            match source.as_bytes()[at] {
                b'(' | b'[' | b'{' => open.push(at),
                b')' | b']' | b'}' => pairs.extend(open.pop().map(|opening| (opening, at))),
                _ => {}
            }
            at = after_token(source, at);
        }
        pairs.sort_unstable();
        Brackets { pairs }
    }

    /// The offset after the bracket that closes the one at `opening`.
    pub(crate) fn after_closing(&self, opening: usize) -> Option<usize> {
        let found = self.pairs.binary_search_by_key(&opening, |(open, _)| *open).ok()?;
        Some(self.pairs[found].1 + 1)
    }

    /// The smallest range around `range` that cuts no pair in two.
    pub(crate) fn around(&self, mut range: Range<usize>) -> Range<usize> {
        loop {
            let before = range.clone();
            for &(open, close) in &self.pairs {
                if open < range.start && range.contains(&close) {
                    range.start = open;
                }
                if range.contains(&open) && close >= range.end {
                    range.end = close + 1;
                }
            }
            if range == before {
                return range;
            }
        }
    }
}

/// The offset of the `}` that ends the template expression beginning at `at`.
pub(crate) fn closing_brace(source: &str, mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    while at < source.len() {
        match source.as_bytes()[at] {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        at = after_token(source, at);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_hide_their_brackets() {
        for (source, end) in [
            ("a}", 1),
            ("{'a': {}}}", 9),
            ("'}'}", 3),
            (r#""\"}"}"#, 5),
            (r"r'\'}", 4),
            (r"'\\'}", 4),
            ("'''}'}'''}", 9),
            ("x // }\n}", 7),
            ("bar'}'}", 6),
        ] {
            assert_eq!(closing_brace(source, 0), Some(end), "{source}");
        }
        assert_eq!(closing_brace("'}", 0), None);
        assert_eq!(closing_brace("{}", 0), None);
        assert_eq!(closing_brace(r"'\", 0), None);
    }

    #[test]
    fn ranges_grow_to_whole_brackets() {
        let source = "((a + b) * [c][0])";
        let brackets = Brackets::of(source);
        assert_eq!(brackets.after_closing(1), Some(8));
        assert_eq!(brackets.after_closing(2), None);
        assert_eq!(&source[brackets.around(2..14)], "(a + b) * [c]");
        assert_eq!(&source[brackets.around(2..3)], "a");
    }
}
