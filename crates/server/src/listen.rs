//! Which port serves what.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use headwater_core::{Error, Result};
use tokio::net::TcpListener;

/// An address from the command line, and the flag that set it.
#[derive(Debug, Clone, Copy)]
pub struct Listen {
    /// Port 0: a free one.
    pub address: SocketAddr,
    /// How to change it, for messages.
    pub flag: &'static str,
}

impl Listen {
    /// What others call a process that listens here and serves at `url`, unless it is told: an address of the machine that is none of its own
    /// is the same everywhere.
    pub(crate) fn name(&self, url: &str) -> String {
        if self.address.ip().is_unspecified() {
            let port = url.rsplit(':').next().unwrap_or_default();
            return format!("{}:{port}", rustix::system::uname().nodename().to_string_lossy());
        }
        url.to_owned()
    }

    /// Only loopback: nobody is authenticated by `dev`.
    ///
    /// # Errors
    /// `Invalid` for any other address.
    pub fn check(&self) -> Result<()> {
        if self.address.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::invalid(
            self.flag.trim_start_matches('-'),
            format!(
                "{} is reachable from other machines, and this serves without authentication; give a loopback address such as 127.0.0.1:{port}, and forward the port to those who need it (ssh -L {port}:127.0.0.1:{port} HOST)",
                self.address,
                port = self.address.port()
            ),
        ))
    }

    /// Listens for `who`.
    ///
    /// # Errors
    /// `FailedPrecondition` when the port is in use; it says which, who wants it, and how to change it.
    pub async fn bind(&self, who: &str) -> Result<TcpListener> {
        TcpListener::bind(self.address).await.map_err(|error| self.refused(who, &error))
    }

    /// Listens for `who`; `None` when the port is in use.
    ///
    /// # Errors
    /// As [`bind`](Self::bind), for anything else.
    pub(crate) async fn try_bind(&self, who: &str) -> Result<Option<TcpListener>> {
        match TcpListener::bind(self.address).await {
            Ok(listener) => Ok(Some(listener)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => Ok(None),
            Err(error) => Err(self.refused(who, &error)),
        }
    }

    fn refused(&self, who: &str, error: &io::Error) -> Error {
        let why = match error.kind() {
            ErrorKind::AddrInUse => "another program listens there".to_owned(),
            _ => error.to_string(),
        };
        Error::failed_precondition(format!(
            "cannot listen on {} for {who}: {why}; stop that program, or choose another port with {} {}:PORT",
            self.address,
            self.flag,
            self.address.ip()
        ))
    }

    /// Refuses the port of `other`, another part of this process, which `who` would have had.
    ///
    /// # Errors
    /// `Invalid` when both are one.
    pub(crate) fn check_apart(&self, who: &str, other: SocketAddr, flag: &'static str) -> Result<()> {
        if self.address.port() == 0 || self.address != other {
            return Ok(());
        }
        Err(Error::invalid(
            flag.trim_start_matches('-'),
            format!(
                "{other} is needed for {who}, by {}: give another port with {flag} {}:PORT",
                self.flag,
                other.ip()
            ),
        ))
    }

    /// The same, on another port.
    pub(crate) fn at(&self, port: u16) -> Self {
        Self { address: SocketAddr::new(self.address.ip(), port), ..*self }
    }

    /// The next port. Port 0 stays 0.
    ///
    /// # Errors
    /// `Invalid` after the last port.
    pub fn next(&self) -> Result<Self> {
        let port = match self.address.port() {
            0 => 0,
            port => port.checked_add(1).ok_or_else(|| {
                Error::invalid(
                    self.flag.trim_start_matches('-'),
                    "there is no port after 65535, and each event stream needs one; give a lower one",
                )
            })?,
        };
        Ok(self.at(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(address: &str) -> Listen {
        Listen { address: address.parse().unwrap(), flag: "--listen" }
    }

    #[test]
    fn ports_follow_each_other() {
        let port = |address: &str| listen(address).next().map(|next| next.address.port());
        assert_eq!(port("127.0.0.1:50051").unwrap(), 50052);
        assert_eq!(port("127.0.0.1:0").unwrap(), 0);
        assert!(
            port("127.0.0.1:65535").unwrap_err().to_string().starts_with("listen: there is no port after")
        );
    }

    #[test]
    fn only_loopback_is_listened_on() {
        for address in ["127.0.0.1:1", "[::1]:1", "127.9.9.9:1"] {
            assert!(listen(address).check().is_ok(), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "192.168.1.2:1"] {
            let error = listen(address).check().unwrap_err().to_string();
            assert!(error.contains("without authentication") && error.contains("ssh -L 1:"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_says_which_and_what_to_do() {
        let taken = listen("127.0.0.1:0").bind("a").await.unwrap();
        let address = taken.local_addr().unwrap();
        let again = Listen { address, flag: "--query-listen" };
        let error = again.bind("the query API").await.unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address} for the query API: another program listens there; stop that program, or choose another port with --query-listen 127.0.0.1:PORT"
            )
        );
    }
}
