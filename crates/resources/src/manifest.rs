//! Manifests: the YAML files of a directory, as resources, with file and line of every fault.
//!
//! ```text
//!  text ─▶ yaml ─▶ one document ─▶ kind? ─┬─ ours ─▶ structure ─▶ defaults ─▶ rules ─▶ Rust type ─▶ validate
//!           │                             ├─ Secret, ConfigMap ─▶ values
//!           └ syntax, duplicate keys,     └─ another ─▶ ignored
//!             what YAML 1.1 reads                                then, over all: duplicates, references
//! ```

mod dev_file;
mod options_file;
mod patterns;
mod plain;
mod references;
mod rules;
mod structure;
mod values;
mod yaml;
#[cfg(test)]
mod yaml_1_1;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::path::Path as FilePath;
use std::{fmt, fs, io};

use kube::core::object::HasSpec;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::crd::definitions;
use crate::fault::{At, Fault, Path, Problem, Severity, suggest};
use crate::{EventStream, GROUP, Projection, Saga, VERSION, validate};

pub use dev_file::{DEV_FILE, DevFile};
pub use options_file::{OptionKind, OptionsFile};
pub use values::{ConfigMaps, MissingValue, Secrets};
use yaml::{Document, Place};

/// Files larger than this are refused.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// What a set of files holds.
#[derive(Debug, Default)]
pub struct Manifests {
    /// The event streams, in the order of the files. A schema that stood in a ConfigMap is in its place.
    pub event_streams: Vec<Resource<EventStream>>,
    /// The projections, in the order of the files.
    pub projections: Vec<Resource<Projection>>,
    /// The sagas, in the order of the files.
    pub sagas: Vec<Resource<Saga>>,
    /// The Secrets.
    pub secrets: Secrets,
    /// The ConfigMaps.
    pub config_maps: ConfigMaps,
    /// Resources of other kinds.
    pub ignored: Vec<Ignored>,
    /// All that is wrong, in the order of the files. A resource with a fault may be missing
    /// above, or be there in part: use none of them while there are [`errors`](Self::errors).
    pub faults: Vec<Fault>,
}

impl Manifests {
    /// Whether nothing stands in the way. There may be warnings.
    pub fn is_valid(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The faults that stand in the way.
    pub fn errors(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Error)
    }

    /// The faults that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(|fault| fault.severity == Severity::Warning)
    }
}

/// A resource, and where it was written.
#[derive(Debug)]
pub struct Resource<T> {
    /// The resource, with defaults.
    pub resource: T,
    /// Where.
    pub source: Source,
    places: HashMap<String, Place>,
    /// Fields whose values lie in a ConfigMap, and where they are named.
    elsewhere: Vec<Elsewhere>,
}

/// A field that got its value from somewhere else.
#[derive(Debug)]
struct Elsewhere {
    field: Path,
    named_at: Path,
    /// The key of a ConfigMap, in words.
    holder: String,
}

impl<T> Deref for Resource<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.resource
    }
}

/// What the resources are to be, by name.
pub fn specs<T>(resources: &[Resource<T>]) -> BTreeMap<String, T::Spec>
where
    T: kube::Resource + HasSpec,
    T::Spec: Clone,
{
    let named = |it: &Resource<T>| Some((it.meta().name.clone()?, it.spec().clone()));
    resources.iter().filter_map(named).collect()
}

/// Where a document begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, as it was given.
    pub file: String,
    /// The line, from 1; 0 where there are none.
    pub line: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A resource that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its kind.
    pub kind: String,
    /// Its name; empty when it has none.
    pub name: String,
    /// Where.
    pub source: Source,
}

/// Reads the `*.yaml` and `*.yml` files that lie in `directory`, in the order of their names, without what lies deeper.
///
/// # Errors
/// When the directory cannot be listed. A file that cannot be read is a fault.
pub fn read_directory(directory: &FilePath) -> io::Result<Manifests> {
    read_directories(&[directory])
}

/// As [`read_directory`], of several directories as one set.
///
/// # Errors
/// As [`read_directory`].
pub fn read_directories(directories: &[impl AsRef<FilePath>]) -> io::Result<Manifests> {
    read_with_secrets(directories, Secrets::default())
}

/// As [`read_directories`], with Secrets that come from elsewhere.
///
/// # Errors
/// As [`read_directory`].
pub fn read_with_secrets(directories: &[impl AsRef<FilePath>], secrets: Secrets) -> io::Result<Manifests> {
    let mut reader = Reader::default();
    for name in secrets.names() {
        let source = Source { file: secrets.place(name).to_owned(), line: 0 };
        reader.seen.insert(("Secret".to_owned(), name.to_owned()), source);
    }
    reader.manifests.secrets = secrets;
    for directory in directories {
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_yaml && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let name = path.display().to_string();
            match read_file(&path) {
                Ok(text) => reader.file(&name, &text),
                Err(message) => reader.manifests.faults.push(Fault {
                    file: name,
                    line: 0,
                    column: 0,
                    path: String::new(),
                    message,
                    remedy: "correct it, or move it elsewhere".to_owned(),
                    severity: Severity::Error,
                }),
            }
        }
    }
    Ok(reader.finish())
}

fn read_file(path: &FilePath) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(format!("has {size} bytes; at most {MAX_FILE_BYTES} are read"));
    }
    let bytes = fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes)
        .map_err(|error| format!("is no UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// Reads texts, each with the name that its faults are to show.
pub fn read_texts<'t>(files: impl IntoIterator<Item = (&'t str, &'t str)>) -> Manifests {
    let mut reader = Reader::default();
    for (name, text) in files {
        reader.file(name, text);
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    manifests: Manifests,
    /// Where each resource was first written, by kind and name.
    seen: HashMap<(String, String), Source>,
}

impl Reader {
    fn file(&mut self, name: &str, text: &str) {
        let (documents, end) = yaml::read(text.strip_prefix('\u{feff}').unwrap_or(text));
        for document in documents {
            self.document(name, document);
        }
        if let Some(fault) = end {
            self.manifests.faults.push(yaml_fault(name, fault));
        }
    }

    fn document(&mut self, file: &str, document: Document) {
        let Document { mut value, places, faults } = document;
        self.manifests.faults.extend(faults.into_iter().map(|fault| yaml_fault(file, fault)));
        let line = places.get("").map_or(1, |place| place.value.line);
        let source = Source { file: file.to_owned(), line };
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if api_version.is_empty() || kind.is_empty() {
            let missing = if api_version.is_empty() { "apiVersion" } else { "kind" };
            let problem = Problem::new(
                Path::root().field(missing),
                "is missing",
                format!("a resource begins with apiVersion, {GROUP}/{VERSION} for Headwater's own, and kind"),
            );
            return self.problems(&source, &places, vec![problem.of_key()]);
        }
        if api_version == "v1" && (kind == "Secret" || kind == "ConfigMap") {
            self.values(&kind, &name, &source, &places, &value);
            return;
        }
        let ours =
            api_version == GROUP || api_version.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
        if !ours {
            if let Some(problem) = overlooked(&api_version, &kind) {
                self.problems(&source, &places, vec![problem]);
            }
            self.manifests.ignored.push(Ignored { kind, name, source });
            return;
        }
        let Some(definition) = definitions().iter().find(|definition| definition.kind == kind) else {
            let problem = Problem::new(
                Path::root().field("kind"),
                format!("{GROUP} has no kind \"{kind}\""),
                suggest(&kind, definitions().iter().map(|definition| definition.kind)),
            );
            return self.problems(&source, &places, vec![problem]);
        };
        let schema = root_schema(definition.schema());
        let is_first = name.is_empty() || self.is_first(&kind, &name, &source, &places);
        if api_version != format!("{GROUP}/{VERSION}") {
            let problem = Problem::new(
                Path::root().field("apiVersion"),
                format!("this version of Headwater knows no {api_version}"),
                format!("write {GROUP}/{VERSION}, or use a version that knows it"),
            );
            return self.problems(&source, &places, vec![problem]);
        }

        if let Value::Object(fields) = &mut value {
            // What a cluster last said of it is none of ours.
            fields.shift_remove("status");
        }
        let findings = structure::check(&mut value, &schema, &Path::root());
        let mut problems = findings.problems;
        rules::apply_defaults(&mut value, &schema);
        if !findings.broken {
            rules::check_rules(&value, &schema, &Path::root(), &mut problems);
        }
        self.problems(&source, &places, problems);
        if !is_first {
            return;
        }
        let read = Read { value, source, places, broken: findings.broken };
        let Manifests { event_streams, projections, sagas, faults, .. } = &mut self.manifests;
        match kind.as_str() {
            "EventStream" => read.into_resource(event_streams, faults),
            "Projection" => read.into_resource(projections, faults),
            _ => read.into_resource(sagas, faults),
        }
    }

    fn values(
        &mut self,
        kind: &str,
        name: &str,
        source: &Source,
        places: &HashMap<String, Place>,
        value: &Value,
    ) {
        if name.is_empty() {
            let path = Path::root().field("metadata").field("name");
            return self.problems(
                source,
                places,
                vec![Problem::new(path, "is missing", "give it a name").of_key()],
            );
        }
        if !self.is_first(kind, name, source, places) {
            return;
        }
        let place = format!("{}:{}", source.file, source.line);
        let problems = if kind == "Secret" {
            self.manifests.secrets.add(name, place, value)
        } else {
            self.manifests.config_maps.add(name, place, value)
        };
        self.problems(source, places, problems);
    }

    fn is_first(&mut self, kind: &str, name: &str, source: &Source, places: &HashMap<String, Place>) -> bool {
        let key = (kind.to_owned(), name.to_owned());
        if let Some(first) = self.seen.get(&key) {
            let problem = Problem::new(
                Path::root().field("metadata").field("name"),
                format!("there is another {kind} \"{name}\" at {first}"),
                "rename or remove one of them",
            );
            self.problems(source, places, vec![problem]);
            return false;
        }
        self.seen.insert(key, source.clone());
        true
    }

    fn problems(&mut self, source: &Source, places: &HashMap<String, Place>, problems: Vec<Problem>) {
        let faults = problems.into_iter().map(|problem| locate(source, places, problem)).collect();
        add(&mut self.manifests.faults, faults);
    }

    fn finish(mut self) -> Manifests {
        let streams =
            self.seen.keys().filter(|(kind, _)| kind == "EventStream").map(|(_, name)| name.as_str());
        let mut streams: Vec<&str> = streams.collect();
        streams.sort_unstable();
        references::resolve(&mut self.manifests, &streams);
        let Manifests { event_streams, projections, sagas, faults, .. } = &mut self.manifests;
        for stream in event_streams.iter() {
            let problems = validate::event_stream(&stream.resource);
            add(faults, problems.into_iter().map(|problem| stream.locate(problem)).collect());
        }
        let all: Vec<&EventStream> = event_streams.iter().map(|stream| &stream.resource).collect();
        for (index, problem) in validate::shared_buses(&all) {
            add(faults, vec![event_streams[index].locate(problem)]);
        }
        let stream = |name: &str| {
            let found = event_streams.iter().find(|stream| stream.metadata.name.as_deref() == Some(name));
            found.map(|stream| &stream.resource)
        };
        for projection in projections.iter() {
            let problems =
                validate::projection(&projection.resource, stream(&projection.spec.stream_ref.name));
            add(faults, problems.into_iter().map(|problem| projection.locate(problem)).collect());
        }
        for saga in sagas.iter() {
            let problems = validate::saga(&saga.resource, stream(&saga.spec.stream_ref.name));
            add(faults, problems.into_iter().map(|problem| saga.locate(problem)).collect());
        }
        let mut files: Vec<String> = Vec::new();
        for fault in faults.iter() {
            if !files.contains(&fault.file) {
                files.push(fault.file.clone());
            }
        }
        files.sort();
        let order = |file: &str| files.iter().position(|known| known == file);
        faults.sort_by_key(|fault| (order(&fault.file), fault.line, fault.column));
        self.manifests
    }
}

/// A document of ours that has been looked at.
struct Read {
    value: Value,
    source: Source,
    places: HashMap<String, Place>,
    /// Whether its structure has faults that have been told.
    broken: bool,
}

impl Read {
    /// Even a broken one is taken as far as it can be, so that the rest of it is looked at as well.
    fn into_resource<T: DeserializeOwned>(self, resources: &mut Vec<Resource<T>>, faults: &mut Vec<Fault>) {
        let Self { value, source, places, broken } = self;
        match serde_json::from_value(value) {
            Ok(resource) => resources.push(Resource { resource, source, places, elsewhere: Vec::new() }),
            Err(_) if broken => {}
            Err(error) => {
                let problem = Problem::new(Path::root(), format!("cannot be read: {error}"), "");
                faults.push(locate(&source, &places, problem));
            }
        }
    }
}

impl<T> Resource<T> {
    /// Where in the file a problem of this resource is.
    pub fn locate(&self, mut problem: Problem) -> Fault {
        for Elsewhere { field, named_at, holder } in &self.elsewhere {
            let path = problem.path.to_string();
            let rest = path.strip_prefix(&field.to_string()).filter(|rest| {
                // Not of a neighbour whose name begins so.
                rest.is_empty() || rest.starts_with(['.', '['])
            });
            if let Some(rest) = rest {
                let rest = rest.trim_start_matches('.');
                let place = if rest.is_empty() { String::new() } else { format!("{rest} in ") };
                problem.message = format!("{place}{holder}: {}", problem.message);
                problem.path = named_at.clone();
                problem.at = At::Value;
                break;
            }
        }
        locate(&self.source, &self.places, problem)
    }
}

fn locate(source: &Source, places: &HashMap<String, Place>, problem: Problem) -> Fault {
    let Problem { path, at, mut message, remedy, severity } = problem;
    let mark = if let Some(place) = places.get(&path.pointer()) {
        match at {
            At::Key => place.key,
            At::Value => place.value,
            At::Text { line, column } => match place.text {
                Some(start) if line == 1 => {
                    yaml::Mark { line: start.line, column: start.column + column - 1 }
                }
                _ => {
                    message = format!("line {line}, column {column} of the text: {message}");
                    place.value
                }
            },
        }
    } else {
        // What is missing is missing where its parent is.
        let mut parents = std::iter::successors(path.parent(), Path::parent);
        let place = parents.find_map(|parent| places.get(&parent.pointer()));
        place.map_or(yaml::Mark { line: source.line, column: 1 }, |place| place.key)
    };
    Fault {
        file: source.file.clone(),
        line: mark.line,
        column: mark.column,
        path: path.to_string(),
        message,
        remedy,
        severity,
    }
}

/// What is wrong with a resource that is ignored and was probably meant for us.
fn overlooked(api_version: &str, kind: &str) -> Option<Problem> {
    let ours = definitions().iter().any(|definition| definition.kind == kind);
    let problem = if ours {
        Problem::new(
            Path::root().field("apiVersion"),
            format!("{api_version} is not Headwater's, so this {kind} is ignored"),
            format!("write {GROUP}/{VERSION} if it is meant for Headwater"),
        )
    } else if api_version == "v1" && kind == "List" {
        Problem::new(
            Path::root().field("kind"),
            "a List is ignored, with all that is in it",
            "write each of its items as a document of its own, with --- between them",
        )
    } else {
        return None;
    };
    Some(problem.warning())
}

/// Adds what a later look has found, but for places of which an earlier look has told already.
fn add(faults: &mut Vec<Fault>, found: Vec<Fault>) {
    let told = |fault: &Fault| {
        faults.iter().any(|known| {
            (known.line, known.column, &known.path, &known.file)
                == (fault.line, fault.column, &fault.path, &fault.file)
        })
    };
    let new: Vec<Fault> = found.into_iter().filter(|fault| !told(fault)).collect();
    faults.extend(new);
}

fn yaml_fault(file: &str, fault: yaml::YamlFault) -> Fault {
    Fault {
        file: file.to_owned(),
        line: fault.mark.line,
        column: fault.mark.column,
        path: fault.path.to_string(),
        message: fault.message,
        remedy: fault.remedy,
        severity: Severity::Error,
    }
}

/// The schema of a whole resource: the CRD's, and what every object has.
fn root_schema(schema: &Value) -> Value {
    let text_map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let mut root = schema.clone();
    root["properties"]["apiVersion"] = json!({ "type": "string" });
    root["properties"]["kind"] = json!({ "type": "string" });
    root["properties"]["metadata"] = json!({
        "type": "object",
        "description": "The resource's name, labels and annotations",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "minLength": 1,
                "maxLength": 253,
                "description": "The resource's name.",
            },
            "namespace": { "type": "string" },
            "labels": text_map,
            "annotations": text_map,
            "finalizers": { "type": "array", "items": { "type": "string" } },
            "generateName": { "type": "string" },
            "creationTimestamp": {},
            "deletionGracePeriodSeconds": { "type": "integer" },
            "deletionTimestamp": {},
            "generation": { "type": "integer" },
            "managedFields": { "type": "array", "items": { "x-kubernetes-preserve-unknown-fields": true } },
            "ownerReferences": { "type": "array", "items": { "x-kubernetes-preserve-unknown-fields": true } },
            "resourceVersion": { "type": "string" },
            "selfLink": { "type": "string" },
            "uid": { "type": "string" },
        },
    });
    if let Some(required) = root["required"].as_array_mut()
        && !required.contains(&json!("metadata"))
    {
        required.push(json!("metadata"));
    }
    root
}
