//! What a resource's references lead to.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use headwater_resources::EventStream;
use headwater_resources::shared::Reason;
use jiff::Timestamp;
use kube::core::ObjectMeta;

use crate::digest::digest;
use crate::part::Kind;
use crate::references::References;
use crate::settings::TokenIssuer;

/// What was found of what a resource and its event streams refer to. What is not in it is not there.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Secrets, by name.
    pub secrets: BTreeMap<String, SecretFound>,
    /// ConfigMaps, by name, with their values that are text.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Event streams, by name.
    pub streams: BTreeMap<String, EventStream>,
    /// Event streams that are there and cannot be read, by name, and why.
    pub unreadable: BTreeMap<String, String>,
    /// What follows the event stream, or appends to it: kind and name.
    pub followers: Vec<(Kind, String)>,
    /// How the cluster's tokens are checked.
    pub issuer: TokenIssuer,
    /// What the pods that there are read, as far as it is there.
    pub running: Option<Running>,
    /// How many pods its Deployment asks for, where there is one.
    pub count: Option<Count>,
    /// The log of the event stream that it is, or follows, as its status says.
    pub log_id: Option<String>,
    /// Whether the cluster has KEDA; looked at only for who needs it.
    pub has_keda: bool,
}

/// What the pods of a Deployment were made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Running {
    /// The digest of what they read at their start.
    pub configuration: String,
    /// The ConfigMap in which they find their manifests.
    pub manifests: String,
}

/// How many pods a Deployment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Count {
    /// Pods.
    pub replicas: u32,
    /// Whether an autoscaler, or a person, has set it.
    pub is_scaled: bool,
}

/// A Secret, without its values but what certificates say to everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct SecretFound {
    /// Its keys, each with what changes when its value does.
    pub keys: BTreeMap<String, String>,
    /// The authorities in `ca.crt`, in PEM.
    pub authorities: Option<String>,
    /// When the certificate in `tls.crt` expired, where it has.
    pub expired: Option<Timestamp>,
}

impl SecretFound {
    /// Changes with the values of `keys`.
    pub fn version<'k>(&self, keys: impl IntoIterator<Item = &'k String>) -> String {
        let versions = keys.into_iter().filter_map(|key| self.keys.get(key)).map(String::as_str);
        digest(&versions.collect::<Vec<_>>().join("\n"))
    }
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Why `ResolvedRefs` is False.
    pub reason: Reason,
    /// What is missing, where it is named, and what to do.
    pub message: String,
}

impl Found {
    /// Changes with all that decides what is made of the resource with this metadata, where this was found.
    pub fn fingerprint(&self, resource: &ObjectMeta) -> u64 {
        let Self {
            secrets,
            config_maps,
            streams,
            unreadable,
            followers,
            issuer,
            running,
            count,
            log_id,
            has_keda,
        } = self;
        let mut hasher = DefaultHasher::new();
        (secrets, config_maps, unreadable, followers, issuer, running, count, log_id, has_keda)
            .hash(&mut hasher);
        for meta in streams.values().map(|stream| &stream.metadata).chain([resource]) {
            // A spec changes with its generation.
            (&meta.name, &meta.uid, meta.generation, &meta.annotations).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// The first of `references` that leads nowhere, if one does.
    pub fn missing(&self, references: &References) -> Option<Missing> {
        for reference in &references.secrets {
            let (name, path) = (&reference.name, &reference.path);
            let Some(secret) = self.secrets.get(name) else {
                let message = format!("{path} names Secret \"{name}\", which is not there: create it");
                return Some(Missing { reason: Reason::SecretNotFound, message });
            };
            let key = reference.key.as_ref().filter(|key| !secret.keys.contains_key(*key));
            if let Some(key) = key {
                let has: Vec<&str> = secret.keys.keys().map(String::as_str).collect();
                let message = format!(
                    "{path} needs key \"{key}\" of Secret \"{name}\", which has {}: add it",
                    if has.is_empty() { "none".to_owned() } else { has.join(", ") }
                );
                return Some(Missing { reason: Reason::SecretKeyMissing, message });
            }
            let is_certificate = reference.key.as_deref() == Some("tls.crt");
            if let Some(expired) = secret.expired.filter(|_| is_certificate) {
                let message = format!(
                    "{path} names Secret \"{name}\", whose certificate expired at {expired}: renew it"
                );
                return Some(Missing { reason: Reason::CertificateExpired, message });
            }
        }
        for reference in &references.config_maps {
            let (name, path) = (&reference.name, &reference.path);
            let key = reference.key.clone().unwrap_or_default();
            if !self.config_maps.get(name).is_some_and(|values| values.contains_key(&key)) {
                let message = format!(
                    "{path} names key \"{key}\" of ConfigMap \"{name}\", which is not there: create it"
                );
                return Some(Missing { reason: Reason::ConfigMapNotFound, message });
            }
        }
        references.streams.iter().find_map(|name| self.stream(name).err())
    }

    /// The event stream `name`.
    ///
    /// # Errors
    /// That it is not there, or of no use.
    pub fn stream(&self, name: &str) -> Result<&EventStream, Missing> {
        if let Some(why) = self.unreadable.get(name) {
            let message = format!("EventStream \"{name}\" cannot be read: {why}");
            return Err(Missing { reason: Reason::StreamNotReady, message });
        }
        self.streams.get(name).ok_or_else(|| {
            let message = format!("EventStream \"{name}\" is not there: create it in this namespace");
            Missing { reason: Reason::StreamNotFound, message }
        })
    }
}
