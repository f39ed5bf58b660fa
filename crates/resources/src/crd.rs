//! The custom resource definitions, from the Rust types.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value};

use crate::shared::foreign_schema;
use crate::{EventStream, Projection, Saga};

/// The first lines of every generated file.
const HEADER: &str = "# Generated from crates/resources by `headwater crd`; do not edit.\n";

/// What a kind of resource is.
#[derive(Debug)]
pub struct Definition {
    /// The kind, for example `EventStream`.
    pub kind: &'static str,
    /// The file that holds the definition, for example `eventstreams.yaml`.
    pub file: &'static str,
    resource: LazyLock<Value>,
}

/// Constants that only code can write down; each is derived when it is first asked for, which takes milliseconds.
static DEFINITIONS: [Definition; 3] = [
    Definition {
        kind: "EventStream",
        file: "eventstreams.yaml",
        resource: LazyLock::new(|| fit(&EventStream::crd())),
    },
    Definition {
        kind: "Projection",
        file: "projections.yaml",
        resource: LazyLock::new(|| fit(&Projection::crd())),
    },
    Definition { kind: "Saga", file: "sagas.yaml", resource: LazyLock::new(|| fit(&Saga::crd())) },
];

impl Definition {
    /// The `CustomResourceDefinition`, as JSON.
    pub fn resource(&self) -> &Value {
        &self.resource
    }

    /// The OpenAPI v3 schema of the version that is served.
    pub fn schema(&self) -> &Value {
        &self.resource["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }

    /// The definition as YAML.
    ///
    /// # Errors
    /// What the YAML writer says; a definition always has a YAML form.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        Ok(format!("{HEADER}{}", serde_saphyr::to_string(self.resource())?))
    }
}

/// The definitions of all kinds.
///
/// They are what `kube` derives, made fit for an API server and its readers: optional fields are absent, never null, formats
/// of unsigned numbers, which OpenAPI does not know, are left out, Kubernetes' own types are bounded, and descriptions have no
/// line ends. What `kube`'s own `crd()` gives is not fit to be applied.
pub fn definitions() -> &'static [Definition] {
    &DEFINITIONS
}

/// The files of `crds/`: each file's name and its text. What `headwater crd` prints.
///
/// # Errors
/// What the YAML writer says; a definition always has a YAML form.
pub fn crds() -> Result<Vec<(&'static str, String)>, serde_saphyr::ser::Error> {
    definitions().iter().map(|definition| Ok((definition.file, definition.to_yaml()?))).collect()
}

fn fit(derived: &CustomResourceDefinition) -> Value {
    let mut resource =
        serde_json::to_value(derived).expect("a definition has string keys, so it has a JSON form");
    if let Some(versions) = resource["spec"]["versions"].as_array_mut() {
        for version in versions {
            tidy(&mut version["schema"]["openAPIV3Schema"]);
        }
    }
    resource.sort_all_objects();
    resource
}

fn tidy(schema: &mut Value) {
    if let Some(mut foreign) = schema["format"].as_str().and_then(foreign_schema) {
        foreign["description"] = schema["description"].take();
        *schema = foreign;
    }
    let Value::Object(fields) = schema else { return };
    fields.shift_remove("nullable");
    if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        fields.shift_remove("format");
    }
    if let Some(Value::String(description)) = fields.get_mut("description") {
        *description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    whole(fields);
    for key in ["properties", "patternProperties"] {
        if let Some(Value::Object(properties)) = fields.get_mut(key) {
            properties.values_mut().for_each(tidy);
        }
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(key) {
            tidy(inner);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = fields.get_mut(key) {
            branches.iter_mut().for_each(tidy);
        }
    }
}

/// Bounds of whole numbers pass through floats in the Kubernetes types; here they are whole again.
fn whole(fields: &mut Map<String, Value>) {
    for key in ["minimum", "maximum"] {
        if let Some(bound) = fields.get_mut(key)
            && let Some(number) = bound.as_f64()
            && number.fract() == 0.0
        {
            *bound = (number as i64).into();
        }
    }
}
