//! Digests, for telling apart, not for proving.

use sha2::{Digest, Sha256};

/// The first half of a SHA-256, in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .take(16)
        .fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}
