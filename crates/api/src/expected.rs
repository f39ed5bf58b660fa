//! An expectation as text: `any`, `no_stream`, `exists`, or a version.

use headwater_core::{Error, Expected, Result, Version};

/// The text of `expected`.
pub fn to_text(expected: Expected) -> String {
    match expected {
        Expected::Any => "any".to_owned(),
        Expected::NoStream => "no_stream".to_owned(),
        Expected::Exists => "exists".to_owned(),
        Expected::Version(version) => version.to_string(),
    }
}

/// The expectation that `text` says.
///
/// # Errors
/// `Invalid` with the list of what is known.
pub fn from_text(text: &str) -> Result<Expected> {
    match text {
        "any" => Ok(Expected::Any),
        "no_stream" => Ok(Expected::NoStream),
        "exists" => Ok(Expected::Exists),
        _ => text
            .parse()
            .map(Version::new)
            .ok()
            .filter(|version| *version <= Version::MAX)
            .map(Expected::Version)
            .ok_or_else(|| {
                Error::invalid(
                    "expected",
                    format!(
                        "{text:?} is no expectation; give any, no_stream, exists, or a version such as 3"
                    ),
                )
            }),
    }
}
