//! All that protects a port, read once, from files that are followed.
//!
//! ```text
//! SecurityOptions ──▶ Security ──tls────▶ Listener      who is spoken to, and whether others listen
//!                          └─────guard──▶ Guard         who calls, and what they may do
//! ```

use axum::response::Response;
use headwater_core::{Error, Result};
use http::HeaderMap;

use crate::Metrics;
use crate::auth::{Access, Authentication, Guard, Needs, Proofs, Refusals};
use crate::reload::Reloads;
use crate::tls::{Tls, TlsFiles, TlsMetrics};

/// How a port is protected.
#[derive(Debug, Clone, Default)]
pub struct SecurityOptions {
    /// TLS. `None`: plain text.
    pub tls: Option<TlsFiles>,
    /// How callers may prove who they are, beside certificates.
    pub proofs: Proofs,
}

impl SecurityOptions {
    /// Whether callers can prove who they are.
    pub fn authenticates(&self) -> bool {
        let by_certificate = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        by_certificate || self.proofs.bearer_tokens.is_some() || !self.proofs.jwt.is_empty()
    }
}

/// What protects a port. Clones follow the same files.
#[derive(Debug, Clone)]
pub struct Security {
    tls: Option<Tls>,
    authentication: Option<Authentication>,
    reloads: Reloads,
    measured: TlsMetrics,
    refusals: Refusals,
}

impl Security {
    /// Reads the files, and follows them.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for a file that cannot be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn follow(options: SecurityOptions) -> Result<Self> {
        let (reloads, measured) = (Reloads::default(), TlsMetrics::default());
        let authenticates = options.authenticates();
        let tls = options.tls.map(|files| Tls::follow(files, &reloads, &measured)).transpose()?;
        let authentication = Authentication::follow(options.proofs, &reloads)?;
        Ok(Self {
            tls,
            authentication: authenticates.then_some(authentication),
            reloads,
            measured,
            refusals: Refusals::default(),
        })
    }

    /// What connections are served with; `None`: plain text.
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// `http`, or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Has `metrics` show when the certificate ends, what was read again, and what was refused.
    pub fn register(&self, metrics: &Metrics) {
        if self.tls.is_some() {
            self.measured.register(metrics);
        }
        if self.tls.is_some() || self.authentication.is_some() {
            self.reloads.register(metrics);
        }
        self.refusals.register(metrics);
    }

    /// The layer that lets callers do what `access` says, by what calls need. Where nobody can prove anything, all may call, since the port
    /// is on the machine itself; but decisions are taken at `administration` alone. `answer` makes the answer to what is refused.
    pub fn guard(
        &self,
        needs: Needs,
        access: Access,
        administration: String,
        answer: fn(&HeaderMap, &Error) -> Response,
    ) -> Guard {
        let access = self.authentication.clone().map(|authentication| (authentication, access));
        Guard::new(needs, access, administration, self.refusals.clone(), answer)
    }
}
