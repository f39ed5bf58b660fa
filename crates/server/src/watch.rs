//! Saved manifests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use headwater_core::{Error, Result};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Editors write a file in several steps, and `git checkout` many files: look when nothing has been written for this long.
const QUIET: Duration = Duration::from_millis(100);

/// Watches the manifests of some directories.
pub(crate) struct Watch {
    /// Stops watching when dropped.
    _watcher: RecommendedWatcher,
    saved: mpsc::Receiver<()>,
}

impl Watch {
    /// Watches `directories`, without what lies deeper: editors that write another file and rename it are seen too.
    ///
    /// # Errors
    /// `Unavailable` when the operating system refuses; its limits are small on some.
    pub(crate) fn new(directories: &[PathBuf]) -> Result<Self> {
        // One wake-up waits; more would say no more.
        let (sender, saved) = mpsc::channel(1);
        let failed = |error: notify::Error| {
            Error::unavailable(format!(
                "the manifests cannot be watched: {error}; go on without by --no-watch, or raise the system's limit (fs.inotify.max_user_instances)"
            ))
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            // Full: a wake-up waits already.
            Ok(event) if matters(&event) => drop(sender.try_send(())),
            Ok(_) => {}
            Err(error) => tracing::warn!("watching the manifests: {error}"),
        })
        .map_err(failed)?;
        for directory in directories {
            watcher.watch(directory, RecursiveMode::NonRecursive).map_err(failed)?;
        }
        Ok(Self { _watcher: watcher, saved })
    }

    /// Waits until something has been saved, and nothing more for a moment. Cancel-safe but for that moment.
    pub(crate) async fn saved(&mut self) {
        if self.saved.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.saved.recv()).await {}
    }
}

/// Whether `event` may have changed a manifest. Reading one changes nothing.
fn matters(event: &Event) -> bool {
    let writes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    let is_yaml = |path: &PathBuf| {
        let extension = Path::extension(path).and_then(|extension| extension.to_str());
        matches!(extension, Some("yaml" | "yml"))
    };
    writes && event.paths.iter().any(is_yaml)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn saved(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(30), watch.saved()).await.expect("the change is seen");
    }

    #[tokio::test]
    async fn files_that_are_written_renamed_or_removed_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&[folder.path().to_owned()]).unwrap();
        fs::write(folder.path().join("a.yaml"), "a: 1").unwrap();
        saved(&mut watch).await;
        fs::write(folder.path().join(".a.yaml.swp"), "a: 2").unwrap();
        fs::rename(folder.path().join(".a.yaml.swp"), folder.path().join("a.yaml")).unwrap();
        saved(&mut watch).await;
        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        saved(&mut watch).await;
    }

    #[test]
    fn reading_and_other_files_do_not_matter() {
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(matters(&event(write, "/m/a.yaml")));
        assert!(matters(&event(EventKind::Any, "/m/a.yml")));
        assert!(!matters(&event(EventKind::Access(AccessKind::Read), "/m/a.yaml")));
        assert!(!matters(&event(write, "/m/demo.http")));
        assert!(!matters(&event(write, "/m/.headwater")));
    }
}
