/// How a database or a broker fails us.
///
/// Its message reaches others as text: as the last words of a process, or in an answer. They tell the case by its words, which whoever makes
/// the message takes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendFault {
    /// It does not answer, or says something else.
    Unreachable,
    /// It refuses who we say to be.
    Credentials,
    /// No TLS connection comes about.
    Tls,
    /// It has lost what it had acknowledged.
    Lost,
    /// What is there belongs to another resource.
    Owned,
    /// What is there has a format that only a newer version knows.
    Newer,
}

impl BackendFault {
    /// What the message says to do, or what is done; empty where nothing tells the case from others.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unreachable => "",
            Self::Credentials => "look at the credentials",
            Self::Tls => "look at the TLS settings",
            Self::Lost => "what is missing is published again",
            Self::Owned => "it is another resource's",
            Self::Newer => "by a newer Headwater",
        }
    }

    /// Which case `message` is of.
    pub fn of(message: &str) -> Self {
        let told = [Self::Credentials, Self::Tls, Self::Lost, Self::Owned, Self::Newer];
        told.into_iter().find(|it| message.contains(it.words())).unwrap_or(Self::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_told_by_its_words() {
        for fault in [
            BackendFault::Credentials,
            BackendFault::Tls,
            BackendFault::Lost,
            BackendFault::Owned,
            BackendFault::Newer,
        ] {
            assert_eq!(BackendFault::of(&format!("connecting to db:5432: no; {}", fault.words())), fault);
        }
        assert_eq!(BackendFault::of("connecting to db:5432: connection refused"), BackendFault::Unreachable);
    }
}
