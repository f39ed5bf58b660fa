//! TLS of connections that are made: what it takes from PEM, and from the system.

use std::sync::{Arc, OnceLock};

use headwater_core::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

/// A configuration of TLS to go on from.
///
/// # Errors
/// `Internal` when TLS cannot be set up at all.
pub fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal(format!("no TLS can be set up: {error}")))
}

/// A configuration of TLS as a manifest has it: whose certificates are trusted, whether they must be of the `host` that is connected to,
/// and what is shown. All in PEM.
///
/// # Errors
/// What is wrong with them, and never what they hold.
pub fn configuration(
    host: bool,
    ca: Option<&[u8]>,
    identity: Option<(&[u8], &[u8])>,
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let roots = match ca {
        Some(pem) => Arc::new(authorities(pem, "tls.caRef")?),
        None => system_roots().map_err(|fault| format!("{fault}: name those to trust in tls.caRef"))?,
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
        .build()
        .map_err(|error| format!("the authorities cannot be used: {error}"))?;
    let verifier: Arc<dyn ServerCertVerifier> =
        if host { verifier } else { Arc::new(AnyHost { roots, provider, signatures: verifier }) };
    let builder =
        builder().map_err(|error| error.to_string())?.dangerous().with_custom_certificate_verifier(verifier);
    let Some((certificate, key)) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(certificate, "tls.crt")?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "tls.key of the client's certificate holds no private key in PEM".to_owned())?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the client's certificate cannot be used: {error}"))
}

/// The authorities in `pem`, which is called `of` in messages.
///
/// # Errors
/// What is wrong with it, and never what it holds.
pub fn authorities(pem: &[u8], of: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, of)? {
        roots
            .add(certificate)
            .map_err(|error| format!("{of} holds a certificate that is no authority: {error}"))?;
    }
    Ok(roots)
}

/// The certificates in `pem`, at least one; it is called `of` in messages.
///
/// # Errors
/// What is wrong with it, and never what it holds.
pub fn certificates(pem: &[u8], of: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(format!("{of} holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{of} is not PEM: {error}")),
    }
}

/// The authorities that the system trusts, read when they are first needed.
///
/// # Errors
/// Why there are none.
pub fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("no authorities are known to this system{why}"));
    }
    Ok(ROOTS.get_or_init(|| Arc::new(roots)).clone())
}

/// The name of a server, as certificates have it.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    // An address of IPv6 stands in brackets in a URL.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is no host name"))
}

/// Checks that a certificate comes from an authority, whatever host it is of.
#[derive(Debug)]
struct AnyHost {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
