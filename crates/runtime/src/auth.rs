//! Who calls, and what they may do.
//!
//! ```text
//!              certificate ──┐
//! request ──▶  bearer token ─┼─▶ Authentication ─▶ Caller ─▶ Access ─▶ the service
//!              JWT ──────────┘        │ 401                     │ 403
//! ```
//!
//! A caller is all that it proves. A proof that does not hold is refused, whatever else is proven. What nobody is known to need is
//! answered to nobody: see [`Guard`].

mod access;
mod guard;
mod jwt;
mod signatures;
mod tokens;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_core::{Error, Result};
use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use access::{Access, Allowed, Name, Subject, Verb};
pub(crate) use guard::{Discreet, Refusals};
pub use guard::{Guard, Need, Needs};
pub use jwt::JwtIssuer;

use crate::listener::Peer;
use crate::reload::{Reloaded, Reloads};
use jwt::Keys;
use tokens::Tokens;

/// How callers may prove who they are, beside client certificates.
#[derive(Debug, Clone, Default)]
pub struct Proofs {
    /// Names of callers and their bearer tokens: a file of lines `name: token`, or a folder with a file for each name, as a Secret is
    /// mounted.
    pub bearer_tokens: Option<PathBuf>,
    /// Who issues JSON Web Tokens that are accepted. Only of the first are subjects service accounts.
    pub jwt: Vec<JwtIssuer>,
}

/// One thing that a caller has proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A Kubernetes service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A name in a client certificate.
    Certificate(String),
    /// A bearer token, by its name.
    Token(String),
    /// The subject of a JSON Web Token.
    Jwt(String),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceAccount { namespace, name } => write!(f, "service account {namespace}/{name}"),
            Self::Certificate(name) => write!(f, "certificate name {name:?}"),
            Self::Token(name) => write!(f, "token {name:?}"),
            Self::Jwt(subject) => write!(f, "JWT subject {subject:?}"),
        }
    }
}

/// All that a caller has proven to be; empty: nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Vec<Identity>);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("a caller who proves nothing");
        }
        for (index, identity) in self.0.iter().enumerate() {
            let and = if index > 0 { " and " } else { "" };
            write!(f, "{and}{identity}")?;
        }
        Ok(())
    }
}

/// Finds out who calls.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    tokens: Option<Arc<Reloaded<Tokens>>>,
    issuers: Vec<Arc<Reloaded<Keys>>>,
}

impl Authentication {
    /// Reads the files of `proofs`, and follows them.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for a file that cannot be used.
    pub(crate) fn follow(proofs: Proofs, reloads: &Reloads) -> Result<Self> {
        let tokens = proofs.bearer_tokens.map(|path| Reloaded::follow(tokens::Folder(path), reloads));
        let mut issuers = Vec::new();
        for issuer in proofs.jwt {
            issuers.push(if issuers.is_empty() {
                Reloaded::follow(issuer, reloads)?
            } else {
                // What one of the others has written wrong is to keep nobody else out.
                let none = Keys::none(&issuer);
                Reloaded::follow_or(issuer, none, reloads)
            });
        }
        Ok(Self { tokens: tokens.transpose()?, issuers })
    }

    /// Who sent these headers over the connection of `peer`.
    ///
    /// # Errors
    /// `Unauthenticated` for a proof that does not hold; the message says why, and nothing of the proof.
    fn caller(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Result<Caller> {
        let names = peer.map(|peer| peer.names.iter()).into_iter().flatten();
        let mut identities: Vec<Identity> = names.cloned().map(Identity::Certificate).collect();
        let mut given = headers.get_all(AUTHORIZATION).iter();
        if let Some(value) = given.next() {
            if given.next().is_some() {
                return Err(Error::unauthenticated(
                    "the request has more than one Authorization header: send one",
                ));
            }
            let token = value.to_str().ok().and_then(bearer).ok_or_else(|| {
                Error::unauthenticated(
                    "the Authorization header is no bearer token: send `Authorization: Bearer TOKEN`",
                )
            })?;
            identities.push(self.identity(token)?);
        }
        Ok(Caller(identities))
    }

    fn identity(&self, token: &str) -> Result<Identity> {
        if let Some(identity) = self.tokens.as_ref().and_then(|tokens| tokens.current().find(token)) {
            return Ok(identity);
        }
        if self.issuers.is_empty() || token.split('.').count() != 3 {
            return Err(Error::unauthenticated("the bearer token is not known here: send one that is"));
        }
        let mut told = None;
        for (number, keys) in self.issuers.iter().enumerate() {
            let keys = keys.current();
            match keys.verify(token) {
                Ok(subject) if number == 0 => return Ok(jwt::identity(&subject)),
                // Whoever issues tokens beside the cluster gives nobody the name of a service account.
                Ok(subject) => return Ok(Identity::Jwt(subject)),
                // Of several issuers, that counts whose it says it is: who else is trusted is nobody's business.
                Err(fault) if self.issuers.len() == 1 || keys.is_said_by(token) => {
                    told = told.or(Some(fault));
                }
                Err(_) => {}
            }
        }
        let fault = told.unwrap_or_else(|| jwt::OTHER_ISSUER.to_owned());
        Err(Error::unauthenticated(format!("the JSON Web Token is not accepted: {fault}")))
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}
