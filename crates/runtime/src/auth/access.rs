//! What a caller may do: `access` of a resource, as it is asked at every request.

use std::fmt;

use super::{Caller, Identity};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Append events.
    Append,
    /// Read events.
    Read,
    /// Query read models, and how sagas stand.
    Query,
    /// Look at what administration looks at.
    Admin,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A name, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// Every one of its type.
    Any,
    /// This one.
    Exactly(String),
}

impl Name {
    fn is(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(wanted) => wanted == name,
        }
    }
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Service accounts.
    ServiceAccount {
        /// Of this namespace.
        namespace: String,
        /// Of this name.
        name: Name,
    },
    /// Holders of a client certificate.
    Certificate(Name),
    /// Holders of a bearer token.
    Token(Name),
    /// Holders of a JSON Web Token that is no service account's.
    Jwt(Name),
    /// Everybody: whoever has proven something could leave it out.
    Anonymous,
}

impl Subject {
    fn covers(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Anonymous, _) => true,
            (
                Self::ServiceAccount { namespace, name },
                Identity::ServiceAccount { namespace: its, name: called },
            ) => namespace == its && name.is(called),
            (Self::Certificate(name), Identity::Certificate(its))
            | (Self::Token(name), Identity::Token(its))
            | (Self::Jwt(name), Identity::Jwt(its)) => name.is(its),
            _ => false,
        }
    }
}

/// What one subject may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// Who.
    pub subject: Subject,
    /// What.
    pub verbs: Vec<Verb>,
}

/// What callers may do: what some rule allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access(pub Vec<Allowed>);

impl Access {
    /// That of a resource in `namespace` without rules of its own: the service accounts of its namespace may do all but `Admin`.
    pub fn of_namespace(namespace: impl Into<String>) -> Self {
        let subject = Subject::ServiceAccount { namespace: namespace.into(), name: Name::Any };
        Self(vec![Allowed { subject, verbs: vec![Verb::Append, Verb::Read, Verb::Query] }])
    }

    /// Whether `caller` may do it.
    pub fn allows(&self, caller: &Caller, verb: Verb) -> bool {
        self.0.iter().filter(|rule| rule.verbs.contains(&verb)).any(|rule| {
            rule.subject == Subject::Anonymous
                || caller.0.iter().any(|identity| rule.subject.covers(identity))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(namespace: &str, name: &str) -> Caller {
        Caller(vec![Identity::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }])
    }

    fn nobody() -> Caller {
        Caller(Vec::new())
    }

    #[test]
    fn without_rules_the_service_accounts_of_the_namespace_may_do_all_but_admin() {
        let access = Access::of_namespace("shop");
        for verb in [Verb::Append, Verb::Read, Verb::Query] {
            assert!(access.allows(&account("shop", "orders"), verb), "{verb}");
            assert!(!access.allows(&account("shop2", "orders"), verb), "{verb}");
            assert!(!access.allows(&nobody(), verb), "{verb}");
            assert!(!access.allows(&Caller(vec![Identity::Jwt("shop".into())]), verb), "{verb}");
        }
        assert!(!access.allows(&account("shop", "orders"), Verb::Admin));
    }

    #[test]
    fn a_rule_is_about_one_kind_of_proof_and_one_name_or_all() {
        let exactly = |name: &str| Name::Exactly(name.to_owned());
        let rule = |subject, verb| Access(vec![Allowed { subject, verbs: vec![verb] }]);
        let called = |make: fn(String) -> Identity, name: &str| Caller(vec![make(name.to_owned())]);
        for (subject, make) in [
            (Subject::Certificate as fn(Name) -> Subject, Identity::Certificate as fn(String) -> Identity),
            (Subject::Token, Identity::Token),
            (Subject::Jwt, Identity::Jwt),
        ] {
            let access = rule(subject(exactly("a")), Verb::Read);
            assert!(access.allows(&called(make, "a"), Verb::Read));
            assert!(!access.allows(&called(make, "a"), Verb::Append));
            assert!(!access.allows(&called(make, "b"), Verb::Read));
            assert!(!access.allows(&nobody(), Verb::Read));
            assert!(!access.allows(&account("a", "a"), Verb::Read));
            let access = rule(subject(Name::Any), Verb::Read);
            assert!(access.allows(&called(make, "b"), Verb::Read));
            assert!(!access.allows(&nobody(), Verb::Read));
            assert!(!access.allows(&account("a", "a"), Verb::Read));
        }
        let subject = Subject::ServiceAccount { namespace: "a".to_owned(), name: exactly("b") };
        let access = rule(subject, Verb::Append);
        assert!(access.allows(&account("a", "b"), Verb::Append));
        assert!(!access.allows(&account("b", "b"), Verb::Append));
        assert!(!access.allows(&account("a", "c"), Verb::Append));
        let access = rule(Subject::Anonymous, Verb::Query);
        assert!(access.allows(&nobody(), Verb::Query) && access.allows(&account("x", "y"), Verb::Query));
        assert!(!access.allows(&nobody(), Verb::Read));
    }

    #[test]
    fn a_caller_may_do_what_any_of_its_proofs_may() {
        let both = Caller(vec![Identity::Certificate("a".into()), Identity::Token("b".into())]);
        let subject = Subject::Token(Name::Exactly("b".into()));
        let access = Access(vec![Allowed { subject, verbs: vec![Verb::Read] }]);
        assert!(access.allows(&both, Verb::Read));
    }
}
