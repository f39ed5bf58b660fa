//! TLS of what is served: certificate, key and the authorities of clients, from files as cert-manager writes them.
//!
//! ```text
//! tls.crt · tls.key ──▶ Tls::current ──▶ each new connection        ALPN: h2, http/1.1
//! ca.crt ─────────────▶ certificates of clients are checked; a client may have none
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use headwater_core::{Error, Result};
use prometheus_client::metrics::gauge::Gauge;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::Metrics;
use crate::reload::{self, Files, Reloaded, Reloads, Source};

const CERTIFICATE: &str = "tls-cert";
const KEY: &str = "tls-key";
const CLIENT_CA: &str = "tls-client-ca";

/// Where a server's certificate is.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, the server's own first, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// The authorities of clients' certificates, in PEM. `None`: clients are not asked for one.
    pub client_ca: Option<PathBuf>,
}

/// What is measured of TLS.
#[derive(Debug, Clone, Default)]
pub(crate) struct TlsMetrics(Gauge);

impl TlsMetrics {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(
            "tls_certificate_not_after_seconds",
            "When the certificate that is served ends, in seconds since 1970",
            self.0.clone(),
        );
    }
}

/// The configuration of TLS, as the files have it.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Reloaded<Arc<ServerConfig>>>);

impl Tls {
    /// Reads the files, and follows them.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for a file that is missing or holds something else.
    pub(crate) fn follow(files: TlsFiles, reloads: &Reloads, metrics: &TlsMetrics) -> Result<Self> {
        Ok(Self(Reloaded::follow(Certificate { files, metrics: metrics.clone() }, reloads)?))
    }

    /// What the next connection is served with.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current())
    }
}

struct Certificate {
    files: TlsFiles,
    metrics: TlsMetrics,
}

impl Source for Certificate {
    type Value = Arc<ServerConfig>;

    fn what(&self) -> &'static str {
        "certificate"
    }

    fn read(&self) -> Result<Files> {
        let mut files =
            vec![reload::read(CERTIFICATE, &self.files.certificate)?, reload::read(KEY, &self.files.key)?];
        if let Some(ca) = &self.files.client_ca {
            files.push(reload::read(CLIENT_CA, ca)?);
        }
        Ok(files)
    }

    fn parse(&self, files: &Files) -> Result<Arc<ServerConfig>> {
        let [certificate, key, ca @ ..] = &files[..] else {
            return Err(Error::internal("a certificate without its files"));
        };
        let chain = certificates(&certificate.1).map_err(|fault| at(CERTIFICATE, certificate, &fault))?;
        let private = PrivateKeyDer::from_pem_slice(&key.1)
            .map_err(|_| at(KEY, key, "it holds no private key in PEM"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("no TLS can be set up: {error}")))?;
        let builder = match ca.first() {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(&ca.1).map_err(|fault| at(CLIENT_CA, ca, &fault))? {
                    roots.add(authority).map_err(|error| {
                        at(CLIENT_CA, ca, &format!("it holds a certificate that is no authority: {error}"))
                    })?;
                }
                // Who shows no certificate may have a token.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| at(CLIENT_CA, ca, &error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let ends = not_after(&chain[0]).map_err(|fault| at(CERTIFICATE, certificate, &fault))?;
        let mut config = builder.with_single_cert(chain, private).map_err(|error| {
            at(CERTIFICATE, certificate, &format!("it cannot be used with {}: {error}", key.0.display()))
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.metrics.0.set(ends);
        Ok(Arc::new(config))
    }
}

fn at(option: &str, file: &(PathBuf, Vec<u8>), fault: &str) -> Error {
    Error::invalid(option, format!("{}: {fault}", file.0.display()))
}

/// The certificates in `pem`, at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is not PEM: {error}")),
    }
}

/// Until when a certificate holds, in seconds since 1970.
///
/// # Errors
/// That it is none.
pub fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("it holds something that is no certificate: {error}"))?;
    Ok(parsed.validity().not_after.timestamp())
}

/// By what names a client's certificate, which has been verified, names it: its common name, and its DNS and URI names.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let alternative = alternative.iter().flat_map(|names| &names.value.general_names);
    let alternative = alternative.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some(*name),
        _ => None,
    });
    let mut names: Vec<String> = common.chain(alternative).map(str::to_owned).collect();
    names.sort();
    names.dedup();
    names
}
