//! TLS of the connections that calls make.

use std::sync::{Arc, OnceLock};

use headwater_core::{Error, Result};
use headwater_resources::shared::{ClientTls, SecretKeyRef, TlsMode};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::Surroundings;

/// Makes configurations of TLS.
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    /// For connections in plain text, which their connector wants to be told as well: it trusts nobody.
    none: Arc<ClientConfig>,
    /// The system's authorities, read when they are first needed.
    system: OnceLock<Arc<RootCertStore>>,
}

/// The files of a configuration, as they are now.
#[derive(Default)]
pub(super) struct Files {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Files {
    /// Reads what `tls` names. Says what is missing.
    pub(super) fn read(tls: &ClientTls, surroundings: &dyn Surroundings) -> Result<Self> {
        let ca = tls.ca_ref.as_ref().map(|ca| surroundings.data(ca)).transpose()?;
        let secret = |name: &str, key: &str| {
            surroundings.secret(&SecretKeyRef { name: name.to_owned(), key: key.to_owned() })
        };
        let identity = match &tls.client_cert_secret_ref {
            Some(of) => Some((secret(&of.name, "tls.crt")?, secret(&of.name, "tls.key")?)),
            None => None,
        };
        Ok(Self { ca, identity })
    }

    /// Equal when nothing has changed.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let identity = self.identity.as_ref();
        for part in [self.ca.as_ref(), identity.map(|it| &it.0), identity.map(|it| &it.1)] {
            match part {
                Some(bytes) => {
                    hasher.update((bytes.len() as u64 + 1).to_be_bytes());
                    hasher.update(bytes);
                }
                None => hasher.update(0_u64.to_be_bytes()),
            }
        }
        hasher.finalize().into()
    }
}

impl Tls {
    pub(super) fn new() -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let none = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal(format!("no TLS can be set up: {error}")))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self { provider, none: Arc::new(none), system: OnceLock::new() })
    }

    pub(super) fn none(&self) -> Arc<ClientConfig> {
        self.none.clone()
    }

    /// The configuration of `mode` with these files. Says what is wrong with them, and never what they hold.
    pub(super) fn config(
        &self,
        mode: TlsMode,
        files: &Files,
        protocols: &[&[u8]],
    ) -> Result<ClientConfig, String> {
        let roots = match &files.ca {
            Some(pem) => Arc::new(authorities(pem)?),
            None => self.system_roots()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), self.provider.clone())
            .build()
            .map_err(|error| format!("the authorities cannot be used: {error}"))?;
        let verifier: Arc<dyn ServerCertVerifier> = match mode {
            TlsMode::VerifyCA => {
                Arc::new(AnyHost { roots, provider: self.provider.clone(), signatures: verifier })
            }
            TlsMode::VerifyFull | TlsMode::Disable => verifier,
        };
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("no TLS can be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate, "tls.crt")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| {
                    "tls.key of the client's certificate holds no private key in PEM".to_owned()
                })?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("the client's certificate cannot be used: {error}"))?
            }
        };
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = self.system.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
            return Err(format!(
                "no authorities are known to this system{why}: name those to trust in tls.caRef"
            ));
        }
        Ok(self.system.get_or_init(|| Arc::new(roots)).clone())
    }
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "tls.caRef")? {
        roots
            .add(certificate)
            .map_err(|error| format!("tls.caRef holds a certificate that is no authority: {error}"))?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], of: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    match CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err(format!("{of} holds no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{of} is not PEM: {error}")),
    }
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
