//! Notices that a folder changed. They may come late, together or not at all, so nobody relies on them.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::sync::Notify;

/// Folders and who is told about them.
pub(crate) struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: Vec<(PathBuf, Option<Identity>)>,
    /// Holds one notice: any number of changes is one reason to look.
    changed: Arc<Notify>,
}

type Identity = (u64, u64);

impl Folders {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let tell = Arc::clone(&changed);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well, and would wake us for ever.
            let read = matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(kind)
                if kind != AccessKind::Close(AccessMode::Write)));
            if !read {
                tell.notify_one();
            }
        });
        let watcher =
            watcher.map_err(|error| log::warn!("cannot watch folders, looks at them instead: {error}")).ok();
        Self { watcher, watched: paths.into_iter().map(|path| (path, None)).collect(), changed }
    }

    /// Watches the folders as they are now: one that was replaced is another one. False while one is not there.
    pub(crate) fn watch(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return true };
        for (path, watched) in &mut self.watched {
            let now = identity(path);
            if *watched == now {
                continue;
            }
            if watched.is_some() && watcher.unwatch(path).is_err() {
                log::debug!("{} was not watched any more", path.display());
            }
            *watched = now.filter(|_| match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => true,
                Err(error) => {
                    log::debug!("cannot watch {}, looks at it instead: {error}", path.display());
                    false
                }
            });
        }
        self.watched.iter().all(|(path, watched)| watched.is_some() || path.exists())
    }

    /// Returns when something changed since the last call.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}
