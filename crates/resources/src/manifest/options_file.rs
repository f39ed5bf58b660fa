//! The file of a program's options: keys as its flags are named.

use std::collections::{BTreeMap, HashMap};
use std::path::Path as FilePath;

use serde_json::{Map, Value, json};

use super::yaml::Place;
use super::{Source, locate, read_file, structure, yaml, yaml_fault};
use crate::fault::{Fault, Path, Problem, Severity};

/// What a key of an options file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A text or a whole number.
    Text,
    /// Texts.
    List,
    /// True or false.
    Switch,
}

/// What an options file says.
#[derive(Debug)]
pub struct OptionsFile {
    /// By key; a text is a list of one. What is at fault is left out.
    pub values: BTreeMap<String, Vec<String>>,
    source: Source,
    places: HashMap<String, Place>,
}

impl OptionsFile {
    /// Reads the file at `path`, in which there may be the keys `known`; and all that is wrong with it.
    pub fn read(path: &FilePath, known: &BTreeMap<String, OptionKind>) -> (Self, Vec<Fault>) {
        let name = path.display().to_string();
        match read_file(path) {
            Ok(text) => Self::parse(&name, &text, known),
            Err(message) => {
                let fault = Fault {
                    file: name.clone(),
                    line: 0,
                    column: 0,
                    path: String::new(),
                    message,
                    remedy: "name another file with --config, or none".to_owned(),
                    severity: Severity::Error,
                };
                (Self::empty(&name), vec![fault])
            }
        }
    }

    fn empty(name: &str) -> Self {
        let source = Source { file: name.to_owned(), line: 1 };
        Self { values: BTreeMap::new(), source, places: HashMap::new() }
    }

    fn parse(name: &str, text: &str, known: &BTreeMap<String, OptionKind>) -> (Self, Vec<Fault>) {
        let mut file = Self::empty(name);
        let (documents, end) = yaml::read(text.strip_prefix('\u{feff}').unwrap_or(text));
        let mut faults: Vec<Fault> = end.map(|fault| yaml_fault(name, fault)).into_iter().collect();
        if documents.len() > 1 {
            let problem = Problem::new(
                Path::root(),
                format!("there are {} documents", documents.len()),
                "write all options in one, without ---",
            );
            faults.push(locate(&file.source, &file.places, problem));
        }
        let Some(document) = documents.into_iter().next() else { return (file, faults) };
        file.places = document.places;
        faults.extend(document.faults.into_iter().map(|fault| yaml_fault(name, fault)));
        let mut value = document.value;
        let problems = structure::check(&mut value, &schema(known), &Path::root()).problems;
        for (key, value) in value.as_object().into_iter().flatten() {
            if let Some(texts) = texts(value) {
                file.values.insert(key.clone(), texts);
            }
        }
        faults.extend(problems.into_iter().map(|problem| locate(&file.source, &file.places, problem)));
        (file, faults)
    }

    /// That something is wrong with the value of `key`.
    pub fn fault(&self, key: &str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let problem = Problem::new(Path::root().field(key), message, remedy);
        locate(&self.source, &self.places, problem)
    }
}

fn schema(known: &BTreeMap<String, OptionKind>) -> Value {
    let property = |kind: OptionKind| match kind {
        OptionKind::Text => json!({"type": "string", "x-kubernetes-int-or-string": true}),
        OptionKind::List => json!({"type": "array", "items": {"type": "string"}}),
        OptionKind::Switch => json!({"type": "boolean"}),
    };
    let properties: Map<String, Value> =
        known.iter().map(|(key, kind)| (key.clone(), property(*kind))).collect();
    json!({"type": "object", "properties": properties})
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Bool(_) | Value::Number(_) => Some(vec![value.to_string()]),
        Value::Array(elements) => {
            elements.iter().map(|element| element.as_str().map(str::to_owned)).collect()
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (OptionsFile, Vec<String>) {
        let known = [
            ("listen", OptionKind::Text),
            ("depth", OptionKind::Text),
            ("log-json", OptionKind::Switch),
            ("event-store", OptionKind::List),
        ];
        let known = known.map(|(key, kind)| (key.to_owned(), kind)).into_iter().collect();
        let (file, faults) = OptionsFile::parse("options.yaml", text, &known);
        (file, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn options_are_texts() {
        let (file, faults) =
            parse("listen: 127.0.0.1:1\ndepth: 7\nlog-json: true\nevent-store: [a=b, c=d]\n");
        assert!(faults.is_empty(), "{faults:?}");
        let of = |key: &str| file.values[key].join(" ");
        assert_eq!(
            ["listen", "depth", "log-json", "event-store"].map(of),
            ["127.0.0.1:1", "7", "true", "a=b c=d"]
        );
        assert_eq!(parse("").1, [""; 0]);
    }

    #[test]
    fn all_that_is_wrong_is_said_with_its_place() {
        let (_, faults) = parse("lisen: x\nlog-json: often\nevent-store: a=b\ndepth: [1]\n");
        for (fault, part) in faults.iter().zip([
            "options.yaml:1:1: lisen: ",
            "options.yaml:2:11: log-json: ",
            "options.yaml:3:14: event-store: ",
            "options.yaml:4:8: depth: ",
        ]) {
            assert!(fault.starts_with(part), "{fault} {part}");
        }
        assert_eq!(faults.len(), 4, "{faults:#?}");
        assert!(faults[0].contains("did you mean \"listen\"?"), "{faults:?}");
        let (file, _) = parse("listen: x\n");
        assert_eq!(
            file.fault("listen", "is wrong", "mend it").to_string(),
            "options.yaml:1:9: listen: is wrong; mend it"
        );
        assert!(parse("listen: x\n---\nlisten: y\n").1[0].contains("there are 2 documents"));
    }
}
