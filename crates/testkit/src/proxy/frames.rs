//! Bytes of PostgreSQL's protocol, cut into messages.

/// A message: its kind, and all its bytes. What a client sends first has no kind: 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) bytes: Vec<u8>,
}

impl Frame {
    /// A message of this kind.
    pub(super) fn new(kind: u8, body: &[u8]) -> Self {
        let mut bytes = vec![kind];
        // The length counts itself; nothing that is made here is long.
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        Self { kind, bytes }
    }

    /// A query by the simple protocol.
    pub(super) fn query(sql: &str) -> Self {
        Self::new(b'Q', &[sql.as_bytes(), b"\0"].concat())
    }

    /// An error that ends a statement.
    pub(super) fn error(sqlstate: &str) -> Self {
        let message = "by injection of the proxy";
        Self::new(b'E', format!("SERROR\0VERROR\0C{sqlstate}\0M{message}\0\0").as_bytes())
    }

    /// What the server says when it waits for the next statement.
    pub(super) fn ready(status: u8) -> Self {
        Self::new(b'Z', &[status])
    }

    /// What comes after kind and length.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(if self.kind == 0 { 4 } else { 5 }..).unwrap_or_default()
    }

    /// The texts that the body begins with, each up to a zero.
    pub(super) fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.body().split(|byte| *byte == 0)
    }
}

/// What has come of messages that are not whole yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole message.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let kind = *self.bytes.first()?;
        self.cut(1).map(|bytes| Frame { kind, bytes })
    }

    /// The next whole message of those without a kind, with which a client begins.
    pub(super) fn first(&mut self) -> Option<Frame> {
        self.cut(0).map(|bytes| Frame { kind: 0, bytes })
    }

    fn cut(&mut self, length_at: usize) -> Option<Vec<u8>> {
        let length = self.bytes.get(length_at..length_at + 4)?;
        let length = length.iter().fold(0, |length, byte| (length << 8) + usize::from(*byte));
        let end = length_at + length.max(4);
        if self.bytes.len() < end {
            return None;
        }
        let rest = self.bytes.split_off(end);
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_they_are_cut() {
        let sent =
            [Frame::query("SELECT 1"), Frame::new(b'S', b""), Frame::error("40001"), Frame::ready(b'I')];
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| frame.bytes.clone()).collect();
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for part in bytes.chunks(size) {
                frames.push(part);
                got.extend(std::iter::from_fn(|| frames.next()));
            }
            assert_eq!(got, sent, "cut to {size}");
        }
        assert_eq!(sent[0].texts().next(), Some(b"SELECT 1".as_slice()));
    }
}
