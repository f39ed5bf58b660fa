//! Manifests as a cluster would hold them.

use std::collections::BTreeMap;
use std::path::Path;

use headwater_operator::found::{Found, SecretFound};
use headwater_operator::part::{Kind, Owner, Part, Refused, Resource};
use headwater_operator::settings::{ServiceAccount, Settings, TokenIssuer};
use headwater_resources::manifest;
use serde_json::Value;

/// Where the namespace of the fixtures is.
pub(crate) const NAMESPACE: &str = "shop";

/// Resources, and what they find.
pub(crate) struct Fixture {
    pub(crate) resources: Vec<(Owner, Resource)>,
    pub(crate) found: Found,
}

pub(crate) fn settings() -> Settings {
    Settings {
        image: "headwater:test".to_owned(),
        image_pull_policy: "IfNotPresent".to_owned(),
        image_pull_secrets: Vec::new(),
        operator: ServiceAccount { namespace: "headwater".to_owned(), name: "headwater-operator".to_owned() },
    }
}

impl Fixture {
    /// The manifests of the folders and files at `paths`, from the workspace's root.
    pub(crate) fn read(paths: &[&str]) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut texts = Vec::new();
        for path in paths {
            let path = root.join(path);
            let mut files: Vec<_> = if path.is_dir() {
                let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
                entries.filter(|path| path.extension().is_some_and(|it| it == "yaml")).collect()
            } else {
                vec![path]
            };
            files.sort();
            for file in files {
                texts.push(std::fs::read_to_string(file).unwrap());
            }
        }
        Self::parse(&texts.join("\n---\n"))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let read = manifest::read_texts([("fixture", text)]);
        let owner = |kind, name: &Option<String>, number: usize| {
            let name = name.clone().unwrap();
            let uid = format!("00000000-0000-0000-0000-{number:012}");
            Owner { kind, namespace: NAMESPACE.to_owned(), name, uid }
        };
        let mut resources = Vec::new();
        let mut streams = BTreeMap::new();
        // What the API server stores is what was written, with defaults: schemas stay where they are.
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
        let as_written = |kind: &str, name: &Option<String>| {
            let found = documents
                .iter()
                .find(|it| it["kind"] == kind && it["metadata"]["name"].as_str() == name.as_deref());
            found.unwrap().clone()
        };
        for it in &read.event_streams {
            let name = &it.metadata.name;
            let stream: headwater_resources::EventStream =
                serde_json::from_value(as_written("EventStream", name)).unwrap();
            streams.insert(name.clone().unwrap(), stream.clone());
            let owner = owner(Kind::EventStream, name, resources.len());
            resources.push((owner, Resource::EventStream(Box::new(stream))));
        }
        for it in &read.projections {
            let owner = owner(Kind::Projection, &it.metadata.name, resources.len());
            resources.push((owner, Resource::Projection(Box::new(it.resource.clone()))));
        }
        for it in &read.sagas {
            let owner = owner(Kind::Saga, &it.metadata.name, resources.len());
            resources.push((owner, Resource::Saga(Box::new(it.resource.clone()))));
        }
        let followers = resources.iter().filter(|(owner, _)| owner.kind != Kind::EventStream);
        let followers = followers.map(|(owner, _)| (owner.kind, owner.name.clone())).collect();
        let named = |kind: &'static str| {
            documents.iter().filter(move |it| it["kind"] == kind).map(|it| {
                let keys = ["data", "stringData"].into_iter().filter_map(|field| it[field].as_object());
                let values =
                    keys.flatten().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
                (it["metadata"]["name"].as_str().unwrap().to_owned(), values.collect::<BTreeMap<_, _>>())
            })
        };
        let secrets = named("Secret").map(|(name, values)| (name, secret(values)));
        let found = Found {
            secrets: secrets.collect(),
            config_maps: named("ConfigMap").collect(),
            streams,
            followers,
            issuer: TokenIssuer {
                issuer: "https://kubernetes.default.svc".to_owned(),
                jwks: r#"{"keys":[]}"#.to_owned(),
            },
            running: None,
            count: None,
            log_id: None,
            has_keda: true,
            unreadable: BTreeMap::new(),
        };
        Self { resources, found }
    }

    /// The resource of `kind`, as what runs.
    pub(crate) fn part(&self, kind: Kind) -> Result<Part, Refused> {
        let (owner, resource) = self.resources.iter().find(|(owner, _)| owner.kind == kind).unwrap();
        resource.part(owner.clone(), &self.found, &settings())
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        let part = |(owner, resource): &(Owner, Resource)| {
            resource
                .part(owner.clone(), &self.found, &settings())
                .unwrap_or_else(|why| panic!("{owner:?}: {why:?}"))
        };
        self.resources.iter().map(part).collect()
    }
}

fn secret(values: BTreeMap<String, String>) -> SecretFound {
    let authorities = values.get("ca.crt").cloned();
    SecretFound { keys: values, authorities, expired: None }
}
