//! Saved manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use headwater_core::{Error, Result};
use headwater_resources::manifest::DEV_FILE;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

/// Editors write a file in several steps, and `git checkout` many files: look when nothing has been written for this long.
const QUIET: Duration = Duration::from_millis(100);

/// How often is looked besides: the system tells nothing of what a link leads to, or of a directory that is there again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the manifests of some directories.
pub(crate) struct Watch {
    /// Stops watching when dropped.
    _watcher: RecommendedWatcher,
    saved: mpsc::Receiver<()>,
    directories: Vec<PathBuf>,
    looks: Interval,
    known: Stamps,
}

/// The manifests, and what tells one writing of a file from the next.
type Stamps = BTreeMap<PathBuf, (SystemTime, u64)>;

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
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let known = stamps(directories);
        Ok(Self { _watcher: watcher, saved, directories: directories.to_vec(), looks, known })
    }

    /// Waits until something has been saved, and nothing more for a moment. Cancel-safe but for that moment.
    pub(crate) async fn saved(&mut self) {
        loop {
            tokio::select! {
                saved = self.saved.recv() => match saved {
                    Some(()) => break,
                    None => std::future::pending().await,
                },
                // What nobody tells of: where links lead, and a directory that is there again.
                _ = self.looks.tick() => {
                    if self.look().await != self.known {
                        break;
                    }
                }
            }
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.saved.recv()).await {}
        self.known = self.look().await;
    }

    async fn look(&self) -> Stamps {
        let directories = self.directories.clone();
        let looking = tokio::task::spawn_blocking(move || stamps(&directories));
        looking.await.unwrap_or_else(|_| self.known.clone())
    }
}

/// The manifests and settings that are there now. What cannot be read is told when it is loaded.
fn stamps(directories: &[PathBuf]) -> Stamps {
    let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok()).flatten();
    let manifests = entries.flatten().map(|entry| entry.path()).filter(|path| is_read(path));
    manifests
        .filter_map(|path| {
            // Of where it leads.
            let file = std::fs::metadata(&path).ok()?;
            Some((path, (file.modified().ok()?, file.len())))
        })
        .collect()
}

fn is_read(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml")) || path.file_name().is_some_and(|name| name == DEV_FILE)
}

/// Whether `event` may have changed a manifest. Reading one changes nothing.
fn matters(event: &Event) -> bool {
    let writes = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    };
    writes && event.paths.iter().any(|path| is_read(path))
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

    #[cfg(unix)]
    #[tokio::test]
    async fn what_links_lead_to_is_seen() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = elsewhere.path().join("real.yaml");
        fs::write(&file, "a: 1").unwrap();
        std::os::unix::fs::symlink(&file, folder.path().join("a.yaml")).unwrap();
        let mut watch = Watch::new(&[folder.path().to_owned()]).unwrap();
        fs::write(&file, "a: 12").unwrap();
        saved(&mut watch).await;
    }

    #[tokio::test]
    async fn a_directory_that_is_there_again_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("m");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.yaml"), "a: 1").unwrap();
        let mut watch = Watch::new(std::slice::from_ref(&folder)).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        saved(&mut watch).await;
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("b.yaml"), "b: 1").unwrap();
        saved(&mut watch).await;
        fs::write(folder.join("b.yaml"), "b: 12").unwrap();
        saved(&mut watch).await;
    }

    #[test]
    fn reading_and_other_files_do_not_matter() {
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let write = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(matters(&event(write, "/m/a.yaml")));
        assert!(matters(&event(EventKind::Any, "/m/a.yml")));
        assert!(matters(&event(write, "/m/dev.toml")));
        assert!(!matters(&event(write, "/m/Cargo.toml")));
        assert!(!matters(&event(EventKind::Access(AccessKind::Read), "/m/a.yaml")));
        assert!(!matters(&event(write, "/m/demo.http")));
        assert!(!matters(&event(write, "/m/.headwater")));
    }
}
