//! Secrets and ConfigMaps that lie beside the resources.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::{fmt, fs, io};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::fault::{Path, Problem, suggest};

/// The Secrets of a directory, by name and key. `Debug` shows no value.
#[derive(Clone, Default)]
pub struct Secrets(Values);

/// The ConfigMaps of a directory, by name and key.
#[derive(Clone, Debug, Default)]
pub struct ConfigMaps(Values);

type Values = BTreeMap<String, Object>;

#[derive(Clone, Debug)]
struct Object {
    /// Where it was written: `secrets.yaml:3`.
    place: String,
    data: BTreeMap<String, Vec<u8>>,
}

/// Why a reference leads nowhere. The message names both places: the object that was looked in, and the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct MissingValue {
    /// What is not there.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Secrets {
    /// The value of `key` of the Secret `name`.
    ///
    /// # Errors
    /// When there is no such Secret, or it has no such key.
    pub fn get(&self, name: &str, key: &str) -> Result<&[u8], MissingValue> {
        find(&self.0, "Secret", name, key)
    }

    /// The names of the Secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Those in a folder that has a folder for each Secret, by its name, with a file for each key: as a cluster mounts them in a pod.
    ///
    /// # Errors
    /// When it, or something in it, cannot be read.
    pub fn read_mounted(folder: &FilePath) -> io::Result<Self> {
        let mut secrets = Values::new();
        for (name, place) in visible(folder)? {
            if !place.is_dir() {
                continue;
            }
            let mut data = BTreeMap::new();
            for (key, path) in visible(&place)? {
                data.insert(key, fs::read(&path).map_err(|error| at(&path, &error))?);
            }
            secrets.insert(name, Object { place: place.display().to_string(), data });
        }
        Ok(Self(secrets))
    }

    /// Where the Secret `name` was found.
    pub(super) fn place(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |object| &object.place)
    }
}

/// What lies in `folder` by name, without what a cluster keeps there for itself: `..data` and what it leads to.
fn visible(folder: &FilePath) -> io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| at(folder, &error))? {
        let entry = entry.map_err(|error| at(folder, &error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

fn at(path: &FilePath, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.iter().map(|(name, object)| (name, object.data.keys().collect::<Vec<_>>()));
        f.debug_map().entries(keys).finish()
    }
}

impl ConfigMaps {
    /// The value of `key` of the ConfigMap `name`.
    ///
    /// # Errors
    /// When there is no such ConfigMap, or it has no such key.
    pub fn get(&self, name: &str, key: &str) -> Result<&[u8], MissingValue> {
        find(&self.0, "ConfigMap", name, key)
    }

    /// The names of the ConfigMaps.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn find<'v>(values: &'v Values, kind: &str, name: &str, key: &str) -> Result<&'v [u8], MissingValue> {
    let object = values.get(name).ok_or_else(|| MissingValue {
        message: format!("there is no {kind} \"{name}\" in these files"),
        remedy: match suggest(name, values.keys().map(String::as_str)) {
            near if near.is_empty() => format!("add it, with the key \"{key}\""),
            near => near,
        },
    })?;
    object.data.get(key).map(Vec::as_slice).ok_or_else(|| MissingValue {
        message: format!("the {kind} \"{name}\" ({}) has no key \"{key}\"", object.place),
        remedy: match suggest(key, object.data.keys().map(String::as_str)) {
            near if near.is_empty() => "add it there".to_owned(),
            near => near,
        },
    })
}

impl Secrets {
    pub(super) fn add(&mut self, name: &str, place: String, value: &Value) -> Vec<Problem> {
        let mut reader = DataReader::default();
        reader.encoded(value, "data");
        reader.plain(value, "stringData");
        self.0.insert(name.to_owned(), Object { place, data: reader.data });
        reader.problems
    }
}

impl ConfigMaps {
    pub(super) fn add(&mut self, name: &str, place: String, value: &Value) -> Vec<Problem> {
        let mut reader = DataReader::default();
        reader.plain(value, "data");
        reader.encoded(value, "binaryData");
        self.0.insert(name.to_owned(), Object { place, data: reader.data });
        reader.problems
    }
}

#[derive(Default)]
struct DataReader {
    data: BTreeMap<String, Vec<u8>>,
    problems: Vec<Problem>,
}

impl DataReader {
    fn plain(&mut self, value: &Value, field: &str) {
        self.each(value, field, |text| Ok(text.as_bytes().to_vec()));
    }

    fn encoded(&mut self, value: &Value, field: &str) {
        self.each(value, field, |text| {
            let packed: String = text.split_ascii_whitespace().collect();
            STANDARD
                .decode(packed)
                .map_err(|_| ("is no base64", "encode it, or put it under stringData as it is"))
        });
    }

    fn each(
        &mut self,
        value: &Value,
        field: &str,
        read: impl Fn(&str) -> Result<Vec<u8>, (&'static str, &'static str)>,
    ) {
        let path = Path::root().field(field);
        let entries = match &value[field] {
            Value::Null => return,
            Value::Object(entries) => entries,
            _ => {
                return self.problems.push(Problem::new(path, "is no map", "write one key and value a line"));
            }
        };
        for (key, value) in entries {
            let path = path.field(key);
            // The value is not shown: it may be a secret.
            let Some(text) = value.as_str() else {
                self.problems.push(Problem::new(path, "is no text", "quote it"));
                continue;
            };
            match read(text) {
                Ok(bytes) => {
                    self.data.insert(key.clone(), bytes);
                }
                Err((message, remedy)) => self.problems.push(Problem::new(path, message, remedy)),
            }
        }
    }
}
