//! TLS of the connections that calls make.

use headwater_api::tls;
use headwater_core::Result;
use headwater_resources::shared::{ClientTls, SecretKeyRef, TlsMode};
use rustls::ClientConfig;
use sha2::{Digest, Sha256};

use super::Surroundings;

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

    /// The configuration of `mode` with these files. Says what is wrong with them, and never what they hold.
    pub(super) fn config(&self, mode: TlsMode, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
        let identity = self.identity.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
        let mut config = tls::configuration(mode != TlsMode::VerifyCA, self.ca.as_deref(), identity)?;
        config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
        Ok(config)
    }
}
