//! What this operator has written, and found to be as it is to be. What is watched comes a little later than what is written: a pass that saw
//! only the former would write twice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::children::{Child, Children};

/// A child's kind, namespace and name.
type Key = (String, String, String);

/// What a resource has become.
#[derive(Debug, Clone)]
pub struct Settled {
    /// What that followed from.
    fingerprint: u64,
    /// The kinds and names of its children.
    pub wanted: Vec<(String, String)>,
    /// The same of what is not to be there.
    pub unwanted: Vec<(String, String)>,
}

/// What is known of children and statuses.
#[derive(Debug, Default)]
pub struct Written {
    /// By child: its version when it was found to be as wanted, and the digest of what was wanted.
    children: Mutex<HashMap<Key, (String, String)>>,
    /// By a resource's identity: what it has become.
    settled: Mutex<HashMap<String, Settled>>,
    /// By a resource's identity: the version of it whose status has been overwritten.
    statuses: Mutex<HashMap<String, String>>,
}

impl Written {
    /// The child was as wanted at `version`.
    pub fn note(&self, namespace: &str, child: &Child, version: String) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children
            .insert(key(&child.resource.kind, namespace, &child.name), (version, child.digest().to_owned()));
    }

    /// Whether the child is as wanted, when it is at `version`.
    pub fn is_as_wanted(&self, namespace: &str, child: &Child, version: &str) -> bool {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let known = children.get(&key(&child.resource.kind, namespace, &child.name));
        known.is_some_and(|(at, digest)| at == version && digest == child.digest())
    }

    /// The version at which an object was found to be as wanted, if it is a child.
    pub fn version(&self, kind: &str, namespace: &str, name: &str) -> Option<String> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.get(&key(kind, namespace, name)).map(|(version, _)| version.clone())
    }

    /// What is watched does not have the object as it is: whoever asks for its version is to ask the API server.
    pub fn doubt(&self, namespace: &str, child: &Child) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.insert(key(&child.resource.kind, namespace, &child.name), (String::new(), String::new()));
    }

    /// An object is not there any more.
    pub fn forget(&self, kind: &str, namespace: &str, name: &str) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.remove(&key(kind, namespace, name));
    }

    /// The resource `uid` has become `children`, by what `fingerprint` is of.
    pub fn settle(&self, uid: &str, fingerprint: u64, children: &Children) {
        let wanted = children.wanted.iter().map(|it| (it.resource.kind.clone(), it.name.clone())).collect();
        let unwanted =
            children.unwanted.iter().map(|(kind, name)| (kind.kind.clone(), name.clone())).collect();
        let settled = Settled { fingerprint, wanted, unwanted };
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), settled);
    }

    /// What the resource `uid` has become, if that followed from the same.
    pub fn settled(&self, uid: &str, fingerprint: u64) -> Option<Settled> {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.get(uid).filter(|it| it.fingerprint == fingerprint).cloned()
    }

    /// The resource `uid` is not there any more.
    pub fn unsettle(&self, uid: &str) {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// The status of the resource `uid` at `version` has been overwritten: whoever sees that version sees the past.
    pub fn overwrote(&self, uid: &str, version: String) {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), version);
    }

    /// Whether the resource `uid` at `version` is the past. Asked once of a newer version, it forgets the older.
    pub fn is_past(&self, uid: &str, version: Option<&str>) -> bool {
        let mut statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past = statuses.get(uid).is_some_and(|before| Some(before.as_str()) == version);
        if !is_past {
            statuses.remove(uid);
        }
        is_past
    }
}

fn key(kind: &str, namespace: &str, name: &str) -> Key {
    (kind.to_owned(), namespace.to_owned(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_resource_has_become_is_known_until_what_that_followed_from_changes() {
        let written = Written::default();
        let kind = crate::children::kind::<k8s_openapi::api::core::v1::Service>();
        let children = Children { wanted: Vec::new(), unwanted: vec![(kind, "orders".to_owned())] };
        written.settle("1", 7, &children);
        let settled = written.settled("1", 7).unwrap();
        assert_eq!(settled.unwanted, [("Service".to_owned(), "orders".to_owned())]);
        assert!(written.settled("1", 8).is_none() && written.settled("2", 7).is_none());
        written.unsettle("1");
        assert!(written.settled("1", 7).is_none());
    }

    #[test]
    fn a_resource_whose_status_was_overwritten_is_the_past_until_it_is_seen_anew() {
        let written = Written::default();
        assert!(!written.is_past("1", Some("7")));
        written.overwrote("1", "7".to_owned());
        assert!(written.is_past("1", Some("7")));
        assert!(!written.is_past("2", Some("7")));
        assert!(!written.is_past("1", Some("8")));
        assert!(!written.is_past("1", Some("7")), "what is forgotten is forgotten");
    }
}
