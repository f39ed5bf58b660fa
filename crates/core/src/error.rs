use std::time::Duration;

use crate::{Expected, StreamId, Token, Version};

/// The result of an operation on a log, a view or a saga.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed, by what its caller does next.
///
/// The set is closed: `api` maps each variant to one gRPC code and one HTTP status, and no layer in between
/// invents another. Messages say what was attempted, on what, what was wrong and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request can never succeed as it is: correct the named field and send it again.
    #[error("{field}: {message}")]
    Invalid {
        /// Path of the offending field in the caller's words, for example `events[2].data`.
        field: String,
        /// What is wrong with it and what to do.
        message: String,
    },

    /// The caller proves nothing, or something that does not hold: send another proof.
    #[error("{message}")]
    Unauthenticated {
        /// What was asked for, and which proof is needed.
        message: String,
    },

    /// The caller may not do this: have it allowed, or call as another.
    #[error("{message}")]
    PermissionDenied {
        /// What was asked for, by whom, and what is missing.
        message: String,
    },

    /// What the request names does not exist.
    #[error("{message}")]
    NotFound {
        /// What was looked for and where.
        message: String,
    },

    /// The stream id is not at the expected version: read on from `current`, decide again, append again.
    #[error(
        "stream \"{stream_id}\" is at version {current}, but the append expected {expected}; nothing was stored: read the events after the version you know, decide again, and append with the version you then see"
    )]
    WrongVersion {
        /// The stream id that was appended to.
        stream_id: StreamId,
        /// What the append expected.
        expected: Expected,
        /// The version that the stream id is at; 0 when it has no events.
        current: Version,
    },

    /// An event id of the request is taken by another event. Repeating does not help.
    #[error("{message}")]
    AlreadyExists {
        /// Which id, where it is, and how the request differs.
        message: String,
    },

    /// The state of the thing asked for does not allow it now; the message says what to do first.
    #[error("{message}")]
    FailedPrecondition {
        /// What stands in the way and what to do.
        message: String,
    },

    /// A limit of space is reached (a full disk, a full queue): nothing was stored.
    #[error("{message}")]
    Exhausted {
        /// Which limit, and how to raise it or when to retry.
        message: String,
    },

    /// The answer did not come in time; the operation may still take effect. Safe to repeat.
    #[error("{message}")]
    DeadlineExceeded {
        /// What was waited for and how long.
        message: String,
        /// The token that had been reached, where the wait was for one.
        reached: Option<Token>,
    },

    /// A part that is needed cannot be reached now. Safe to repeat, with the same event ids.
    #[error("{message}")]
    Unavailable {
        /// What could not be reached, and why.
        message: String,
        /// How long the other side asks to wait, where it said so.
        retry_after: Option<Duration>,
    },

    /// The caller is shutting the operation down.
    #[error(
        "the operation was cancelled because the process is shutting down; repeat it against a running one"
    )]
    Cancelled,

    /// Stored data contradicts itself, or was written by a newer version: stop and look.
    #[error("{message}")]
    Corrupt {
        /// Where, what was found, and what was expected.
        message: String,
    },

    /// A fault of Headwater itself. Worth a bug report.
    #[error("{message}")]
    Internal {
        /// What failed.
        message: String,
    },
}

impl Error {
    /// The request's `field` is wrong as `message` says.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }

    /// The caller has not proven who it is.
    pub fn unauthenticated(message: impl Into<String>) -> Self {
        Self::Unauthenticated { message: message.into() }
    }

    /// The caller may not do this.
    pub fn permission_denied(message: impl Into<String>) -> Self {
        Self::PermissionDenied { message: message.into() }
    }

    /// What was asked for does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::NotFound { message: message.into() }
    }

    /// An event id is taken.
    pub fn already_exists(message: impl Into<String>) -> Self {
        Self::AlreadyExists { message: message.into() }
    }

    /// Something has to be done first.
    pub fn failed_precondition(message: impl Into<String>) -> Self {
        Self::FailedPrecondition { message: message.into() }
    }

    /// A limit of space is reached.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::Exhausted { message: message.into() }
    }

    /// Something cannot be reached now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), retry_after: None }
    }

    /// Stored data contradicts itself.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::Corrupt { message: message.into() }
    }

    /// A fault of Headwater itself.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::Internal { message: message.into() }
    }

    /// Which kind it is, in one word: what metrics and traces say of it, for its message may quote what somebody sent.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::WrongVersion { .. } => "wrong_version",
            Self::AlreadyExists { .. } => "already_exists",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::FailedPrecondition { .. } => "failed_precondition",
            Self::Exhausted { .. } => "exhausted",
            Self::DeadlineExceeded { .. } => "deadline_exceeded",
            Self::Unavailable { .. } => "unavailable",
            Self::Cancelled => "shutting_down",
            Self::Corrupt { .. } => "corrupt",
            Self::Internal { .. } => "internal",
        }
    }

    /// Whether the same request, with the same event ids, may succeed when sent again unchanged.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::DeadlineExceeded { .. }
                | Self::Exhausted { .. }
                | Self::Cancelled
        )
    }

    /// Puts `prefix` before the path of an [`Error::Invalid`], as the request that held the field names it.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        match self {
            Self::Invalid { field, message } if field.is_empty() => {
                Self::Invalid { field: prefix.to_owned(), message }
            }
            Self::Invalid { field, message } => Self::Invalid { field: format!("{prefix}.{field}"), message },
            other => other,
        }
    }
}
