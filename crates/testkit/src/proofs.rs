//! Who proves what to whom: authorities that issue certificates, and issuers of JSON Web Tokens.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::dev::write;

/// A certificate authority with a name of its own.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `name` as its common name, and for these host names, addresses or URIs; and its key.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn issue(&self, name: &str, hosts: &[&str]) -> Result<(String, String)> {
        self.issue_until(name, hosts, None)
    }

    /// The same, which held until the end of this year.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub fn issue_until(&self, name: &str, hosts: &[&str], year: Option<i32>) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let mut params =
            CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(year) = year {
            params.not_after = rcgen::date_time_ymd(year, 12, 31);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &*self.0)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Such a certificate as cert-manager has the kubelet mount it: `tls.crt`, `tls.key` and `ca.crt` in `folder`, changed all at once.
    ///
    /// # Errors
    /// As [`issue`](Self::issue), and when a file cannot be written.
    pub fn mount(&self, folder: &Path, name: &str, hosts: &[&str]) -> Result<()> {
        let (certificate, key) = self.issue(name, hosts)?;
        mount(folder, &[("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &self.pem())])
    }
}

/// Puts `files` into `folder` as the kubelet does: links to what lies in a version's own folder, to which a link leads that is swapped.
///
/// # Errors
/// When a file cannot be written.
pub fn mount(folder: &Path, files: &[(&str, &str)]) -> Result<()> {
    let version = PathBuf::from(format!("..{}", Uuid::new_v4()));
    std::fs::create_dir_all(folder.join(&version))?;
    for (name, text) in files {
        write(&folder.join(&version), name, text)?;
    }
    let (new, data) = (folder.join("..data_tmp"), folder.join("..data"));
    std::os::unix::fs::symlink(&version, &new)?;
    std::fs::rename(&new, &data)?;
    for (name, _) in files {
        let link = folder.join(name);
        if !link.is_symlink() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link)?;
        }
    }
    Ok(())
}

/// An issuer of JSON Web Tokens, signed by ES256.
pub struct Issuer {
    /// Its claim `iss`.
    pub name: String,
    key_id: String,
    key: EcdsaKeyPair,
}

/// Seconds that tokens hold.
const LIFE: u64 = 3_600;

impl Issuer {
    /// A new one of this name, whose key has this id.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str, key_id: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let broken = |error: &dyn std::fmt::Display| anyhow!("a key for ES256: {error}");
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|error| broken(&error))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
            .map_err(|error| broken(&error))?;
        Ok(Self { name: name.to_owned(), key_id: key_id.to_owned(), key })
    }

    /// Its JSON Web Key Set.
    pub fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
        .to_string()
    }

    /// The claims of a token for audience `headwater` that holds for an hour from now.
    ///
    /// # Errors
    /// When the clock is before 1970.
    pub fn claims(&self, subject: &str) -> Result<Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?.as_secs();
        Ok(json!({
            "iss": self.name, "sub": subject, "aud": ["headwater"], "iat": now, "nbf": now, "exp": now + LIFE,
        }))
    }

    /// A token of these claims.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_under(&json!({"alg": "ES256", "typ": "JWT", "kid": self.key_id}), claims)
    }

    /// A token of these claims, which says of itself what `header` says.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn sign_under(&self, header: &Value, claims: &Value) -> Result<String> {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signed = self
            .key
            .sign(&SystemRandom::new(), message.as_bytes())
            .map_err(|error| anyhow!("signing a token: {error}"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed)))
    }

    /// A token of the service account `name` in `namespace`, as the kubelet projects it.
    ///
    /// # Errors
    /// As [`sign`](Self::sign).
    pub fn account(&self, namespace: &str, name: &str) -> Result<String> {
        self.sign(&self.claims(&format!("system:serviceaccount:{namespace}:{name}"))?)
    }
}
