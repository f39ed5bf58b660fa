//! What a resource refers to in its namespace: Secrets, ConfigMaps, event streams.
//!
//! By the names of fields, which are the same in every kind: `…SecretRef` and `secretKeyRef` name a Secret, `configMapKeyRef` a ConfigMap,
//! `streamRef` an EventStream, and what has a `kind` says it itself. A test holds this against the definitions.

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::fault::Path;
use serde_json::Value;

/// Fields whose content is the user's own, whatever its keys are called.
const FREE: [&str; 5] = ["schema", "body", "data", "request", "set"];

/// What a resource refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Keys of Secrets.
    pub secrets: Vec<Reference>,
    /// Keys of ConfigMaps.
    pub config_maps: Vec<Reference>,
    /// Event streams.
    pub streams: BTreeSet<String>,
}

/// One reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The object's name.
    pub name: String,
    /// Its key; `None` for all that it has.
    pub key: Option<String>,
    /// Where it stands: `spec.database.urlSecretRef`.
    pub path: String,
}

impl References {
    /// All of `spec`, a resource's spec as JSON.
    pub fn of(spec: &Value) -> Self {
        let mut found = Self::default();
        found.walk(spec, &Path::root().field("spec"));
        found
    }

    /// The Secrets, by name, each with the keys that are needed.
    pub fn secret_keys(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for reference in &self.secrets {
            keys.entry(&reference.name).or_default().extend(reference.key.as_deref());
        }
        keys
    }

    fn walk(&mut self, value: &Value, path: &Path) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let path = path.field(name);
                    if !FREE.contains(&name.as_str()) {
                        self.field(name, value, &path);
                        self.walk(value, &path);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &path.index(index));
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, field: &str, value: &Value, path: &Path) {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let Some(name) = text("name") else { return };
        let reference = |key: Option<String>| Reference { name: name.clone(), key, path: path.to_string() };
        match (field, value["kind"].as_str()) {
            ("streamRef", _) => {
                self.streams.insert(name.clone());
            }
            (_, Some("Secret")) => self.secrets.push(reference(text("key"))),
            (_, Some("ConfigMap")) | ("configMapKeyRef", _) => self.config_maps.push(reference(text("key"))),
            ("secretRef" | "clientCertSecretRef", _) => {
                self.secrets.extend(["tls.crt", "tls.key"].map(|key| reference(Some(key.to_owned()))));
            }
            ("secretKeyRef", _) => self.secrets.push(reference(text("key"))),
            _ if field.ends_with("SecretRef") => self.secrets.push(reference(text("key"))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_resources::crd::definitions;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_reference_is_found_where_it_stands() {
        let spec = json!({
            "database": {"urlSecretRef": {"name": "db", "key": "uri"}, "tls": {
                "caRef": {"kind": "ConfigMap", "name": "roots", "key": "ca.crt"},
                "clientCertSecretRef": {"name": "client"}}},
            "server": {"tls": {"secretRef": {"name": "serving"}},
                "auth": {"bearerTokensSecretRef": {"name": "tokens"}}},
            "eventTypes": [{"schemaRef": {"configMapKeyRef": {"name": "schemas", "key": "a"}}, "schema": {"secretKeyRef": {"name": "no"}}}],
            "steps": [{"action": {"append": {"streamRef": {"name": "payments"}, "data": {"streamRef": {"name": "no"}}},
                "http": {"headers": [{"valueFrom": {"secretKeyRef": {"name": "token", "key": "t"}}}]}}}],
            "streamRef": {"name": "orders"},
        });
        let found = References::of(&spec);
        let secrets: Vec<_> =
            found.secrets.iter().map(|it| (it.name.as_str(), it.key.as_deref(), it.path.as_str())).collect();
        assert_eq!(
            secrets,
            [
                ("db", Some("uri"), "spec.database.urlSecretRef"),
                ("client", Some("tls.crt"), "spec.database.tls.clientCertSecretRef"),
                ("client", Some("tls.key"), "spec.database.tls.clientCertSecretRef"),
                ("serving", Some("tls.crt"), "spec.server.tls.secretRef"),
                ("serving", Some("tls.key"), "spec.server.tls.secretRef"),
                ("tokens", None, "spec.server.auth.bearerTokensSecretRef"),
                ("token", Some("t"), "spec.steps[0].action.http.headers[0].valueFrom.secretKeyRef"),
            ]
        );
        let maps: Vec<_> = found.config_maps.iter().map(|it| (it.name.as_str(), it.key.as_deref())).collect();
        assert_eq!(maps, [("roots", Some("ca.crt")), ("schemas", Some("a"))]);
        assert_eq!(found.streams.iter().collect::<Vec<_>>(), ["orders", "payments"]);
        assert_eq!(found.secret_keys()["client"].len(), 2);
    }

    /// Every field of the definitions that is called `…Ref` has one of the shapes that are known here.
    #[test]
    fn every_reference_of_the_definitions_is_known() {
        fn walk(schema: &Value, found: &mut usize) {
            let Value::Object(fields) = schema else { return };
            for (name, value) in fields.get("properties").and_then(Value::as_object).into_iter().flatten() {
                if name.ends_with("Ref") && name != "schemaRef" {
                    let example = match value["properties"].as_object() {
                        Some(fields) if fields.contains_key("kind") => {
                            json!({"kind": "Secret", "name": "n", "key": "k"})
                        }
                        _ => json!({"name": "n", "key": "k"}),
                    };
                    let references = References::of(&json!({ (name): example }));
                    assert_ne!(references, References::default(), "{name} is no known reference");
                    *found += 1;
                }
                walk(value, found);
            }
            for inner in ["items", "additionalProperties"] {
                walk(fields.get(inner).unwrap_or(&Value::Null), found);
            }
        }
        let mut found = 0;
        for definition in definitions() {
            // Kubernetes' own shapes, such as those of an affinity, refer to nothing.
            walk(&definition.schema()["properties"]["spec"], &mut found);
        }
        assert!(found > 20, "{found}");
    }
}
