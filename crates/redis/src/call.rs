//! What goes to a script and what comes back.

use headwater_core::{Error, Result};
use redis::Value;

/// Texts one after the other, in one piece of memory: a batch has ten thousands of them.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    pub(crate) fn push(&mut self, text: impl AsRef<[u8]>) {
        self.bytes.extend_from_slice(text.as_ref());
        self.ends.push(self.bytes.len());
    }

    /// Pushes a number as text; `None` as nothing.
    pub(crate) fn push_number(&mut self, number: impl Into<Option<u64>>) {
        match number.into() {
            Some(number) => self.push(number.to_string()),
            None => self.push(""),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// One call of a script.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) keys: Texts,
    pub(crate) args: Texts,
}

impl Call {
    pub(crate) fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.keys.push(key);
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<[u8]>) -> Self {
        self.args.push(arg);
        self
    }

    pub(crate) fn number(mut self, number: impl Into<Option<u64>>) -> Self {
        self.args.push_number(number);
        self
    }
}

/// What a script or a command gave, taken apart from front to back.
#[derive(Debug)]
pub(crate) struct Reply(std::vec::IntoIter<Value>);

fn unexpected(what: &str) -> Error {
    Error::corrupt(format!(
        "reading what Redis answers: {what}; somebody else has written to Headwater's keys: give the projection another prefix, by sink.redis.keyPrefix"
    ))
}

/// The bytes of a value; `None`: there is none.
pub(crate) fn bytes(value: Value) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Int(number) => Ok(Some(number.to_string().into_bytes())),
        _ => Err(unexpected("no text where one belongs")),
    }
}

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self> {
        // Which of these it is depends on the protocol that client and server have agreed on.
        match value {
            Value::Array(values) | Value::Set(values) => Ok(Self(values.into_iter())),
            Value::Map(pairs) => {
                let values: Vec<_> = pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
                Ok(Self(values.into_iter()))
            }
            _ => Err(unexpected("no list where one belongs")),
        }
    }

    fn next(&mut self) -> Result<Value> {
        self.0.next().ok_or_else(|| unexpected("less than there must be"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// A list.
    pub(crate) fn list(&mut self) -> Result<Self> {
        Self::new(self.next()?)
    }

    /// Bytes that may be missing.
    pub(crate) fn bytes(&mut self) -> Result<Option<Vec<u8>>> {
        bytes(self.next()?)
    }

    /// Text that may be missing.
    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>> {
        let bytes = self.bytes()?;
        bytes.map(String::from_utf8).transpose().map_err(|_| unexpected("no UTF-8 where text belongs"))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        self.maybe_text()?.ok_or_else(|| unexpected("nothing where text belongs"))
    }

    /// A number that may be missing.
    pub(crate) fn maybe_number<N: std::str::FromStr>(&mut self) -> Result<Option<N>> {
        let text = self.maybe_text()?;
        text.map(|text| text.parse().map_err(|_| unexpected("no number where one belongs"))).transpose()
    }

    pub(crate) fn number<N: std::str::FromStr>(&mut self) -> Result<N> {
        self.maybe_number()?.ok_or_else(|| unexpected("nothing where a number belongs"))
    }

    /// The lists that are left.
    pub(crate) fn lists(self) -> impl Iterator<Item = Result<Self>> {
        self.0.map(Self::new)
    }

    /// What is left, as bytes that may be missing.
    pub(crate) fn all_bytes(self) -> impl Iterator<Item = Result<Option<Vec<u8>>>> {
        self.0.map(bytes)
    }

    /// What is left, as names and values.
    pub(crate) fn pairs(mut self) -> Result<Vec<(String, String)>> {
        let mut pairs = Vec::with_capacity(self.0.len() / 2);
        while !self.is_empty() {
            pairs.push((self.text()?, self.text()?));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart() {
        let mut texts = Texts::default();
        for text in ["a", "", "bc"] {
            texts.push(text);
        }
        texts.push_number(7);
        texts.push_number(None);
        assert_eq!(texts.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc", b"7", b""]);
        assert_eq!(texts.len(), 5);
    }
}
