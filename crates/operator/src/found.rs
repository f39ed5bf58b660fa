//! What a resource's references lead to.

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::EventStream;
use headwater_resources::shared::Reason;

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
    /// What follows the event stream, or appends to it: kind and name.
    pub followers: Vec<(Kind, String)>,
    /// How the cluster's tokens are checked.
    pub issuer: TokenIssuer,
    /// What the pods that there are read, as far as it is there.
    pub running: Option<Running>,
}

/// What the pods of a Deployment were made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The digest of what they read at their start.
    pub configuration: String,
    /// The ConfigMap in which they find their manifests.
    pub manifests: String,
}

/// A Secret, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFound {
    /// Changes with every change of it.
    pub version: String,
    /// Its keys.
    pub keys: BTreeSet<String>,
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
    /// The first of `references` that leads nowhere, if one does.
    pub fn missing(&self, references: &References) -> Option<Missing> {
        for reference in &references.secrets {
            let (name, path) = (&reference.name, &reference.path);
            let Some(secret) = self.secrets.get(name) else {
                let message = format!("{path} names Secret \"{name}\", which is not there: create it");
                return Some(Missing { reason: Reason::SecretNotFound, message });
            };
            let key = reference.key.as_ref().filter(|key| !secret.keys.contains(*key));
            if let Some(key) = key {
                let has: Vec<&str> = secret.keys.iter().map(String::as_str).collect();
                let message = format!(
                    "{path} needs key \"{key}\" of Secret \"{name}\", which has {}: add it",
                    if has.is_empty() { "none".to_owned() } else { has.join(", ") }
                );
                return Some(Missing { reason: Reason::SecretKeyMissing, message });
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
        for name in &references.streams {
            if !self.streams.contains_key(name) {
                let message = format!("EventStream \"{name}\" is not there: create it in this namespace");
                return Some(Missing { reason: Reason::StreamNotFound, message });
            }
        }
        None
    }
}
