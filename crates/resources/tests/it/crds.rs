//! `crds/*.yaml` is what the types say, and fit for an API server.

use std::fs;
use std::path::{Path, PathBuf};

use headwater_resources::crd;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds")
}

#[test]
fn the_committed_files_are_what_the_types_say() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut expected = Vec::new();
    for (file, text) in crd::crds().unwrap() {
        let path = folder().join(file);
        if update {
            fs::write(&path, &text).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "crds/{file} is stale; refresh it with: UPDATE=1 cargo test --release -p headwater-resources"
        );
        expected.push(file.to_owned());
    }
    let mut found: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    let kustomization = found.iter().position(|file| file == "Kustomization").map(|at| found.remove(at));
    assert_eq!(found, expected, "crds/ holds the generated files and nothing else");
    let kustomization =
        fs::read_to_string(folder().join(kustomization.expect("crds/Kustomization"))).unwrap();
    let named: Vec<&str> = kustomization.lines().filter_map(|line| line.strip_prefix("- ")).collect();
    assert_eq!(named, expected, "crds/Kustomization names them all");
}

/// Calls `visit` with every schema within `schema`, and its path.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}.*"), visit);
    }
}

fn each_schema(mut visit: impl FnMut(&str, &Value)) {
    for definition in crd::definitions() {
        let schema = definition.schema();
        assert!(schema["properties"]["spec"]["properties"].is_object(), "{}", definition.kind);
        for part in ["spec", "status"] {
            walk(&schema["properties"][part], &format!("{}.{part}", definition.kind), &mut visit);
        }
    }
}

#[test]
fn no_name_and_no_value_is_a_boolean_of_yaml_1_1() {
    fn is_boolean(word: &str) -> bool {
        ["y", "n", "yes", "no", "on", "off", "true", "false"].contains(&word.to_lowercase().as_str())
    }
    each_schema(|path, schema| {
        for name in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()) {
            assert!(
                !is_boolean(name),
                "{path}.{name}: kubectl reads the name as a boolean; call it something else"
            );
        }
        for value in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(
                !is_boolean(value),
                "{path}: kubectl reads the value {value} as a boolean; call it something else"
            );
        }
    });
}

#[test]
fn everything_is_bounded_and_no_number_is_a_float() {
    each_schema(|path, schema| {
        let has = |key: &str| schema.get(key).is_some();
        match schema["type"].as_str() {
            Some("string") => {
                assert!(
                    has("maxLength") || has("enum") || schema["format"] == "date-time",
                    "{path}: a string without maxLength"
                );
            }
            Some("array") => assert!(has("maxItems"), "{path}: a list without maxItems"),
            Some("object") => {
                let open = schema["x-kubernetes-preserve-unknown-fields"] == true;
                assert!(
                    has("properties") || has("maxProperties") || open,
                    "{path}: a map without maxProperties"
                );
            }
            Some("integer" | "boolean") => {}
            None => assert!(
                schema["x-kubernetes-preserve-unknown-fields"] == true
                    || schema["x-kubernetes-int-or-string"] == true,
                "{path}: no type"
            ),
            Some(other) => panic!("{path}: {other}"),
        }
        assert!(!has("nullable") && !has("$ref") && !has("anyOf") && !has("oneOf"), "{path}: {schema}");
    });
}

/// Fields of Kubernetes' own types are described by Kubernetes.
fn is_foreign(path: &str) -> bool {
    [".workload.", ".networkPolicy.from[]", ".conditions[]"].iter().any(|place| path.contains(place))
}

#[test]
fn every_field_says_what_it_is() {
    let mut fields = 0;
    each_schema(|path, schema| {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if !is_foreign(&path) {
                let description = field["description"].as_str().unwrap_or_default();
                assert!(!description.is_empty(), "{path} has no description");
                fields += 1;
            }
        }
    });
    assert!(fields > 200, "{fields}");
}

#[test]
fn an_expression_names_its_variables_and_result() {
    let mut expressions = 0;
    each_schema(|path, schema| {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if field["format"] == "cel" || field["additionalProperties"]["format"] == "cel" {
                let description = field["description"].as_str().unwrap_or_default();
                // The two sides of `correlate` begin with what they are of.
                assert!(
                    description.contains("Variables: ") && description.contains("Result: "),
                    "{path}.{name}: {description}"
                );
                expressions += 1;
            }
        }
    });
    assert!(expressions >= 8, "{expressions}");
}
