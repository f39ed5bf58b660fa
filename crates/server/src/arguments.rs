//! Flags about who is served, and whom a process of ours proves to be.

use std::path::PathBuf;

use clap::Args;
use headwater_api::{CredentialFiles, Credentials};
use headwater_core::{Error, Result};
use headwater_runtime::auth::{JwtIssuer, Proofs};
use headwater_runtime::tls::TlsFiles;
use headwater_runtime::{Security, SecurityOptions};

use crate::listen::Listen;

/// For whom tokens must be, unless something else is said.
const AUDIENCE: &str = "headwater";

/// How what is served is protected.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Who is served")]
pub struct SecurityArguments {
    /// Serve TLS with this certificate: its chain in PEM, read again when it changes.
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "HEADWATER_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "HEADWATER_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// Authorities of client certificates, in PEM: callers may prove who they are by one.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "HEADWATER_TLS_CLIENT_CA")]
    tls_client_ca: Option<PathBuf>,

    /// Bearer tokens of callers: a file of lines `name: token`, or a folder with a file for each name. Read again when they change.
    #[arg(long, value_name = "PATH", env = "HEADWATER_BEARER_TOKENS")]
    bearer_tokens: Option<PathBuf>,

    /// Accept JSON Web Tokens of this issuer, such as those of a cluster's service accounts. May be given again for other issuers, with its
    /// own --jwt-jwks and --jwt-audience in the same order: only the subjects of the first are service accounts.
    #[arg(long, value_name = "ISSUER", env = "HEADWATER_JWT_ISSUER")]
    jwt_issuer: Vec<String>,

    /// For whom they must be; one of several, with commas between [default: headwater].
    #[arg(long, value_name = "AUDIENCES", env = "HEADWATER_JWT_AUDIENCE")]
    jwt_audience: Vec<String>,

    /// The issuer's keys, a JSON Web Key Set. Read again when it changes.
    #[arg(long, value_name = "FILE", env = "HEADWATER_JWT_JWKS")]
    jwt_jwks: Vec<PathBuf>,

    /// Serve other machines, and send them the token, without TLS: something else encrypts it all.
    #[arg(long, env = "HEADWATER_PLAIN_TEXT")]
    plain_text: bool,

    /// Send other machines the token without TLS, however this process is served itself: something else encrypts it.
    #[arg(long, help_heading = "Whom it calls", env = "HEADWATER_PLAIN_TEXT_CALLS")]
    plain_text_calls: bool,
}

impl SecurityArguments {
    /// Whether the token may be sent to other machines in plain text.
    pub(crate) const fn allows_plain_text_calls(&self) -> bool {
        self.plain_text || self.plain_text_calls
    }

    /// What protects the port at `listen`, which may be reached from other machines only when callers can prove who they are.
    ///
    /// # Errors
    /// `Invalid`, naming the flag, for what does not protect it enough, and for a file that cannot be used.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(crate) fn protect(&self, listen: &Listen) -> Result<Security> {
        let tls = both(("tls-cert", &self.tls_cert), ("tls-key", &self.tls_key))?;
        let tls = tls.map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: self.tls_client_ca.clone(),
        });
        if tls.is_none() && self.tls_client_ca.is_some() {
            return Err(Error::invalid(
                "tls-client-ca",
                "there are no client certificates without TLS: give --tls-cert and --tls-key, too",
            ));
        }
        let proofs = Proofs { bearer_tokens: self.bearer_tokens.clone(), jwt: self.issuers()? };
        let options = SecurityOptions { tls, proofs };
        if !listen.address.ip().is_loopback() {
            let refused = |why: &str| {
                Err(Error::invalid(
                    listen.flag.trim_start_matches('-'),
                    format!("{} is reachable from other machines, and {why}", listen.address),
                ))
            };
            if !options.authenticates() {
                return refused(&format!(
                    "this would serve without authentication: say how callers prove who they are, with --tls-client-ca, --bearer-tokens, \
                     or --jwt-issuer and --jwt-jwks; or give a loopback address such as 127.0.0.1:{port}, and forward the port to those who \
                     need it (ssh -L {port}:127.0.0.1:{port} HOST)",
                    port = listen.address.port()
                ));
            }
            if options.tls.is_none() && !self.plain_text {
                return refused(
                    "what callers send, their tokens included, would not be encrypted: give --tls-cert and --tls-key, or --plain-text where \
                     something else encrypts it",
                );
            }
        }
        Security::follow(options)
    }

    fn issuers(&self) -> Result<Vec<JwtIssuer>> {
        let issuers = self.jwt_issuer.len();
        for (option, count) in [("jwt-jwks", self.jwt_jwks.len()), ("jwt-audience", self.jwt_audience.len())]
        {
            let is_left_out = option == "jwt-audience" && count == 0;
            if count != issuers && !is_left_out {
                return Err(Error::invalid(
                    option,
                    format!(
                        "it is given {count} times and --jwt-issuer {issuers} times: give it once for each issuer, in the same order"
                    ),
                ));
            }
        }
        let is_empty = |given: &String| given.split(',').any(|audience| audience.trim().is_empty());
        for (option, is_wrong) in [
            ("jwt-issuer", self.jwt_issuer.iter().any(|issuer| issuer.trim().is_empty())),
            ("jwt-audience", self.jwt_audience.iter().any(is_empty)),
        ] {
            if is_wrong {
                return Err(Error::invalid(option, "it is empty, or a part of it is: write what tokens say"));
            }
        }
        let audiences = |number: usize| {
            let given = self.jwt_audience.get(number).map_or(AUDIENCE, String::as_str);
            given.split(',').map(str::to_owned).collect()
        };
        let both = self.jwt_issuer.iter().zip(&self.jwt_jwks).enumerate();
        let issuer = |(number, (issuer, jwks)): (usize, (&String, &PathBuf))| JwtIssuer {
            issuer: issuer.clone(),
            audiences: audiences(number),
            jwks: jwks.clone(),
        };
        Ok(both.map(issuer).collect())
    }
}

/// Two files that are of use together alone. Flags require each other; what comes from elsewhere does not.
fn both(
    (one, first): (&str, &Option<PathBuf>),
    (other, second): (&str, &Option<PathBuf>),
) -> Result<Option<(PathBuf, PathBuf)>> {
    let missing = |there: &str, missing: &str| {
        Err(Error::invalid(
            missing,
            format!("it belongs to --{there}, and is not given: give both, or neither"),
        ))
    };
    match (first, second) {
        (Some(first), Some(second)) => Ok(Some((first.clone(), second.clone()))),
        (None, None) => Ok(None),
        (Some(_), None) => missing(one, other),
        (None, Some(_)) => missing(other, one),
    }
}

/// What we prove to be to those whom we call, and whom we trust.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Whom it calls")]
pub struct ClientArguments {
    /// A bearer token to send, such as a service account's: a file that is read again when it changes.
    #[arg(long, value_name = "FILE", env = "HEADWATER_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Authorities to trust at https:// addresses, in PEM [default: the system's].
    #[arg(long, value_name = "FILE", env = "HEADWATER_CA")]
    ca: Option<PathBuf>,

    /// A certificate to show, in PEM.
    #[arg(long, value_name = "FILE", requires = "key", env = "HEADWATER_CERT")]
    cert: Option<PathBuf>,

    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE", requires = "cert", env = "HEADWATER_KEY")]
    key: Option<PathBuf>,
}

impl ClientArguments {
    /// The credentials, for servers whose certificates have the host name that is connected to; with `plain_text`, the token may be sent to
    /// other machines without TLS.
    ///
    /// # Errors
    /// As [`Credentials::new`].
    pub fn credentials(&self, plain_text: bool) -> Result<Credentials> {
        self.credentials_for(None, plain_text)
    }

    /// The same, for servers whose certificates have the host name `server_name`, if there is one.
    ///
    /// # Errors
    /// As [`Credentials::new`].
    pub(crate) fn credentials_for(
        &self,
        server_name: Option<String>,
        plain_text: bool,
    ) -> Result<Credentials> {
        Credentials::new(CredentialFiles {
            token: self.token_file.clone(),
            ca: self.ca.clone(),
            identity: both(("cert", &self.cert), ("key", &self.key))?,
            server_name,
            plain_text,
        })
    }
}

/// Where administration listens.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct AdminArguments {
    /// Where administration listens, on the machine itself [default: 127.0.0.1, at the port of --listen and 1000 more].
    #[arg(long, value_name = "ADDRESS", env = "HEADWATER_ADMIN_LISTEN")]
    admin_listen: Option<std::net::SocketAddr>,
}

impl AdminArguments {
    const FLAG: &str = "--admin-listen";
    /// From a port to that of its administration, unless something else is said.
    pub const APART: u16 = 1_000;

    /// Where administration of what is served at `listen` listens.
    ///
    /// # Errors
    /// `Invalid` for an address that other machines reach, and where there is no such port.
    pub(crate) fn beside(self, listen: &Listen) -> Result<Listen> {
        let address = match (self.admin_listen, listen.address.port()) {
            (Some(address), _) => address,
            (None, 0) => ([127, 0, 0, 1], 0).into(),
            (None, port) => {
                let port = port.checked_add(Self::APART).ok_or_else(|| {
                    Error::invalid(
                        "admin-listen",
                        format!("there is no port {} after that of {}; give one", Self::APART, listen.flag),
                    )
                })?;
                ([127, 0, 0, 1], port).into()
            }
        };
        if !address.ip().is_loopback() {
            return Err(Error::invalid(
                "admin-listen",
                format!(
                    "{address} is reachable from other machines, and administration asks nobody who they are: give a loopback address such as \
                     127.0.0.1:{port}, and forward the port to those who need it (kubectl port-forward, or ssh -L {port}:127.0.0.1:{port} HOST)",
                    port = address.port()
                ),
            ));
        }
        let admin = Listen { address, flag: Self::FLAG };
        admin.check_apart("administration", listen.address, listen.flag)?;
        Ok(admin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str) -> Listen {
        Listen { address: address.parse().unwrap(), flag: "--listen" }
    }

    #[tokio::test]
    async fn other_machines_are_served_when_callers_prove_who_they_are_and_what_they_send_is_encrypted() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, "ada: 0123456789-0123456789-01\n").unwrap();
        let open = SecurityArguments::default();
        let tokened = SecurityArguments { bearer_tokens: Some(tokens), ..SecurityArguments::default() };
        let plain = SecurityArguments { plain_text: true, ..tokened.clone() };
        let calls = SecurityArguments { plain_text_calls: true, ..tokened.clone() };
        for address in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1"] {
            open.protect(&listen(address)).unwrap();
            tokened.protect(&listen(address)).unwrap();
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1"] {
            let error = open.protect(&listen(address)).unwrap_err().to_string();
            assert!(error.contains("without authentication") && error.contains("--bearer-tokens"), "{error}");
            let error = tokened.protect(&listen(address)).unwrap_err().to_string();
            assert!(error.contains("would not be encrypted") && error.contains("--tls-cert"), "{error}");
            plain.protect(&listen(address)).unwrap();
            let error = calls.protect(&listen(address)).unwrap_err().to_string();
            assert!(error.contains("would not be encrypted"), "{error}");
        }
        let allowed = [tokened, plain, calls].map(|it| it.allows_plain_text_calls());
        assert_eq!(allowed, [false, true, true]);
    }

    #[test]
    fn each_issuer_has_its_keys_and_its_audiences() {
        let words = |issuers: &[&str], jwks: &[&str], audiences: &[&str]| SecurityArguments {
            jwt_issuer: issuers.iter().map(ToString::to_string).collect(),
            jwt_jwks: jwks.iter().map(PathBuf::from).collect(),
            jwt_audience: audiences.iter().map(ToString::to_string).collect(),
            ..SecurityArguments::default()
        };
        let told = |arguments: &SecurityArguments| -> Vec<String> {
            let issuers = arguments.issuers().unwrap().into_iter();
            issuers
                .map(|it| format!("{} {} {}", it.issuer, it.jwks.display(), it.audiences.join("+")))
                .collect()
        };
        assert_eq!(told(&words(&["a"], &["k"], &[])), ["a k headwater"]);
        assert_eq!(told(&words(&["a", "b"], &["k", "l"], &["x,y", "z"])), ["a k x+y", "b l z"]);
        for (arguments, part) in [
            (words(&["a"], &[], &[]), "jwt-jwks: it is given 0 times and --jwt-issuer 1 times"),
            (words(&[], &[], &["x"]), "jwt-audience: it is given 1 times and --jwt-issuer 0 times"),
            (words(&["a", "b"], &["k"], &[]), "jwt-jwks: it is given 1 times and --jwt-issuer 2 times"),
            (words(&["a", "b"], &["k", "l"], &["x"]), "jwt-audience: it is given 1 times"),
            (words(&["a"], &["k"], &["x,"]), "jwt-audience: it is empty, or a part of it"),
            (words(&[""], &["k"], &[]), "jwt-issuer: it is empty"),
        ] {
            let error = arguments.issuers().unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_certificate_and_its_key_are_given_together() {
        let (one, other) = (Some(PathBuf::from("a")), Some(PathBuf::from("b")));
        for (cert, key, client_ca, part) in [
            (&one, &None, &None, "tls-key: it belongs to --tls-cert"),
            (&None, &one, &None, "tls-cert: it belongs to --tls-key"),
            (&None, &None, &other, "tls-client-ca: there are no client certificates without TLS"),
        ] {
            let arguments = SecurityArguments {
                tls_cert: cert.clone(),
                tls_key: key.clone(),
                tls_client_ca: client_ca.clone(),
                ..SecurityArguments::default()
            };
            let error = arguments.protect(&listen("127.0.0.1:1")).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }

    #[test]
    fn administration_is_on_the_machine_itself_beside_what_is_served() {
        let beside = |listened: &str, admin: Option<&str>| {
            let admin_listen = admin.map(|address| address.parse().unwrap());
            AdminArguments { admin_listen }.beside(&listen(listened)).map(|it| it.address.to_string())
        };
        assert_eq!(beside("0.0.0.0:8082", None).unwrap(), "127.0.0.1:9082");
        assert_eq!(beside("127.0.0.1:0", None).unwrap(), "127.0.0.1:0");
        assert_eq!(beside("0.0.0.0:8082", Some("[::1]:7")).unwrap(), "[::1]:7");
        let refused = |listened: &str, admin: Option<&str>, part: &str| {
            let error = beside(listened, admin).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused("127.0.0.1:65000", None, "admin-listen: there is no port 1000 after");
        refused("127.0.0.1:1", Some("0.0.0.0:9"), "asks nobody who they are");
        refused("127.0.0.1:1", Some("127.0.0.1:1"), "another port");
    }
}
