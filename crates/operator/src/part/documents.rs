//! What a program reads: its resource, the event streams that it follows, and what they name, as one text.

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::manifest;
use headwater_resources::shared::Reason;
use headwater_resources::{ADOPT, EventStream, GROUP, VERSION};
use kube::core::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Files, Kind, Manifests, Named, Refused, as_json};
use crate::digest::digest;
use crate::found::{Found, Missing};
use crate::references::References;

/// What the API server says of which object it is, and how new.
const AGE: [&str; 3] = ["creationTimestamp", "generation", "uid"];

/// What a program reads, as it is put together.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// Each with whose it is in messages.
    all: Vec<(String, Value)>,
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    references: References,
}

impl Documents {
    /// Adds a resource, without what is the operator's business alone: changing that starts no pod anew. `of` is whose it is in messages.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        metadata: &ObjectMeta,
        spec: &impl Serialize,
        not_read: &[&str],
        of: &str,
    ) {
        let mut spec = as_json(spec);
        if let Value::Object(fields) = &mut spec {
            for field in ["replicas", "autoscaling", "workload", "networkPolicy", "deletionPolicy", "server"]
                .iter()
                .chain(not_read)
            {
                fields.shift_remove(*field);
            }
            fields.retain(|_, value| !value.is_null());
        }
        let mut references = References::of(&spec);
        for reference in references.secrets.iter_mut().chain(&mut references.config_maps) {
            reference.path.insert_str(0, of);
        }
        self.references.secrets.extend(references.secrets);
        self.references.config_maps.extend(references.config_maps);
        // By the age of the resources, a program knows whether others were given newer ones.
        let mut kept = as_json(metadata);
        if let Value::Object(fields) = &mut kept {
            fields.retain(|field, _| field == "name" || AGE.contains(&field.as_str()));
        }
        // What is said to one is not said to those that follow it.
        let adopted = metadata.annotations.as_ref().and_then(|it| it.get(ADOPT)).filter(|_| of.is_empty());
        if let Some(adopted) = adopted {
            kept["annotations"] = json!({ (ADOPT): adopted });
        }
        let document = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": kind.as_str(),
            "metadata": kept,
            "spec": spec,
        });
        self.all.push((of.to_owned(), document));
    }

    /// Adds an event stream that is followed or appended to: what it looks like, and where its events are.
    pub(super) fn follow<'f>(&mut self, name: &str, found: &'f Found) -> Result<&'f EventStream, Refused> {
        let stream = found.stream(name).map_err(Refused::Missing)?;
        if stream.spec.database.is_none() {
            let message = format!(
                "EventStream \"{name}\" has no database, so nothing runs it: add spec.database to it"
            );
            return Err(Refused::Missing(Missing { reason: Reason::StreamNotReady, message }));
        }
        let of = format!("EventStream \"{name}\": ");
        self.add(Kind::EventStream, &stream.metadata, &stream.spec, &["access", "state"], &of);
        Ok(stream)
    }

    /// All as a text, and the files that a program needs with it.
    ///
    /// # Errors
    /// What is missing, and what the program would refuse.
    pub(super) fn finish(mut self, found: &Found) -> Result<(Manifests, Files), Refused> {
        if let Some(missing) = found.missing(&self.references) {
            return Err(Refused::Missing(missing));
        }
        for reference in &self.references.config_maps {
            let values = &found.config_maps[&reference.name];
            if let Some((key, value)) = reference.key.as_ref().and_then(|key| values.get_key_value(key)) {
                self.config_maps
                    .entry(reference.name.clone())
                    .or_default()
                    .insert(key.clone(), value.clone());
            }
        }
        for (name, data) in &self.config_maps {
            let map =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
            self.all.push((format!("ConfigMap \"{name}\": "), map));
        }
        let mut named = BTreeMap::new();
        for (name, keys) in self.references.secret_keys() {
            let keys: BTreeSet<String> = keys.into_iter().map(str::to_owned).collect();
            let version = found.secrets[name].version(&keys);
            named.insert(name.to_owned(), Named { keys, version });
        }
        check(&self.all, &named)?;
        let text = as_yaml(self.all.iter().map(|(_, document)| document));
        for (_, document) in &mut self.all {
            if let Some(metadata) = document["metadata"].as_object_mut() {
                metadata.retain(|field, _| !AGE.contains(&field.as_str()));
            }
        }
        let digest = digest(&as_yaml(self.all.iter().map(|(_, document)| document)));
        Ok((Manifests { text, digest }, Files { named, ..Files::default() }))
    }
}

fn as_yaml<'d>(documents: impl IntoIterator<Item = &'d Value>) -> String {
    let texts = documents.into_iter().map(|document| {
        serde_saphyr::to_string(document)
            .unwrap_or_else(|error| unreachable!("JSON has a YAML form: {error}"))
    });
    texts.collect::<Vec<_>>().join("---\n")
}

/// What the program would say of its manifests. Of Secrets it is told the names and keys alone.
fn check(documents: &[(String, Value)], named: &BTreeMap<String, Named>) -> Result<(), Refused> {
    let stand_ins: Vec<Value> = named
        .iter()
        .map(|(name, named)| {
            let data: BTreeMap<&String, &str> = named.keys.iter().map(|key| (key, "")).collect();
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
        })
        .collect();
    let stand_ins = as_yaml(&stand_ins);
    let texts: Vec<(&str, String)> =
        documents.iter().map(|(of, document)| (of.as_str(), as_yaml([document]))).collect();
    let texts = texts.iter().map(|(of, text)| (*of, text.as_str()));
    let read = manifest::read_texts(texts.chain([("Secrets: ", stand_ins.as_str())]));
    let faults: Vec<String> = read
        .errors()
        .map(|fault| {
            let parts = [&fault.path, &fault.message].into_iter().filter(|part| !part.is_empty());
            let what = parts.map(String::as_str).collect::<Vec<_>>().join(": ");
            let what = format!("{}{what}", fault.file);
            if fault.remedy.is_empty() { what } else { format!("{what}; {}", fault.remedy) }
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(Refused::Invalid(faults.join("\n"))) }
}
