//! A connection to the servers, and what its failures mean.

use std::time::Duration;

use async_nats::{ConnectErrorKind, ConnectOptions, ServerAddr};
use headwater_core::{BackendFault, Error, Result};
use percent_encoding::percent_decode_str;

use crate::NatsOptions;

/// How long anything that is asked of the servers may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Messages that wait to be sent, at most. Who publishes more waits.
const OUTGOING: usize = 2_048;

/// Connects. Once it has, the connection mends itself.
///
/// # Errors
/// `Invalid` for addresses and credentials that cannot be read; `Unavailable` when no server takes us, with the reason.
pub(crate) async fn connect(options: &NatsOptions) -> Result<async_nats::Client> {
    let servers = options.servers.iter().map(|server| address(server)).collect::<Result<Vec<_>>>()?;
    let mut connecting = ConnectOptions::new()
        .name("headwater")
        .connection_timeout(PATIENCE)
        .request_timeout(Some(PATIENCE))
        .client_capacity(OUTGOING);
    if let Some((user, password)) = servers.iter().find_map(user) {
        connecting = connecting.user_and_password(user, password);
    }
    if let Some(tls) = &options.tls {
        connecting = connecting.require_tls(true).tls_client_config((*tls.0).clone());
    }
    if let Some(credentials) = &options.credentials {
        connecting = connecting.credentials(&credentials.0).map_err(|error| {
            Error::invalid(
                "bus.nats.credentialsSecretRef",
                format!("the Secret's value is not a NATS credentials file ({error}): give the .creds file as `nsc` writes it"),
            )
        })?;
    }
    connecting.connect(servers).await.map_err(|error| {
        let remedy = match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                format!("; {}", BackendFault::Credentials.words())
            }
            ConnectErrorKind::Tls => format!("; {} and the server's certificate", BackendFault::Tls.words()),
            _ => String::new(),
        };
        Error::unavailable(format!("connecting to NATS at {}: {error}{remedy}", shown(&options.servers)))
    })
}

/// User and password in an address, which the client does not look for there.
fn user(server: &ServerAddr) -> Option<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(server.username()?), decoded(server.password().unwrap_or_default())))
}

/// # Errors
/// `Invalid`, without what may be a password.
pub(crate) fn address(server: &str) -> Result<ServerAddr> {
    server.parse().map_err(|error| {
        Error::invalid(
            "bus.nats.servers",
            format!(
                "\"{}\" is no address of a NATS server ({error}); give one as nats://HOST:PORT",
                without_user(server)
            ),
        )
    })
}

/// The servers, to be shown.
pub(crate) fn shown(servers: &[String]) -> String {
    servers.iter().map(|server| without_user(server)).collect::<Vec<_>>().join(", ")
}

/// An address without user and password.
fn without_user(server: &str) -> String {
    let (scheme, rest) = server.split_once("://").map_or(("", server), |(scheme, rest)| (scheme, rest));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if scheme.is_empty() { host.to_owned() } else { format!("{scheme}://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let servers = ["nats://u:p@a:1".to_owned(), "u:p@b:2".to_owned(), "tls://c".to_owned()];
        assert_eq!(shown(&servers), "nats://a:1, b:2, tls://c");
        let error = address("http://u:secret@h").unwrap_err().to_string();
        assert!(error.contains("\"http://h\"") && !error.contains("secret"), "{error}");
    }
}
