//! JSON Web Tokens, such as those of Kubernetes' service accounts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use headwater_core::{Error, Result};
use jsonwebtoken::dangerous::insecure_decode_claims;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Identity, signatures};
use crate::reload::{self, Files, Source};

const OPTION: &str = "jwt-jwks";

/// Why the token of an issuer who is not trusted is refused.
pub(super) const OTHER_ISSUER: &str = "it is of another issuer";

/// Clocks may differ by this, in seconds.
const LEEWAY: u64 = 30;

/// Tokens whose signatures are remembered: a signature takes some tens of microseconds, which is much beside an append.
const REMEMBERED: usize = 1_024;

/// Who issues tokens, and for whom.
#[derive(Debug, Clone)]
pub struct JwtIssuer {
    /// The claim `iss`.
    pub issuer: String,
    /// Of the claim `aud`, one must be there.
    pub audiences: Vec<String>,
    /// The issuer's keys, a JSON Web Key Set.
    pub jwks: PathBuf,
}

/// What is missing is refused by name, when the token is validated.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: String,
    /// Seconds since 1970; a fraction is allowed.
    exp: f64,
}

/// The keys of an issuer.
pub(crate) struct Keys {
    issuer: String,
    all: Vec<Key>,
    verified: Mutex<HashMap<[u8; 32], Claims>>,
}

struct Key {
    id: Option<String>,
    verifying: DecodingKey,
    validation: Validation,
}

impl Source for JwtIssuer {
    type Value = Keys;

    fn what(&self) -> &'static str {
        "keys"
    }

    fn read(&self) -> Result<Files> {
        Ok(vec![reload::read(OPTION, &self.jwks)?])
    }

    fn parse(&self, files: &Files) -> Result<Keys> {
        signatures::install();
        let invalid = |fault: String| Error::invalid(OPTION, format!("{}: {fault}", self.jwks.display()));
        let set = files.first().map(|file| &file.1[..]).unwrap_or_default();
        let set: JwkSet = serde_json::from_slice(set)
            .map_err(|error| invalid(format!("it is no JSON Web Key Set: {error}")))?;
        let mut keys = Vec::new();
        // Keys for other uses and of other kinds may be among them.
        for jwk in &set.keys {
            let Some(algorithm) = algorithm(jwk) else { continue };
            let verifying = DecodingKey::from_jwk(jwk)
                .map_err(|error| invalid(format!("key {:?} cannot be used: {error}", jwk.common.key_id)))?;
            keys.push(Key {
                id: jwk.common.key_id.clone(),
                verifying,
                validation: self.validation(algorithm),
            });
        }
        if keys.is_empty() {
            return Err(invalid("it has no key for RS256 or ES256".to_owned()));
        }
        Ok(Keys { issuer: self.issuer.clone(), all: keys, verified: Mutex::default() })
    }
}

impl JwtIssuer {
    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audiences);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation
    }
}

/// What a key verifies, if that is accepted here.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        _ => return None,
    };
    let declared = jwk.common.key_algorithm;
    let fits = declared.is_none_or(|it| it.to_string() == format!("{algorithm:?}"));
    (signs && fits).then_some(algorithm)
}

impl Keys {
    /// None, so that nobody is accepted.
    pub(super) fn none(of: &JwtIssuer) -> Self {
        Self { issuer: of.issuer.clone(), all: Vec::new(), verified: Mutex::default() }
    }

    /// Whether `token` says of itself that it is of this issuer, which anybody could write.
    pub(super) fn is_said_by(&self, token: &str) -> bool {
        #[derive(Deserialize)]
        struct Said {
            iss: String,
        }
        insecure_decode_claims(token).is_ok_and(|said: Said| said.iss == self.issuer)
    }

    /// The subject of `token`.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(super) fn verify(&self, token: &str) -> Result<String, String> {
        let digest = Sha256::digest(token.as_bytes()).into();
        let known = self.verified().get(&digest).cloned();
        let claims = match known {
            Some(claims) if claims.exp > get_current_timestamp().saturating_sub(LEEWAY) as f64 => claims,
            _ => self.check(token)?,
        };
        let subject = claims.sub.clone();
        let mut verified = self.verified();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, claims);
        Ok(subject)
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Claims>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, token: &str) -> Result<Claims, String> {
        let header = decode_header(token).map_err(|error| describe(error.kind()))?;
        if header.crit.is_some() {
            return Err("its header asks for something that is not known here (crit)".to_owned());
        }
        let mut fault = "it is signed with a key that is not among the issuer's".to_owned();
        for key in &self.all {
            // Without an id, any of them may be meant.
            if header.kid.is_some() && key.id != header.kid {
                continue;
            }
            match decode::<Claims>(token, &key.verifying, &key.validation) {
                Ok(data) => return Ok(data.claims),
                Err(error) => {
                    fault = describe(error.kind());
                    // One whose signature holds is refused for good.
                    if !matches!(error.kind(), ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm) {
                        break;
                    }
                }
            }
        }
        Err(fault)
    }
}

fn describe(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::ExpiredSignature => "it has expired; send a newer one".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => OTHER_ISSUER.to_owned(),
        ErrorKind::InvalidAudience => "it is for another audience".to_owned(),
        ErrorKind::InvalidSignature => "its signature is not by the issuer".to_owned(),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
            "it is not signed by RS256 or ES256".to_owned()
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("it has no claim {claim}"),
        _ => "it cannot be read".to_owned(),
    }
}

/// The service account, where the subject is one.
pub(super) fn identity(subject: &str) -> Identity {
    let account = subject.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => {
            Identity::ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() }
        }
        None => Identity::Jwt(subject.to_owned()),
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("keys", &self.all.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 7515, appendix A.2: its key, and its token, which ended in 2011.
    const KEY: &str = r#"{"keys": [{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}]}"#;
    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    fn keys(set: &str) -> Result<Keys> {
        let jwks = PathBuf::from("/jwks.json");
        let issuer =
            JwtIssuer { issuer: "joe".into(), audiences: vec!["headwater".into()], jwks: jwks.clone() };
        issuer.parse(&vec![(jwks, set.as_bytes().to_vec())])
    }

    #[test]
    fn a_signature_by_rs256_holds_and_one_that_was_changed_does_not() {
        let keys = keys(KEY).unwrap();
        // The signature is looked at first: this is about what it signs.
        let fault = keys.verify(TOKEN).unwrap_err();
        assert!(fault.starts_with("it has no claim "), "{fault}");
        let changed = TOKEN.replace("cC4hiUPoj9E", "cC4hiUPoj9F");
        assert_eq!(keys.verify(&changed).unwrap_err(), "its signature is not by the issuer");
        assert_eq!(keys.verify("a.b.c").unwrap_err(), "it cannot be read");
    }

    #[test]
    fn a_key_set_without_a_key_that_is_accepted_is_refused() {
        for (set, part) in [
            ("{}", "it is no JSON Web Key Set"),
            (r#"{"keys": []}"#, "it has no key for RS256 or ES256"),
            (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#, "it has no key for RS256 or ES256"),
            (&KEY.replace("\"e\"", "\"use\": \"enc\", \"e\""), "it has no key for RS256 or ES256"),
            (&KEY.replace("\"e\"", "\"alg\": \"RS512\", \"e\""), "it has no key for RS256 or ES256"),
        ] {
            let error = keys(set).unwrap_err().to_string();
            assert!(error.starts_with("jwt-jwks: /jwks.json: ") && error.contains(part), "{error}");
        }
        assert!(keys(&KEY.replace("\"e\"", "\"alg\": \"RS256\", \"use\": \"sig\", \"e\"")).is_ok());
    }

    #[test]
    fn a_subject_is_a_service_account_or_itself() {
        let account = Identity::ServiceAccount { namespace: "shop".into(), name: "orders".into() };
        assert_eq!(identity("system:serviceaccount:shop:orders"), account);
        assert_eq!(identity("system:serviceaccount"), Identity::Jwt("system:serviceaccount".into()));
        assert_eq!(identity("ada"), Identity::Jwt("ada".into()));
    }
}
