use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::{Error, Result};

/// Longest stream id, event type or content type, in bytes of UTF-8: what fits an index key of every database that is supported.
pub(crate) const MAX_NAME_BYTES: usize = 255;

/// Checks text that names something: not empty, not too long, no control characters.
pub(crate) fn check_name(field: &str, what: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(
            field,
            format!("the {what} is empty; give 1 to {MAX_NAME_BYTES} bytes of UTF-8"),
        ));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(Error::invalid(
            field,
            format!(
                "the {what} has {} bytes; at most {MAX_NAME_BYTES} bytes of UTF-8 are allowed",
                text.len()
            ),
        ));
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(
            field,
            format!("the {what} has the control character U+{:04X}; remove it", u32::from(c)),
        ));
    }
    Ok(())
}

/// A step in a path: clients of HTTP take `.` and `..` out of a URL, also percent-encoded, and would ask for something else.
fn check_not_dots(stream_id: &str) -> Result<()> {
    if matches!(stream_id, "." | "..") {
        return Err(Error::invalid(
            "stream_id",
            format!("{stream_id:?} is a step in a URL's path and cannot name a stream; give another name"),
        ));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $field:literal, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes `text`.
            ///
            /// # Errors
            /// [`Error::Invalid`] when it is empty, over 255 bytes, has a control character, or is a name that the type excludes.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                check_name($field, $what, text)?;
                $check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// Checks bytes that came from a wire that does not promise UTF-8.
            ///
            /// # Errors
            /// As [`new`](Self::new), and when the bytes are no UTF-8.
            pub fn from_utf8(bytes: &[u8]) -> Result<Self> {
                let text = std::str::from_utf8(bytes).map_err(|error| {
                    Error::invalid($field, format!(concat!("the ", $what, " is not UTF-8 from byte {} on; send UTF-8"), error.valid_up_to()))
                })?;
                Self::new(text)
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Names the events of one aggregate, for example `order-010c16c3`: 1 to 255 bytes of UTF-8 without control characters, and
    /// neither `.` nor `..`.
    StreamId,
    "stream_id",
    "stream id",
    check_not_dots
);
name!(
    /// What happened, for example `OrderCreated`: 1 to 255 bytes of UTF-8 without control characters.
    EventType,
    "type",
    "event type",
    |_| Ok::<(), Error>(())
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_clean_utf8() {
        fn check(bytes: &[u8], fault: Option<&str>) {
            match (StreamId::from_utf8(bytes), fault) {
                (Ok(id), None) => assert_eq!(id.as_str().as_bytes(), bytes),
                (Err(Error::Invalid { field, message }), Some(fault)) => {
                    assert_eq!(field, "stream_id");
                    assert!(message.contains(fault), "{message}");
                }
                (result, _) => panic!("{bytes:?} gave {result:?}"),
            }
        }
        check(b"order-1", None);
        check("konto-\u{1F3E6} \u{e9}".as_bytes(), None);
        check(&[b'a'; 255], None);
        check(&[b'a'; 256], Some("256 bytes"));
        check(b"", Some("is empty"));
        check(b"a\nb", Some("U+000A"));
        check(b"a\xffb", Some("not UTF-8 from byte 1"));
        check(b".", Some("a step in a URL's path"));
        check(b"..", Some("a step in a URL's path"));
        check(b"...", None);
        check(b".hidden", None);
        assert!(EventType::new("..").is_ok());
    }
}
