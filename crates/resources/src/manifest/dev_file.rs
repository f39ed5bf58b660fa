//! `dev.toml`: the settings of `headwater dev` that lie beside the manifests. No YAML, as `kubectl apply -f DIR` takes all of that for manifests.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path as FilePath;

use serde::Deserialize;
use toml::Spanned;

use super::read_file;
use crate::fault::{Fault, Path, Severity};

/// Its name.
pub const DEV_FILE: &str = "dev.toml";

/// What `dev.toml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DevFile {
    /// Where services run on this machine: the host name that URLs in manifests have, and `HOST:PORT`.
    pub services: BTreeMap<String, String>,
}

impl DevFile {
    /// Reads the `dev.toml` of each directory that has one, as one.
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

/// As it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    services: BTreeMap<String, Spanned<String>>,
}

fn parse(name: &str, text: &str) -> Result<DevFile, Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let fault = |at: Option<Range<usize>>, path: String, message: String, remedy: &str| {
        let before = at.map(|at| &text[..at.start]);
        Fault {
            file: name.to_owned(),
            line: before.map_or(0, |before| before.matches('\n').count() + 1),
            column: before.map_or(0, |before| before.chars().rev().take_while(|it| *it != '\n').count() + 1),
            path,
            message,
            remedy: remedy.to_owned(),
            severity: Severity::Error,
        }
    };
    let written: Written = toml::from_str(text).map_err(|error| {
        let remedy = "write for example services.payments = \"127.0.0.1:7001\"";
        vec![fault(error.span(), String::new(), error.message().to_owned(), remedy)]
    })?;
    let mut file = DevFile::default();
    let mut faults = Vec::new();
    for (service, address) in written.services {
        if is_host_and_port(address.get_ref()) {
            file.services.insert(service, address.into_inner());
        } else {
            let path = Path::root().field("services").field(service).to_string();
            let message = format!("\"{}\" is no HOST:PORT", address.get_ref());
            faults.push(fault(Some(address.span()), path, message, "write for example 127.0.0.1:7001"));
        }
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
        let text = "[services]\npayments = \"127.0.0.1:7001\"\nshop = \"localhost:80\"\n";
        let file = parse("dev.toml", text).unwrap();
        assert_eq!(file.services["payments"], "127.0.0.1:7001");
        assert_eq!(file.services["shop"], "localhost:80");
        for text in ["", "# nothing\n", "[services]\n", "\u{feff}services = {}\n"] {
            assert_eq!(parse("dev.toml", text).unwrap(), DevFile::default(), "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        #[track_caller]
        fn check(text: &str, expected: &[&str]) {
            let faults = parse("dev.toml", text).unwrap_err();
            assert_eq!(faults.len(), expected.len(), "{faults:#?}");
            for (fault, expected) in faults.iter().zip(expected) {
                let fault = fault.to_string();
                assert!(fault.starts_with(expected), "{fault}");
            }
        }
        check("[services]\n[service]\n", &["dev.toml:2:2: unknown field `service`"]);
        check(
            "[services]\na = \"127.0.0.1\"\n",
            &["dev.toml:2:5: services.a: \"127.0.0.1\" is no HOST:PORT"],
        );
        check(
            "# ä\nservices.a = \"http://127.0.0.1:80\"\nservices.b = \"x:99999\"\n",
            &["dev.toml:2:14: services.a: ", "dev.toml:3:14: services.b: "],
        );
        check("services = [1]\n", &["dev.toml:1:12: invalid type"]);
        check("[services]\na = 1\n", &["dev.toml:2:5: invalid type: integer `1`, expected a string"]);
        check("[services]\na: b\n", &["dev.toml:2:4: key with no value"]);
    }
}
