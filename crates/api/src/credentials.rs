//! What a client shows of itself, and whom it trusts: from files, which are read again when they change.
//!
//! ```text
//! token file ──▶ Authorization, at each call           certificate, key, authorities ──▶ each new connection
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headwater_core::{Error, Result};
use http::HeaderValue;
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::tls;

const TOKEN: &str = "token-file";
const CA: &str = "ca";
const CERTIFICATE: &str = "cert";
const KEY: &str = "key";
const SERVER_NAME: &str = "peer-name";

/// A token is read again when it is older than this. Those of Kubernetes are renewed when a fifth of their life is left.
const FRESH: Duration = Duration::from_secs(1);

/// Where a client's credentials are. None of it is needed for an event store that lets anybody in.
#[derive(Debug, Clone, Default)]
pub struct CredentialFiles {
    /// A bearer token, such as the projected token of a service account.
    pub token: Option<PathBuf>,
    /// The authorities that are trusted, in PEM. `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The client's certificate and its private key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The host name that the server's certificate must have. `None`: the one that is connected to.
    pub server_name: Option<String>,
    /// Whether the token may be sent to another machine in plain text: something else encrypts it.
    pub plain_text: bool,
}

/// A client's credentials. Clones are of one and the same.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    files: CredentialFiles,
    /// The token, as a header's value, and when it was read.
    token: Mutex<Option<(Instant, HeaderValue)>>,
}

impl Credentials {
    /// Credentials from `files`, all of which are read once, to say what is wrong with them.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for a file that cannot be used.
    pub fn new(files: CredentialFiles) -> Result<Self> {
        let uses_tls = files.ca.is_some() || files.identity.is_some();
        if let Some(name) = &files.server_name {
            tls::server_name(name).map_err(|fault| Error::invalid(SERVER_NAME, fault))?;
        }
        let credentials = Self(Arc::new(Inner { files, token: Mutex::default() }));
        credentials.authorization()?;
        if uses_tls {
            credentials.tls(&[])?;
        }
        Ok(credentials)
    }

    /// Whether they may be shown to the server at `url`.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for what would go to another machine unencrypted, and for what would not be used.
    pub fn check_for(&self, url: &str) -> Result<()> {
        self.check_for_all(&[url])
    }

    /// Whether they may be shown to the servers at `urls`. What only those over TLS use is of use as soon as one of them is.
    ///
    /// # Errors
    /// As [`check_for`](Self::check_for).
    pub fn check_for_all(&self, urls: &[&str]) -> Result<()> {
        let files = &self.0.files;
        let plain: Vec<(&str, http::Uri)> = urls
            .iter()
            .filter_map(|url| Some((*url, url.parse::<http::Uri>().ok()?)))
            .filter(|(_, uri)| uri.scheme_str() == Some("http"))
            .collect();
        let unused = [(CERTIFICATE, files.identity.is_some()), (CA, files.ca.is_some())];
        if let Some((option, _)) = unused.into_iter().find(|(_, is_given)| *is_given)
            && let Some((url, _)) = plain.first()
            && plain.len() == urls.len()
        {
            return Err(Error::invalid(
                option,
                format!(
                    "{url} is spoken to in plain text, where it is of no use: give its address as https://HOST:PORT"
                ),
            ));
        }
        let is_elsewhere = |uri: &http::Uri| !is_local(uri.host().unwrap_or_default());
        if files.token.is_some()
            && !files.plain_text
            && let Some((url, _)) = plain.iter().find(|(_, uri)| is_elsewhere(uri))
        {
            return Err(Error::invalid(
                TOKEN,
                format!(
                    "{url} is on another machine and spoken to in plain text: the token would not be encrypted. Give its address as \
                     https://HOST:PORT, or --plain-text (to a program that serves TLS itself: --plain-text-calls) where something else \
                     encrypts what is sent"
                ),
            ));
        }
        Ok(())
    }

    /// The value of `Authorization`, if there is a token. One that cannot be read any more is sent as it was.
    ///
    /// # Errors
    /// `Invalid` when there is none to begin with.
    pub fn authorization(&self) -> Result<Option<HeaderValue>> {
        let Some(path) = &self.0.files.token else { return Ok(None) };
        let mut known = self.0.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, token)) = &*known
            && read.elapsed() < FRESH
        {
            return Ok(Some(token.clone()));
        }
        let token = match (read_token(path), &*known) {
            (Ok(token), _) => token,
            (Err(error), Some((_, token))) => {
                tracing::warn!(%error, "the token cannot be read again; the one before is sent");
                token.clone()
            }
            (Err(error), None) => return Err(error),
        };
        *known = Some((Instant::now(), token.clone()));
        Ok(Some(token))
    }

    /// TLS for a new connection that speaks one of these protocols.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for a file that cannot be used.
    pub fn tls(&self, protocols: &[&[u8]]) -> Result<ClientConfig> {
        let roots = match &self.0.files.ca {
            Some(path) => {
                let pem = read(CA, path)?;
                Arc::new(tls::authorities(&pem, &at(path)).map_err(|fault| Error::invalid(CA, fault))?)
            }
            None => tls::system_roots()
                .map_err(|fault| Error::invalid(CA, format!("{fault}: give the file of those to trust")))?,
        };
        let builder = tls::builder()?.with_root_certificates(roots);
        let mut config = match &self.0.files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let pem = read(CERTIFICATE, certificate)?;
                let chain = tls::certificates(&pem, &at(certificate))
                    .map_err(|fault| Error::invalid(CERTIFICATE, fault))?;
                let private = PrivateKeyDer::from_pem_slice(&read(KEY, key)?).map_err(|_| {
                    Error::invalid(KEY, format!("{} holds no private key in PEM", key.display()))
                })?;
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    let fault = format!("{} cannot be used with its key: {error}", certificate.display());
                    Error::invalid(CERTIFICATE, fault)
                })?
            }
        };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }

    /// The name that the certificate of the server at `host` must have.
    pub(crate) fn server_name<'a>(&'a self, host: &'a str) -> &'a str {
        self.0.files.server_name.as_deref().unwrap_or(host)
    }
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn at(path: &Path) -> String {
    path.display().to_string()
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::invalid(option, format!("{} cannot be read: {error}", path.display())))
}

fn read_token(path: &Path) -> Result<HeaderValue> {
    let bytes = read(TOKEN, path)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(Error::invalid(TOKEN, format!("{} is empty", path.display())));
    }
    let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
        .map_err(|_| Error::invalid(TOKEN, format!("{} holds no token of one line", path.display())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_token(path: &Path) -> Result<Credentials> {
        Credentials::new(CredentialFiles { token: Some(path.to_owned()), ..CredentialFiles::default() })
    }

    #[tokio::test]
    async fn a_token_is_read_again_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first\n").unwrap();
        let credentials = of_token(&path).unwrap();
        let token = || credentials.authorization().unwrap().unwrap();
        assert_eq!(token().as_bytes(), b"Bearer first");
        assert!(!format!("{credentials:?}").contains("first"));
        std::fs::write(&path, "second").unwrap();
        let read_again = async {
            while token() != "Bearer second" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), read_again).await.expect("it is read again");
        std::fs::remove_file(&path).unwrap();
        let aged = Instant::now();
        while aged.elapsed() < FRESH {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(token().as_bytes(), b"Bearer second");
    }

    #[test]
    fn nothing_goes_to_another_machine_in_plain_text_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "token").unwrap();
        let token = Some(path);
        let files = CredentialFiles { token, ..CredentialFiles::default() };
        let asked = Credentials::new(CredentialFiles { plain_text: true, ..files.clone() }).unwrap();
        let unasked = Credentials::new(files).unwrap();
        for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://store.shop.svc:1"]
        {
            unasked.check_for(url).unwrap();
        }
        for url in ["http://store.shop.svc:1", "http://10.0.0.7:1", "http://localhost.elsewhere:1"] {
            let error = unasked.check_for(url).unwrap_err().to_string();
            assert!(error.starts_with("token-file: ") && error.contains("--plain-text"), "{error}");
            asked.check_for(url).unwrap();
        }
        Credentials::default().check_for("http://store.shop.svc:1").unwrap();
        // One that is in plain text is enough.
        let both = ["https://store.shop.svc:1", "http://audit.shop.svc:1"];
        let error = unasked.check_for_all(&both).unwrap_err().to_string();
        assert!(error.starts_with("token-file: http://audit.shop.svc:1 is on another machine"), "{error}");
        asked.check_for_all(&both).unwrap();
    }

    #[test]
    fn authorities_are_of_use_where_one_of_the_servers_has_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(
            &path,
            rcgen::generate_simple_self_signed(vec!["store".to_owned()]).unwrap().cert.pem(),
        )
        .unwrap();
        let ca = Some(path);
        let trusting = Credentials::new(CredentialFiles { ca, ..CredentialFiles::default() }).unwrap();
        let (secure, plain) = ("https://store.shop.svc:1", "http://audit.shop.svc:1");
        for urls in [&[secure, plain][..], &[plain, secure], &[secure], &[]] {
            trusting.check_for_all(urls).unwrap();
        }
        for urls in [&[plain][..], &[plain, plain]] {
            let error = trusting.check_for_all(urls).unwrap_err().to_string();
            assert!(error.starts_with("ca: http://audit.shop.svc:1 is spoken to in plain text"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_by_its_option() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let refused = |credentials: Result<Credentials>, part: &str| {
            let error = credentials.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(of_token(&path), "token-file: ");
        std::fs::write(&path, " \n").unwrap();
        refused(of_token(&path), "is empty");
        std::fs::write(&path, "a\nb").unwrap();
        refused(of_token(&path), "no token of one line");
        let with = |files| Credentials::new(files);
        let ca = Some(path.clone());
        refused(with(CredentialFiles { ca, ..CredentialFiles::default() }), "ca: ");
        let server_name = Some("a b".to_owned());
        refused(with(CredentialFiles { server_name, ..CredentialFiles::default() }), "peer-name: ");
    }
}
