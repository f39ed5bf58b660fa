//! The directory that holds what `dev` keeps.
//!
//! ```text
//! .headwater/
//!   .gitignore            everything in here
//!   format                the number of this layout
//!   dev.lock              who uses it
//!   streams/NAME.db       the log of an EventStream
//!   projections/NAME.db   the read model of a Projection
//!   sagas/NAME.db         the log of a Saga: its instances
//!   scratch/              read models of the past, for as long as somebody asks for them
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use headwater_core::{Error, Result};
use headwater_sql::DataLock;

/// The layout above. A newer one gets another number.
const FORMAT: u32 = 1;

const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "dev.lock";

/// A data directory that no other process uses.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// `None` until it has been made.
    lock: Option<DataLock>,
}

impl DataDir {
    /// Takes the directory at `path`, if it is there, for this process. Changes nothing in it, and makes none.
    ///
    /// # Errors
    /// `FailedPrecondition` when another process uses it, or it holds something else; `Corrupt` when a newer Headwater wrote it.
    pub fn claim(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match fs::read_to_string(path.join(FORMAT_FILE)) {
            // A crash may have emptied it before it was written to the disk.
            Ok(format) if format.trim().is_empty() => {
                check_empty(&path)?;
                return Ok(Self { path, lock: None });
            }
            Ok(format) => check_format(&path, format.trim())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                check_empty(&path)?;
                return Ok(Self { path, lock: None });
            }
            Err(error) => return Err(failed("read", &path.join(FORMAT_FILE), &error)),
        }
        let lock = Some(lock(&path)?);
        Ok(Self { path, lock })
    }

    /// Makes what is missing.
    ///
    /// # Errors
    /// `FailedPrecondition` when it cannot be written, `Exhausted` when the disk is full; as [`claim`](Self::claim), when another process was faster.
    pub fn prepare(&mut self) -> Result<()> {
        fs::create_dir_all(&self.path).map_err(|error| failed("make", &self.path, &error))?;
        if self.lock.is_none() {
            self.lock = Some(lock(&self.path)?);
        }
        for folder in ["streams", "projections", "sagas"].map(|folder| self.path.join(folder)) {
            fs::create_dir_all(&folder).map_err(|error| failed("make", &folder, &error))?;
        }
        // What a process left there that was killed is of no use to anybody.
        let scratch = self.scratch();
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("empty", &scratch, &error));
            }
            _ => fs::create_dir_all(&scratch).map_err(|error| failed("make", &scratch, &error))?,
        }
        for (name, text) in [(".gitignore", "*\n".to_owned()), (FORMAT_FILE, format!("{FORMAT}\n"))] {
            let file = self.path.join(name);
            if fs::metadata(&file).map_or(true, |file| file.len() == 0) {
                write(&file, &text).map_err(|error| failed("write", &file, &error))?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of what does not last.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// The file of the log of EventStream `name`.
    pub(crate) fn stream(&self, name: &str) -> PathBuf {
        self.path.join("streams").join(format!("{name}.db"))
    }

    /// The file of the read model of Projection `name`.
    pub(crate) fn projection(&self, name: &str) -> PathBuf {
        self.path.join("projections").join(format!("{name}.db"))
    }

    /// The file of the log of Saga `name`.
    pub(crate) fn saga(&self, name: &str) -> PathBuf {
        self.path.join("sagas").join(format!("{name}.db"))
    }
}

fn lock(path: &Path) -> Result<DataLock> {
    DataLock::acquire_for(path, &path.join(LOCK_FILE))
}

/// All of it or nothing, even when the machine stops.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_file_name(format!("{}.new", file.file_name().unwrap_or_default().display()));
    let mut written = fs::File::create(&new)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&new, file)?;
    match file.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn check_format(path: &Path, text: &str) -> Result<()> {
    match text.parse::<u32>() {
        Ok(FORMAT) => Ok(()),
        Ok(newer) if newer > FORMAT => Err(Error::corrupt(format!(
            "the data directory {} was written by a newer Headwater (its format is {newer}, this one knows {FORMAT}); use the newer one, or another directory with --data-dir; nothing was changed",
            path.display()
        ))),
        _ => Err(Error::corrupt(format!(
            "the data directory {} says format {text:?}, which no Headwater wrote; restore it, or use another directory with --data-dir",
            path.display()
        ))),
    }
}

/// A directory that holds something else is not taken over.
fn check_empty(path: &Path) -> Result<()> {
    match fs::read_dir(path) {
        Ok(entries) => {
            // What a start leaves that was interrupted before it had written the format.
            let ours = [
                ".gitignore",
                ".gitignore.new",
                FORMAT_FILE,
                "format.new",
                LOCK_FILE,
                "streams",
                "projections",
                "sagas",
                "scratch",
            ];
            for entry in entries {
                let entry = entry.map_err(|error| failed("read", path, &error))?.file_name();
                if !ours.iter().any(|name| entry == *name) {
                    return Err(Error::failed_precondition(format!(
                        "{} is no data directory: it has {} in it; give an empty or a new directory with --data-dir",
                        path.display(),
                        entry.display()
                    )));
                }
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let what = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull => Error::exhausted(format!(
            "{what}; make room there, or give another data directory with --data-dir"
        )),
        _ => Error::failed_precondition(format!(
            "{what}; see that the data directory can be written, or give another with --data-dir"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_once_and_used_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut first = DataDir::claim(&path).unwrap();
        assert!(!path.exists(), "claiming makes nothing");
        first.prepare().unwrap();
        assert_eq!(fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
        let error = DataDir::claim(&path).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataDir::claim(&path).unwrap().prepare().unwrap();
    }

    #[test]
    fn an_empty_format_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        DataDir::claim(folder.path()).unwrap().prepare().unwrap();
        let format = folder.path().join(FORMAT_FILE);
        fs::write(&format, "").unwrap();
        fs::write(folder.path().join("format.new"), "").unwrap();
        DataDir::claim(folder.path()).unwrap().prepare().unwrap();
        assert_eq!(fs::read_to_string(&format).unwrap(), "1\n");
        assert!(!folder.path().join("format.new").exists());
    }

    #[test]
    fn what_is_newer_or_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "").unwrap();
        let error = DataDir::claim(folder.path()).unwrap_err().to_string();
        assert!(error.contains("it has thesis.tex in it"), "{error}");
        for (format, fault) in [("2", "a newer Headwater"), ("x", "which no Headwater wrote")] {
            fs::write(folder.path().join(FORMAT_FILE), format).unwrap();
            let error = DataDir::claim(folder.path()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }) && error.to_string().contains(fault), "{error}");
        }
    }
}
