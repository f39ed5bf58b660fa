//! Values that are read from files, and read again when the files change.
//!
//! ```text
//! file, or a mounted Secret ──each second──▶ Source::parse ──▶ Reloaded::current ◀── connections, requests
//!                                                └─ what cannot be used: the log, a metric, and the value before stays
//! ```
//!
//! The bytes are compared, not times: a mounted Secret changes by the swap of a symlink, and no notice of that is to be had everywhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use headwater_core::{Error, Result};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use sha2::{Digest, Sha256};

use crate::Metrics;

/// Certificates and tokens are renewed long before they end: what counts is that few small files cost nothing to look at.
const LOOK: Duration = Duration::from_secs(1);

/// Files that change while they are read are read again so often, until two readings agree.
const READINGS: usize = 5;

/// A file's path, and what it holds.
pub(crate) type Files = Vec<(PathBuf, Vec<u8>)>;

/// Where a value comes from.
pub(crate) trait Source: Send + Sync + 'static {
    /// What is made of the files.
    type Value: Send + Sync + 'static;

    /// What it is, for messages and as a label.
    fn what(&self) -> &'static str;

    /// The files, as they are now.
    ///
    /// # Errors
    /// `Invalid`, naming the option, for one that cannot be read.
    fn read(&self) -> Result<Files>;

    /// The value.
    ///
    /// # Errors
    /// `Invalid`, naming the option, and never what a file holds.
    fn parse(&self, files: &Files) -> Result<Self::Value>;
}

/// Counts what was read again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reloads(Family<Vec<(&'static str, &'static str)>, Counter>);

impl Reloads {
    pub(crate) fn register(&self, metrics: &Metrics) {
        metrics.register(
            "reloads",
            "Files of certificates, tokens and keys that changed, and whether they could be used",
            self.0.clone(),
        );
    }

    fn count(&self, of: &'static str, result: &'static str) {
        self.0.get_or_create(&vec![("of", of), ("result", result)]).inc();
    }
}

/// A value that follows its files, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reloaded<T>(RwLock<Arc<T>>);

impl<T: Send + Sync + 'static> Reloaded<T> {
    /// Reads `source`, and follows it.
    ///
    /// # Errors
    /// When its files cannot be used to begin with.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(crate) fn follow(source: impl Source<Value = T>, reloads: &Reloads) -> Result<Arc<Self>> {
        let files = settled(&source)?;
        let value = source.parse(&files)?;
        Ok(Self::watched(source, value, digest(&files), reloads))
    }

    /// The same, where files that cannot be used to begin with give `instead` until they can.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub(crate) fn follow_or(source: impl Source<Value = T>, instead: T, reloads: &Reloads) -> Arc<Self> {
        let read = settled(&source);
        let seen = read.as_ref().map(digest).unwrap_or_default();
        let value = read.and_then(|files| source.parse(&files)).unwrap_or_else(|error| {
            reloads.count(source.what(), "failed");
            tracing::error!(of = source.what(), %error, "files cannot be used, and are looked at until they can");
            instead
        });
        Self::watched(source, value, seen, reloads)
    }

    fn watched(source: impl Source<Value = T>, value: T, seen: [u8; 32], reloads: &Reloads) -> Arc<Self> {
        let value = Arc::new(Self(RwLock::new(Arc::new(value))));
        // They are shown from the start, so that an alert can be on their rise.
        for result in ["ok", "failed"] {
            drop(reloads.0.get_or_create(&vec![("of", source.what()), ("result", result)]));
        }
        tokio::spawn(watch(Arc::new(source), seen, Arc::downgrade(&value), reloads.clone()));
        value
    }

    /// The value as it is now.
    pub(crate) fn current(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn watch<S: Source>(
    source: Arc<S>,
    mut seen: [u8; 32],
    value: Weak<Reloaded<S::Value>>,
    reloads: Reloads,
) {
    let mut missing = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(value) = value.upgrade() else { return };
        let look = {
            let source = Arc::clone(&source);
            move || {
                let files = settled(&*source)?;
                let now = digest(&files);
                Ok((now, (now != seen).then(|| source.parse(&files))))
            }
        };
        let looked: Result<_> = match tokio::task::spawn_blocking(look).await {
            Ok(looked) => looked,
            // A panic of the parser has been reported already; or the runtime ends.
            Err(_) => return,
        };
        let changed = match looked {
            Ok((now, changed)) => {
                missing = false;
                seen = now;
                changed
            }
            Err(_) if missing => continue,
            Err(error) => {
                missing = true;
                Some(Err(error))
            }
        };
        match changed {
            None => {}
            Some(Ok(new)) => {
                *value.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                reloads.count(source.what(), "ok");
                tracing::info!(of = source.what(), "files have changed and are used");
            }
            Some(Err(error)) => {
                reloads.count(source.what(), "failed");
                tracing::error!(of = source.what(), %error, "files have changed and cannot be used; what they held before is kept");
            }
        }
    }
}

/// The files, as two readings in a row have found them: a certificate and a key that belong together.
fn settled(source: &impl Source) -> Result<Files> {
    let mut files = source.read()?;
    for _ in 0..READINGS {
        let again = source.read()?;
        if again == files {
            break;
        }
        files = again;
    }
    Ok(files)
}

fn digest(files: &Files) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (path, bytes) in files {
        for part in [path.as_os_str().as_encoded_bytes(), bytes] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().into()
}

/// What the file of `option` holds.
///
/// # Errors
/// `Invalid` for the option.
pub(crate) fn read(option: &str, path: &Path) -> Result<(PathBuf, Vec<u8>)> {
    match std::fs::read(path) {
        Ok(bytes) => Ok((path.to_owned(), bytes)),
        Err(error) => Err(unreadable(option, path, &error)),
    }
}

/// A file or folder of `option` that cannot be read.
pub(crate) fn unreadable(option: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::invalid(option, format!("{} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Number(PathBuf);

    impl Source for Number {
        type Value = u32;

        fn what(&self) -> &'static str {
            "number"
        }

        fn read(&self) -> Result<Files> {
            Ok(vec![read("number", &self.0)?])
        }

        fn parse(&self, files: &Files) -> Result<u32> {
            let text = String::from_utf8_lossy(&files[0].1);
            text.trim().parse().map_err(|_| Error::invalid("number", "it is none"))
        }
    }

    async fn until(what: &str, is: impl Fn() -> bool) {
        let waited = async {
            while !is() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(30), waited).await.is_ok(), "{what} did not come");
    }

    /// As the kubelet does it: what the path leads to is another file from one moment to the next.
    #[tokio::test]
    async fn a_swapped_symlink_is_noticed_and_what_cannot_be_used_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let put = |version: &str, text: &str| {
            let of = folder.path().join(version);
            std::fs::create_dir(&of).unwrap();
            std::fs::write(of.join("number"), text).unwrap();
            std::os::unix::fs::symlink(&of, folder.path().join("..data_tmp")).unwrap();
            std::fs::rename(folder.path().join("..data_tmp"), folder.path().join("..data")).unwrap();
        };
        put("1", "1");
        let (metrics, reloads) = (Metrics::default(), Reloads::default());
        reloads.register(&metrics);
        let counts = |result: &str, times: u32| {
            let line = format!("headwater_reloads_total{{of=\"number\",result=\"{result}\"}} {times}\n");
            metrics.render().unwrap().contains(&line)
        };
        let number = Reloaded::follow(Number(folder.path().join("..data/number")), &reloads).unwrap();
        assert_eq!(*number.current(), 1);
        assert!(counts("ok", 0) && counts("failed", 0));
        put("2", "2");
        until("the second", || *number.current() == 2).await;
        assert!(counts("ok", 1));
        put("3", "three");
        until("the fault", || counts("failed", 1)).await;
        assert_eq!(*number.current(), 2);
        std::fs::remove_file(folder.path().join("..data")).unwrap();
        until("the second fault", || counts("failed", 2)).await;
        assert_eq!(*number.current(), 2);
        put("4", "4");
        until("the fourth", || *number.current() == 4).await;
    }

    #[tokio::test]
    async fn what_cannot_be_read_to_begin_with_is_refused_by_name() {
        let error = Reloaded::follow(Number("/nowhere/number".into()), &Reloads::default()).unwrap_err();
        assert!(error.to_string().starts_with("number: /nowhere/number cannot be read: "), "{error}");
    }
}
