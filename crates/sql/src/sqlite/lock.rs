use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use headwater_core::{Error, Result};

/// Makes sure that one process at a time uses a file: an exclusive lock on `FILE.lock` beside it, which holds the process's
/// id for people to read. The operating system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataLock {
    /// Closing it releases the lock.
    _file: File,
}

impl DataLock {
    /// Locks `path`, a data file.
    ///
    /// # Errors
    /// As [`acquire_for`](Self::acquire_for).
    pub fn acquire(path: &Path) -> Result<Self> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        Self::acquire_for(path, &PathBuf::from(lock))
    }

    /// Locks `path`, which `lock` is the lock of.
    ///
    /// # Errors
    /// `FailedPrecondition` when another process (or another part of this one) has it, or the lock cannot be written; `Exhausted` when
    /// the disk is full.
    pub fn acquire_for(path: &Path, lock: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let what = format!("cannot lock {}: writing {} failed: {error}", path.display(), lock.display());
            match error.kind() {
                ErrorKind::StorageFull => Error::exhausted(format!("{what}; make room there")),
                _ => Error::failed_precondition(format!(
                    "{what}; see that the directory is there and writable"
                )),
            }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(lock)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number is a courtesy: without it the message is still right.
                let _ = file.read_to_string(&mut pid);
                let pid = pid.trim();
                return Err(Error::failed_precondition(format!(
                    "{} is in use by another process of Headwater (pid {}); stop that one, or give this one a data directory of its own",
                    path.display(),
                    if pid.is_empty() { "unknown" } else { pid },
                )));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}
