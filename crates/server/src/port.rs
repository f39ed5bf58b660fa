//! A port, and what protects it.

use std::net::SocketAddr;

use axum::Router;
use axum::middleware::from_fn_with_state;
use headwater_api::errors::refusal;
use headwater_core::{Error, Result};
use headwater_resources::shared::{
    AccessRule, Server, Subject as Declared, SubjectType, Verb as DeclaredVerb,
};
use headwater_runtime::auth::{Access, Allowed, Guard, Name, Needs, Subject, Verb};
use headwater_runtime::{Listener, Security};
use tokio::net::TcpListener;

/// Who is served, and how.
#[derive(Debug, Clone)]
pub(crate) struct Protection {
    /// TLS, and who callers prove to be.
    pub(crate) security: Security,
    /// What they may do.
    pub(crate) guard: Guard,
}

impl Protection {
    /// `security` for what `needs` lists, in a process of a resource in `namespace` that has `declared` this server and these rules of
    /// access. Decisions are taken at `administration`.
    pub(crate) fn new(
        security: Security,
        needs: Needs,
        declared: (Option<&Server>, &[AccessRule]),
        namespace: &str,
        administration: String,
    ) -> Self {
        let (server, rules) = declared;
        if server.is_some_and(|server| server.tls.is_some()) && security.tls().is_none() {
            tracing::warn!(
                "spec.server.tls is for whoever runs this process, which serves plain text: --tls-cert and --tls-key have it serve TLS"
            );
        }
        let guard = security.guard(needs, access(rules, namespace), administration, refusal);
        Self { security, guard }
    }
}

/// A socket that listens, and what protects it; `None`: nothing does, since only the machine itself reaches it.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) protection: Option<Protection>,
}

impl Port {
    /// One that only the machine itself reaches.
    pub(crate) const fn open(listener: TcpListener) -> Self {
        Self { listener, protection: None }
    }

    /// Where it is.
    ///
    /// # Errors
    /// `Internal` when the listener has no address.
    pub(crate) fn url(&self) -> Result<String> {
        let scheme = self.protection.as_ref().map_or("http", |protection| protection.security.scheme());
        Ok(format!("{scheme}://{}", local_address(&self.listener)?))
    }

    /// What is accepted there.
    pub(crate) fn listen(self) -> Listener {
        let tls = self.protection.and_then(|protection| protection.security.tls());
        Listener::new(self.listener, tls)
    }

    /// `router`, where the guard lets callers through.
    pub(crate) fn guarding(&self, router: Router) -> Router {
        router.layer(from_fn_with_state(self.guard(), Guard::check))
    }

    /// Who lets callers through: whom the protection says; without one, those on the machine itself.
    pub(crate) fn guard(&self) -> Guard {
        match &self.protection {
            Some(protection) => protection.guard.clone(),
            None => Guard::of_the_machine(refusal),
        }
    }
}

pub(crate) fn local_address(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().map_err(|error| no_address(&error))
}

fn no_address(error: &std::io::Error) -> Error {
    Error::internal(format!("the address of a listening socket is not known: {error}"))
}

/// What `access` of a resource in `namespace` says.
fn access(rules: &[AccessRule], namespace: &str) -> Access {
    if rules.is_empty() {
        return Access::of_namespace(namespace);
    }
    let allowed = |rule: &AccessRule| Allowed {
        subject: subject(&rule.subject, namespace),
        verbs: rule.verbs.iter().map(|verb| done(*verb)).collect(),
    };
    Access(rules.iter().map(allowed).collect())
}

const fn done(verb: DeclaredVerb) -> Verb {
    match verb {
        DeclaredVerb::Append => Verb::Append,
        DeclaredVerb::Read => Verb::Read,
        DeclaredVerb::Query => Verb::Query,
        DeclaredVerb::Admin => Verb::Admin,
    }
}

fn subject(declared: &Declared, namespace: &str) -> Subject {
    // Rules without a name have been refused, but for Anonymous; an empty name is nobody's.
    let name = match declared.name.as_deref() {
        Some("*") => Name::Any,
        name => Name::Exactly(name.unwrap_or_default().to_owned()),
    };
    match declared.r#type {
        SubjectType::ServiceAccount => {
            let namespace = declared.namespace.as_deref().unwrap_or(namespace).to_owned();
            Subject::ServiceAccount { namespace, name }
        }
        SubjectType::CertificateName => Subject::Certificate(name),
        SubjectType::Token => Subject::Token(name),
        SubjectType::Jwt => Subject::Jwt(name),
        SubjectType::Anonymous => Subject::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use headwater_runtime::auth::{Caller, Identity};

    use super::*;

    fn rules(json: &str) -> Access {
        access(&serde_json::from_str::<Vec<AccessRule>>(json).unwrap(), "shop")
    }

    #[tokio::test]
    async fn what_is_open_is_open_to_the_machine_itself_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router =
            Port::open(listener).guarding(Router::new().route("/", axum::routing::post(async || "done")));
        for (name, value, status) in [
            ("host", "127.0.0.1:9082", 200),
            ("host", "localhost:1", 200),
            ("host", "[::1]:9082", 200),
            ("host", "rebound.example:9082", 403),
            ("host", "127.0.0.1.example", 403),
            ("origin", "http://localhost:3000", 200),
            ("origin", "https://elsewhere.example", 403),
            ("origin", "null", 403),
        ] {
            let request =
                http::Request::post("/").header(name, value).body(axum::body::Body::empty()).unwrap();
            let answer = tower::ServiceExt::oneshot(router.clone(), request).await.unwrap();
            assert_eq!(answer.status(), status, "{name}: {value}");
        }
    }

    #[test]
    fn a_service_account_is_of_the_resources_namespace_unless_the_rule_says_another() {
        let account = |namespace: &str, name: &str| {
            Caller(vec![Identity::ServiceAccount { namespace: namespace.into(), name: name.into() }])
        };
        let access = rules(
            r#"[{"subject": {"type": "ServiceAccount", "name": "a"}, "verbs": ["Append"]},
                {"subject": {"type": "ServiceAccount", "namespace": "other", "name": "*"}, "verbs": ["Read"]}]"#,
        );
        assert!(access.allows(&account("shop", "a"), Verb::Append));
        assert!(!access.allows(&account("shop", "b"), Verb::Append));
        assert!(!access.allows(&account("other", "a"), Verb::Append));
        assert!(access.allows(&account("other", "b"), Verb::Read));
        // Rules replace what holds without them.
        assert!(!access.allows(&account("shop", "a"), Verb::Read));
    }

    #[test]
    fn nobody_is_let_in_unless_it_is_named() {
        let nobody = Caller(Vec::new());
        assert!(!rules("[]").allows(&nobody, Verb::Read));
        let access = rules(r#"[{"subject": {"type": "Anonymous"}, "verbs": ["Query"]}]"#);
        assert!(access.allows(&nobody, Verb::Query) && !access.allows(&nobody, Verb::Read));
        for (kind, identity) in [
            ("CertificateName", Identity::Certificate("x".into())),
            ("Token", Identity::Token("x".into())),
            ("JWT", Identity::Jwt("x".into())),
        ] {
            let access = rules(&format!(
                r#"[{{"subject": {{"type": "{kind}", "name": "x"}}, "verbs": ["Read", "Admin"]}}]"#
            ));
            let caller = Caller(vec![identity]);
            assert!(access.allows(&caller, Verb::Read) && access.allows(&caller, Verb::Admin), "{kind}");
            assert!(!access.allows(&caller, Verb::Append) && !access.allows(&nobody, Verb::Read), "{kind}");
        }
    }
}
