//! What the TLS settings of a manifest name in its Secrets and ConfigMaps, for connections that are kept: to a database, and to a bus.

use headwater_core::{Error, Result};
use headwater_resources::shared::{ClientTls, DataKind, DataRef, SecretKeyRef, TlsMode};

use crate::load::Loaded;

/// All in PEM.
pub(crate) struct TlsFiles {
    /// Whether the certificate must be of the host that is connected to.
    pub(crate) host: bool,
    /// The authorities that are trusted. `None`: those of the system.
    pub(crate) ca: Option<Vec<u8>>,
    /// A certificate and its key, to be shown.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// Those of `tls`, which stands at `field`. `None`: plain text.
    ///
    /// # Errors
    /// `Invalid` when something that it names is not there, or it names a server, which these connections cannot look for.
    pub(crate) fn read(tls: &ClientTls, field: &str, loaded: &Loaded) -> Result<Option<Self>> {
        if tls.server_name.is_some() {
            return Err(Error::invalid(
                format!("{field}.serverName"),
                "the certificate is checked against the host that is connected to: leave serverName out, and give the address that host",
            ));
        }
        let host = match tls.mode {
            TlsMode::Disable => return Ok(None),
            TlsMode::VerifyCA => false,
            TlsMode::VerifyFull => true,
        };
        let ca = tls.ca_ref.as_ref().map(|ca| data(ca, &format!("{field}.caRef"), loaded)).transpose()?;
        let identity = match &tls.client_cert_secret_ref {
            None => None,
            Some(of) => {
                let part = |key: &str| {
                    let key = SecretKeyRef { name: of.name.clone(), key: key.to_owned() };
                    secret(&key, &format!("{field}.clientCertSecretRef"), loaded)
                };
                Some((part("tls.crt")?, part("tls.key")?))
            }
        };
        Ok(Some(Self { host, ca, identity }))
    }
}

fn data(of: &DataRef, field: &str, loaded: &Loaded) -> Result<Vec<u8>> {
    let key = SecretKeyRef { name: of.name.clone(), key: of.key.clone() };
    match of.kind {
        DataKind::Secret => secret(&key, field, loaded),
        DataKind::ConfigMap => {
            let value = loaded.manifests.config_maps.get(&key.name, &key.key);
            value.map(<[u8]>::to_vec).map_err(|missing| Error::invalid(field, missing.to_string()))
        }
    }
}

fn secret(key: &SecretKeyRef, field: &str, loaded: &Loaded) -> Result<Vec<u8>> {
    let value = loaded.manifests.secrets.get(&key.name, &key.key);
    value.map(<[u8]>::to_vec).map_err(|missing| Error::invalid(field, missing.to_string()))
}
