use std::path::{Path, PathBuf};

use anyhow::Result;
use headwater_server::{LoadError, Loaded, Notice, Severity};

use super::demo::list;
use super::{Demo, Screen};
use crate::console::Console;
use crate::failure::Failure;
use crate::play::Fault;
use crate::procfile::{self, Program};

/// What there is to run, and nothing is wrong with it.
pub(crate) struct Plan {
    pub(crate) loaded: Loaded,
    pub(crate) programs: Vec<Program>,
    pub(crate) demo: Option<Demo>,
}

impl Plan {
    /// Reads all files in `directories`: the Procfiles where `with_programs`, a demo where its variables are given.
    ///
    /// # Errors
    /// After all faults of all files have been shown.
    pub(crate) fn read(
        directories: &[PathBuf],
        with_programs: bool,
        demo: Option<&[(String, String)]>,
        console: &Console,
    ) -> Result<Self> {
        let mut faults = Vec::new();
        let loaded = match headwater_server::load(directories) {
            Ok(loaded) => Some(loaded),
            Err(LoadError::Faults(found)) => {
                faults.extend(found.iter().map(Notice::from));
                None
            }
            Err(error) => return Err(Failure::invalid(error.to_string()).into()),
        };
        let programs = if with_programs { read_programs(directories, &mut faults)? } else { Vec::new() };
        let demo = demo.map(|variables| Demo::find(directories, variables.to_vec())).transpose()?;
        if let (Some(demo), Some(loaded)) = (&demo, &loaded) {
            let streams = loaded.manifests.event_streams.iter();
            let found = demo.check(streams.filter_map(|stream| stream.metadata.name.as_deref()));
            faults.extend(found.err().into_iter().flatten().map(|fault| notice(demo.path(), fault)));
        }
        let Some(loaded) = loaded.filter(|_| faults.is_empty()) else {
            let faults = Screen::new(console, []).faults(&faults)?;
            return Err(
                Failure::invalid(format!("{faults}; nothing was started, nothing was changed")).into()
            );
        };
        if loaded.manifests.event_streams.is_empty() {
            Screen::new(console, []).remarks(&loaded.manifests)?;
            return Err(Failure::invalid(format!("there is no EventStream in {}", list(directories)))
                .hint("docs/dev.md says what dev reads; examples/ has some")
                .into());
        }
        Ok(Self { loaded, programs, demo })
    }
}

fn read_programs(directories: &[PathBuf], faults: &mut Vec<Notice>) -> Result<Vec<Program>> {
    let mut programs = Vec::new();
    for directory in directories {
        let path = directory.join("Procfile");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::invalid(format!("read {}: {error}", path.display())).into()),
        };
        match procfile::parse(&text, directory) {
            Ok(found) => programs.extend(found),
            Err(found) => faults.extend(found.into_iter().map(|fault| notice(&path, fault))),
        }
    }
    Ok(programs)
}

fn notice(path: &Path, fault: Fault) -> Notice {
    Notice::Fault {
        file: path.display().to_string(),
        line: Some(fault.line),
        severity: Severity::Error,
        message: fault.message,
    }
}
