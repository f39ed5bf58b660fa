use bytes::Bytes;

use crate::json::check_json;
use crate::{Error, Result};

/// The metadata of an event: the text of a JSON object, kept as it came.
///
/// Known keys are `correlation_id`, `causation_id` and `traceparent`; all others are the user's.
#[derive(Clone, PartialEq, Eq)]
pub struct Metadata(Bytes);

impl Metadata {
    /// An empty object.
    pub const fn empty() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Checks that `bytes` is a JSON object. No bytes at all are an empty object.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not.
    pub fn new(bytes: Bytes) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Self::empty());
        }
        match check_json(&bytes) {
            Ok(raw) if raw.get().starts_with('{') => Ok(Self(bytes)),
            Ok(_) => Err(Error::invalid(
                "metadata",
                "not a JSON object; give an object, for example {\"correlation_id\": \"…\"}",
            )),
            Err(fault) => Err(Error::invalid("metadata", format!("{fault}; give a JSON object"))),
        }
    }

    /// Takes what a log gave back, which was checked when it was stored.
    pub fn from_stored(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(bytes) }
    }

    /// Whether there are no keys, in its shortest spelling.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref() == b"{}"
    }

    /// The object's text, as it came.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The same text with `key` and its value `text` at the object's end; `None` where the object has the key, whatever its value.
    pub fn with_new(&self, key: &str, text: &str) -> Option<Self> {
        let keys = self.object()?;
        if keys.contains_key(key) {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'}')?;
        let (before, after) = self.0.split_at(end);
        let comma = if keys.is_empty() { "" } else { "," };
        let (key, text) = (serde_json::Value::from(key), serde_json::Value::from(text));
        let added = format!("{comma}{key}:{text}");
        Some(Self(Bytes::from([before, added.as_bytes(), after].concat())))
    }

    /// The text value of `key`, where the object has it.
    pub fn text(&self, key: &str) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        self.object()?.get(key)?.as_str().map(str::to_owned)
    }

    fn object(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        serde_json::from_slice(&self.0).ok()
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self::empty()
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_an_object() {
        fn check(text: &'static str, fault: Option<&str>) {
            match (Metadata::new(Bytes::from_static(text.as_bytes())), fault) {
                (Ok(_), None) => {}
                (Err(error), Some(fault)) => assert!(error.to_string().contains(fault), "{error}"),
                (result, _) => panic!("{text} gave {result:?}"),
            }
        }
        check("", None);
        check("{}", None);
        check("  {\"a\": 1} ", None);
        check("[]", Some("not a JSON object"));
        check("{", Some("not JSON"));
        check("{\"a\":1}x", Some("not JSON"));
        check("{\"a\":\"\\udc00\"}", Some("half of a surrogate pair"));
    }

    #[test]
    fn a_key_is_added_where_it_is_not() {
        #[track_caller]
        fn check(before: &'static str, after: Option<&str>) {
            let metadata = Metadata::new(Bytes::from_static(before.as_bytes())).unwrap();
            let added = metadata.with_new("traceparent", "00-\"");
            assert_eq!(added.as_ref().map(|it| std::str::from_utf8(it.as_bytes()).unwrap()), after);
            if let Some(added) = added {
                assert_eq!(added.text("traceparent").as_deref(), Some("00-\""));
                assert!(Metadata::new(added.as_bytes().clone()).is_ok());
            }
        }
        check("", Some(r#"{"traceparent":"00-\""}"#));
        check(" { } ", Some(r#" { "traceparent":"00-\""} "#));
        check(r#"{"a": "}" }  "#, Some(r#"{"a": "}" ,"traceparent":"00-\""}  "#));
        check(r#"{"a":{"traceparent":"x"}}"#, Some(r#"{"a":{"traceparent":"x"},"traceparent":"00-\""}"#));
        check(r#"{"traceparent":null}"#, None);
        check(r#"{"\u0074raceparent":"x"}"#, None);
    }

    #[test]
    fn known_keys_are_read() {
        let metadata = Metadata::new(Bytes::from_static(br#"{"correlation_id":"c-1","n":1}"#)).unwrap();
        assert_eq!(metadata.text("correlation_id").as_deref(), Some("c-1"));
        assert_eq!(metadata.text("n"), None);
        assert_eq!(metadata.text("causation_id"), None);
    }
}
