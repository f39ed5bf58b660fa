//! Resources as their bytes. Taken apart, a thousand of them would be most of what the operator holds, and it looks at one at a time.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use kube::core::ObjectMeta;
use kube::core::error_boundary::InvalidObject;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::kinds::Kept;

/// The annotation in which `kubectl apply` keeps the spec once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A resource that the API server has, which may be one that cannot be read.
#[derive(Debug, Clone)]
pub struct Packed<K> {
    /// Without what passes do not ask for.
    meta: ObjectMeta,
    /// All of it, in JSON.
    json: Arc<[u8]>,
    /// Whether it can be read.
    is_readable: bool,
    of: PhantomData<fn() -> K>,
}

impl<K: Kept> Packed<K> {
    /// The resource.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn open(&self) -> Result<K, Box<InvalidObject>> {
        let read = serde_json::from_slice(&self.json);
        // Where in the bytes it is tells nobody anything.
        let read = read.or_else(|_| serde_json::from_slice(&self.json).and_then(serde_json::from_value::<K>));
        read.map_err(|error| {
            Box::new(InvalidObject { error: error.to_string(), metadata: self.meta.clone() })
        })
    }

    /// Whether it can be read.
    pub const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// The conditions of its status, as far as these can be read.
    pub fn conditions(&self) -> Vec<Condition> {
        #[derive(Default, Deserialize)]
        struct Conditions {
            #[serde(default)]
            conditions: Vec<Condition>,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            status: Conditions,
        }
        serde_json::from_slice(&self.json).map(|it: Status| it.status.conditions).unwrap_or_default()
    }
}

impl<'de, K: Kept> Deserialize<'de> for Packed<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.shift_remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.shift_remove(LAST_APPLIED);
            }
        }
        let meta = ObjectMeta::deserialize(&object["metadata"]).map_err(D::Error::custom)?;
        let json: Arc<[u8]> = serde_json::to_vec(&object).map_err(D::Error::custom)?.into();
        let is_readable = serde_json::from_slice::<K>(&json).is_ok();
        Ok(Self { meta: ObjectMeta { labels: None, ..meta }, json, is_readable, of: PhantomData })
    }
}

impl<K: Kept> Resource for Packed<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind(of: &()) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &()) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &()) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &()) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use headwater_resources::EventStream;
    use serde_json::json;

    use super::*;

    fn packed(spec: &Value) -> Packed<EventStream> {
        let metadata = json!({
            "name": "orders", "namespace": "shop", "generation": 2, "finalizers": ["a"],
            "annotations": {"mine": "kept", LAST_APPLIED: "{}"},
            "managedFields": [{"manager": "kubectl", "fieldsV1": {}}],
        });
        let status = json!({"conditions": [{
            "type": "Ready", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let object = json!({
            "apiVersion": "headwater.dev/v1alpha1", "kind": "EventStream", "metadata": metadata, "spec": spec, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_is_packed_is_there_but_for_who_wrote_what() {
        let packed = packed(&json!({"partitions": 4}));
        assert!(packed.is_readable());
        let opened = packed.open().unwrap();
        assert_eq!(opened.spec.partitions, 4);
        assert_eq!(opened.metadata.name.as_deref(), Some("orders"));
        for meta in [&opened.metadata, packed.meta()] {
            assert_eq!(meta.finalizers.as_deref(), Some(&["a".to_owned()][..]));
            assert!(meta.managed_fields.is_none());
            let annotations: Vec<&String> = meta.annotations.as_ref().unwrap().keys().collect();
            assert_eq!(annotations, ["mine"]);
        }
        assert_eq!(packed.conditions()[0].reason, "Available");
        assert_eq!(opened.status.unwrap().conditions, packed.conditions());
    }

    #[test]
    fn what_cannot_be_read_is_there_and_says_why() {
        let packed = packed(&json!({"partitions": "many"}));
        assert!(!packed.is_readable());
        let unreadable = packed.open().unwrap_err();
        assert!(
            unreadable.error.contains("partitions") || unreadable.error.contains("many"),
            "{unreadable:?}"
        );
        assert_eq!(unreadable.metadata.name.as_deref(), Some("orders"));
        assert_eq!(packed.conditions().len(), 1);
    }
}
