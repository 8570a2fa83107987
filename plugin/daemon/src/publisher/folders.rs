//! Notices that a folder changed. They may come late, together or not at all, so nobody relies on them.
//!
//! Each notice is asked for anew and only once: a plugin that works on a record is not interrupted at every step by
//! a daemon that wakes up to learn of it.

use std::{io, path::PathBuf, sync::Arc, thread};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use tokio::sync::Notify;

/// Folders, and the kernel's notices about them.
pub(crate) struct Folders {
    paths: Vec<PathBuf>,
    notices: Option<Arc<Inotify>>,
    /// Holds one notice: any number of changes is one reason to look.
    changed: Arc<Notify>,
}

impl Folders {
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let notices = listen(Arc::clone(&changed))
            .map_err(|error| log::warn!("cannot watch folders, looks at them instead: {error}"))
            .ok();
        Self { paths, notices, changed }
    }

    /// Asks for one notice of each folder, as it is now: one that was replaced is another one. False while one is not
    /// there.
    pub(crate) fn watch(&mut self) -> bool {
        let Some(notices) = &self.notices else { return true };
        let once = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_ONESHOT;
        let watched = self.paths.iter().map(|path| match notices.add_watch(path, once) {
            Ok(_) => true,
            Err(error) => {
                log::debug!("cannot watch {}, looks at it instead: {error}", path.display());
                path.exists()
            }
        });
        // All of them, also behind one that is missing.
        watched.fold(true, |all, one| all & one)
    }

    /// Returns when something changed since it was last asked for.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// Passes notices on, from a thread that lives as long as the process. Which folder it was does not matter.
fn listen(tell: Arc<Notify>) -> io::Result<Arc<Inotify>> {
    let notices = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
    let heard = Arc::clone(&notices);
    let pass_on = move || loop {
        match heard.read_events() {
            Ok(_) => tell.notify_one(),
            Err(Errno::EINTR) => {}
            Err(error) => {
                log::warn!("changes of folders are heard of no more, looks at them instead: {error}");
                return;
            }
        }
    };
    thread::Builder::new().name("notices".to_owned()).spawn(pass_on)?;
    Ok(notices)
}
