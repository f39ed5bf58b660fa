//! `dev.yaml`: the settings of `headwater dev` that lie beside the manifests.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path as FilePath;

use serde_json::{Value, json};

use super::{DEV_FILE, Source, locate, read_file, structure, yaml, yaml_fault};
use crate::fault::{Fault, Path, Problem, Severity};

/// What `dev.yaml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevFile {
    /// Where services run on this machine: the host name that URLs in manifests have, and `HOST:PORT`.
    pub services: BTreeMap<String, String>,
}

impl DevFile {
    /// Reads the `dev.yaml` of each directory that has one, as one.
    ///
    /// # Errors
    /// All faults.
    pub fn read_directories(directories: &[impl AsRef<FilePath>]) -> Result<Self, Vec<Fault>> {
        let (mut whole, mut faults) = (Self::default(), Vec::new());
        for directory in directories {
            let path = directory.as_ref().join(DEV_FILE);
            if fs::symlink_metadata(&path).is_err() {
                continue;
            }
            let name = path.display().to_string();
            match read_file(&path) {
                Ok(text) => match parse(&name, &text) {
                    Ok(file) => whole.services.extend(file.services),
                    Err(more) => faults.extend(more),
                },
                Err(message) => faults.push(Fault {
                    file: name,
                    line: 0,
                    column: 0,
                    path: String::new(),
                    message,
                    remedy: "correct it, or remove it".to_owned(),
                    severity: Severity::Error,
                }),
            }
        }
        if faults.is_empty() { Ok(whole) } else { Err(faults) }
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "services": { "type": "object", "additionalProperties": { "type": "string" } },
        },
    })
}

fn parse(name: &str, text: &str) -> Result<DevFile, Vec<Fault>> {
    let (documents, end) = yaml::read(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut faults: Vec<Fault> = end.map(|fault| yaml_fault(name, fault)).into_iter().collect();
    let mut file = DevFile::default();
    for document in documents {
        let mut value = document.value;
        faults.extend(document.faults.into_iter().map(|fault| yaml_fault(name, fault)));
        let mut problems = structure::check(&mut value, &schema(), &Path::root()).problems;
        let services = value["services"].as_object().into_iter().flatten();
        for (service, address) in services.filter_map(|(service, address)| Some((service, address.as_str()?)))
        {
            if is_host_and_port(address) {
                file.services.insert(service.clone(), address.to_owned());
            } else {
                let path = Path::root().field("services").field(service.as_str());
                let message = format!("\"{address}\" is no HOST:PORT");
                problems.push(Problem::new(path, message, "write for example 127.0.0.1:7001"));
            }
        }
        let source = Source { file: name.to_owned(), line: 1 };
        let places: HashMap<_, _> = document.places;
        faults.extend(problems.into_iter().map(|problem| locate(&source, &places, problem)));
    }
    if faults.is_empty() { Ok(file) } else { Err(faults) }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_names_and_addresses() {
        let file =
            parse("dev.yaml", "services:\n  payments: 127.0.0.1:7001\n  shop: localhost:80\n").unwrap();
        assert_eq!(file.services["payments"], "127.0.0.1:7001");
        assert_eq!(file.services["shop"], "localhost:80");
        for text in ["", "# nothing\n", "services: {}\n"] {
            assert_eq!(parse("dev.yaml", text).unwrap(), DevFile::default(), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        #[track_caller]
        fn check(text: &str, expected: &[&str]) {
            let faults = parse("dev.yaml", text).unwrap_err();
            assert_eq!(faults.len(), expected.len(), "{faults:#?}");
            for (fault, expected) in faults.iter().zip(expected) {
                let fault = fault.to_string();
                assert!(fault.starts_with(expected), "{fault}");
            }
        }
        check("services: {}\nservice: {}\n", &["dev.yaml:2:1: service: "]);
        check("services:\n  a: 127.0.0.1\n", &["dev.yaml:2:6: services.a: \"127.0.0.1\" is no HOST:PORT"]);
        check(
            "services:\n  a: http://127.0.0.1:80\n  b: x:99999\n",
            &["dev.yaml:2:6: services.a: ", "dev.yaml:3:6: services.b: "],
        );
        check("services: [a]\n", &["dev.yaml:1:11: services: is a list, but a map is needed"]);
        check("services:\n  a: b: c\n", &["dev.yaml:2:"]);
    }
}
