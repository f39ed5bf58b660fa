use std::path::{Path, PathBuf};

use headwater_resources::fault::{self, Fault};
use headwater_resources::manifest::{self, DevFile, Ignored, Manifests, Secrets};

use crate::{Notice, Severity};

/// What lies in the directories, and nothing is wrong with it.
#[derive(Debug)]
pub struct Loaded {
    /// The resources.
    pub manifests: Manifests,
    /// What `dev.toml` says.
    pub dev_file: DevFile,
}

/// Why manifests cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A directory cannot be read.
    #[error("read the manifests in {}: {error}", directory.display())]
    Unreadable {
        /// Which.
        directory: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The Secrets cannot be read.
    #[error("read the Secrets: {0}")]
    Secrets(std::io::Error),
    /// All that is wrong in the files, warnings included.
    #[error("{} of the manifests are wrong", .0.len())]
    Faults(Vec<Fault>),
}

impl LoadError {
    /// Writes every fault to standard error, with its place.
    pub fn print(&self) {
        let Self::Faults(faults) = self else { return };
        for fault in faults {
            if let Notice::Fault { file, line, message, .. } = Notice::from(fault) {
                let line = line.map(|line| format!(":{line}")).unwrap_or_default();
                eprintln!("{file}{line}: {message}");
            }
        }
    }
}

/// Reads and checks all manifests in `directories`, as one set.
///
/// # Errors
/// All faults of all files.
pub fn load(directories: &[PathBuf]) -> Result<Loaded, LoadError> {
    load_with_secrets(directories, None)
}

/// As [`load`], with the Secrets that are mounted in a folder, if one is given.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_with_secrets(
    directories: &[PathBuf],
    secrets: Option<&Path>,
) -> Result<Loaded, LoadError> {
    for directory in directories {
        let unreadable = |error| LoadError::Unreadable { directory: directory.clone(), error };
        if !directory.metadata().map_err(unreadable)?.is_dir() {
            let error = std::io::Error::new(std::io::ErrorKind::NotADirectory, "it is no directory");
            return Err(unreadable(error));
        }
    }
    let secrets = secrets.map(Secrets::read_mounted).transpose().map_err(LoadError::Secrets)?;
    let manifests =
        manifest::read_with_secrets(directories, secrets.unwrap_or_default()).map_err(|error| {
            LoadError::Unreadable {
                directory: directories.first().map_or_else(|| Path::new("."), PathBuf::as_path).to_owned(),
                error,
            }
        })?;
    match DevFile::read_directories(directories) {
        Ok(dev_file) if manifests.is_valid() => Ok(Loaded { manifests, dev_file }),
        Ok(_) => Err(LoadError::Faults(manifests.faults)),
        Err(more) => Err(LoadError::Faults(manifests.faults.into_iter().chain(more).collect())),
    }
}

impl From<&Ignored> for Notice {
    fn from(ignored: &Ignored) -> Self {
        Self::Ignored {
            file: format!("{}:{}", ignored.source.file, ignored.source.line),
            resource: format!("{} {}", ignored.kind, ignored.name).trim_end().to_owned(),
        }
    }
}

impl From<&Fault> for Notice {
    fn from(fault: &Fault) -> Self {
        let parts = [&fault.path, &fault.message].into_iter().filter(|part| !part.is_empty());
        let mut message = parts.map(String::as_str).collect::<Vec<_>>().join(": ");
        if !fault.remedy.is_empty() {
            message = format!("{message}; {}", fault.remedy);
        }
        Self::Fault {
            file: fault.file.clone(),
            line: (fault.line > 0).then_some(fault.line),
            severity: match fault.severity {
                fault::Severity::Error => Severity::Error,
                fault::Severity::Warning => Severity::Warning,
            },
            message,
        }
    }
}
