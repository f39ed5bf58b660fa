//! Which resources name which objects. It is worked out once a change, since a change of a Secret asks it of all resources of a namespace.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use crate::part::Kind;
use crate::references::References;

/// What a resource names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// An event stream.
    Stream,
}

/// The names of all that a resource refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Secrets.
    pub secrets: BTreeSet<String>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<String>,
    /// Event streams.
    pub streams: BTreeSet<String>,
}

/// A resource's place: its kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<&References> for Names {
    fn from(references: &References) -> Self {
        Self {
            secrets: references.secrets.iter().map(|it| it.name.clone()).collect(),
            config_maps: references.config_maps.iter().map(|it| it.name.clone()).collect(),
            streams: references.streams.clone(),
        }
    }
}

/// Who names what.
#[derive(Debug, Default)]
pub struct Naming(RwLock<HashMap<Place, Names>>);

impl Naming {
    /// The resource at `place` refers to `references` from now on; `None`: it is gone.
    pub fn set(&self, place: &Place, references: Option<&References>) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(references) = references else {
            all.remove(place);
            return;
        };
        all.insert(place.clone(), Names::from(references));
    }

    /// What the resource at `place` names.
    pub fn of(&self, place: &Place) -> Names {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(place).cloned().unwrap_or_default()
    }

    /// The resources that name the object `name`, or an event stream that does.
    pub fn who_names(&self, what: What, namespace: &str, name: &str) -> Vec<Place> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let here = || all.iter().filter(|(place, _)| place.namespace == namespace);
        let names_it = |names: &Names| match what {
            What::Secret => names.secrets.contains(name),
            What::ConfigMap => names.config_maps.contains(name),
            What::Stream => names.streams.contains(name),
        };
        let direct: Vec<&Place> =
            here().filter(|(_, names)| names_it(names)).map(|(place, _)| place).collect();
        let streams: Vec<&str> =
            direct.iter().filter(|it| it.kind == Kind::EventStream).map(|it| it.name.as_str()).collect();
        let by_stream =
            here().filter(|(_, names)| streams.iter().any(|stream| names.streams.contains(*stream)));
        let mut found: Vec<Place> = direct.iter().map(|place| (*place).clone()).collect();
        for (place, _) in by_stream {
            if !found.contains(place) {
                found.push(place.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(kind: Kind, name: &str) -> Place {
        Place { kind, namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_secret_of_an_event_stream_is_also_its_followers_and_nobody_elses() {
        let naming = Naming::default();
        let database =
            |secret: &str| References::of(&json!({"urlSecretRef": {"name": secret, "key": "uri"}}));
        let follows = |stream: &str| References::of(&json!({"streamRef": {"name": stream}}));
        naming.set(&place(Kind::EventStream, "orders"), Some(&database("orders-db")));
        naming.set(&place(Kind::EventStream, "others"), Some(&database("others-db")));
        naming.set(&place(Kind::Projection, "orders"), Some(&follows("orders")));
        naming.set(&place(Kind::Saga, "others"), Some(&follows("others")));
        let who = |what, name: &str| {
            let mut names: Vec<_> =
                naming.who_names(what, "shop", name).into_iter().map(|it| (it.kind, it.name)).collect();
            names.sort();
            names
        };
        let orders = [(Kind::EventStream, "orders".to_owned()), (Kind::Projection, "orders".to_owned())];
        assert_eq!(who(What::Secret, "orders-db"), orders);
        assert_eq!(who(What::Stream, "orders"), orders[1..]);
        assert!(who(What::ConfigMap, "orders-db").is_empty());
        assert!(naming.who_names(What::Secret, "elsewhere", "orders-db").is_empty());
        naming.set(&place(Kind::Projection, "orders"), None);
        assert_eq!(who(What::Secret, "orders-db"), orders[..1]);
    }
}
