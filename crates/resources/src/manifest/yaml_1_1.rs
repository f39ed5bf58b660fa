//! Every example and every CRD means the same to us and to a reader of YAML 1.1, as kubectl and Helm are.
//!
//! The other reader is serde-saphyr with its YAML 1.1 forms switched on: booleans `yes`, `no`, `on`, `off`, `y`, `n`, octal
//! numbers with a leading zero, `_` in numbers, merge keys. It has a parser and a resolver of its own, can be had wherever
//! Rust is, and is not ours. Numbers of base 60, which it does not know, are refused by [`plain`](super::plain).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::yaml;

/// What the other reader reads, with keys as they are read: a boolean is one even as a key.
#[derive(Debug, PartialEq)]
enum Other {
    Scalar(Value),
    List(Vec<Other>),
    Map(Vec<(Other, Other)>),
}

impl<'de> Deserialize<'de> for Other {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Other;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Other, E> {
                Ok(Other::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Other, E> {
                Ok(Other::Scalar(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Other, E> {
                Ok(Other::Scalar(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Other, E> {
                Ok(Other::Scalar(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Other, E> {
                Ok(Other::Scalar(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Other, E> {
                Ok(Other::Scalar(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Other, E> {
                Ok(Other::Scalar(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Other, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                Ok(Other::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Other, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Other::Map(map))
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl From<&Value> for Other {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(elements) => Other::List(elements.iter().map(Other::from).collect()),
            Value::Object(fields) => {
                let fields = fields.iter();
                Other::Map(
                    fields.map(|(key, value)| (Other::Scalar(key.as_str().into()), value.into())).collect(),
                )
            }
            scalar => Other::Scalar(scalar.clone()),
        }
    }
}

fn read_as_yaml_1_1(text: &str) -> Vec<Other> {
    let options = serde_saphyr::options! {
        strict_booleans: false,
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_multiple_with_options(text, options).unwrap()
}

fn read_as_we_do(text: &str) -> Vec<Other> {
    let (documents, end) = yaml::read(text);
    assert!(end.is_none(), "{end:?}");
    documents.iter().map(|document| Other::from(&document.value)).collect()
}

fn yaml_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_and_every_definition_mean_the_same_to_both() {
    let mut files = Vec::new();
    for directory in ["../../examples", "../../crds"] {
        yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    }
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (documents, _) = yaml::read(&text);
        let faults: Vec<_> = documents.iter().flat_map(|document| &document.faults).collect();
        assert!(faults.is_empty(), "{}: {faults:?}", file.display());
        assert_eq!(read_as_we_do(&text), read_as_yaml_1_1(&text), "{}", file.display());
    }
}

/// The comparison sees a difference where there is one, and each is a fault of ours.
#[test]
fn the_other_reader_reads_differently_what_we_refuse() {
    for text in ["a: yes", "a: No", "a: on", "a: OFF", "a: y", "n: 1", "on: 1", "a: 010", "a: 1_000"] {
        assert_ne!(read_as_we_do(text), read_as_yaml_1_1(text), "{text}");
        let (documents, _) = yaml::read(text);
        assert_eq!(documents[0].faults.len(), 1, "{text}");
    }
    for text in
        ["a: true", "a: \"yes\"", "a: 12", "a: 1.5", "a: ~", "a: event.data.x > 0", "a: -event.data.x"]
    {
        assert_eq!(read_as_we_do(text), read_as_yaml_1_1(text), "{text}");
    }
}
