//! Waiting for folders to change: the kernel's notice when it comes, a look of our own when it does not.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// A folder is looked at this often, whatever the kernel says: notices get lost (queue overflow, overlayfs,
/// a folder that was replaced, no inotify instance left).
pub const RESCAN: Duration = Duration::from_secs(30);
/// A change counts once this long nothing more happened, so a file written in two steps is read once.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that never is quiet is looked at anyway.
const AT_MOST: Duration = Duration::from_secs(2);

/// Why [`Watch::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something changed in a watched folder.
    Changed,
    /// Nothing was heard; it is time to look.
    Rescan,
    /// SIGTERM or SIGINT: leave.
    Stop,
}

enum Notice {
    Changed,
    Stop,
}

/// SIGTERM and SIGINT, held back from ending the process. Made before any thread is started, since threads inherit it.
#[derive(Debug)]
pub struct Stop(SigSet);

impl Stop {
    /// Holds the signals back in this thread and in those that it starts.
    pub fn hold() -> std::io::Result<Stop> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGINT);
        set.thread_block()?;
        Ok(Stop(set))
    }
}

/// Watches folders (not the files in them, whose replacement would end the watch).
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: Vec<(PathBuf, Option<(u64, u64)>)>,
    notices: Receiver<Notice>,
}

impl Watch {
    /// Starts to listen for changes and for the signals in `stop`.
    pub fn new(stop: Stop) -> std::io::Result<Watch> {
        let (tell, notices) = channel();
        spawn_stop(stop, tell.clone())?;
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well, and would wake us for ever.
            let changed = match event {
                Ok(event) => match event.kind {
                    EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
                    EventKind::Access(_) => false,
                    _ => true,
                },
                // Overflow and the like: look.
                Err(_) => true,
            };
            if changed && tell.send(Notice::Changed).is_err() {
                log::debug!("a change was noticed after the watch had ended");
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(e) => {
                log::warn!("cannot watch folders ({e}): looking every {} s instead", RESCAN.as_secs());
                None
            }
        };
        Ok(Watch { watcher, watched: Vec::new(), notices })
    }

    /// Makes these the watched folders, as they are now. Call it before each look, so that nothing falls in between.
    pub fn set(&mut self, dirs: &[&Path]) {
        let Some(watcher) = &mut self.watcher else { return };
        let now: Vec<_> = dirs.iter().map(|d| (d.to_path_buf(), identity(d))).collect();
        if now == self.watched {
            return;
        }
        for (dir, id) in &self.watched {
            if id.is_some() && watcher.unwatch(dir).is_err() {
                log::debug!("{} was not watched any more", dir.display());
            }
        }
        for (dir, id) in &now {
            if id.is_some()
                && let Err(e) = watcher.watch(dir, RecursiveMode::NonRecursive)
            {
                log::warn!("cannot watch {} ({e}): looking every {} s", dir.display(), RESCAN.as_secs());
            }
        }
        self.watched = now;
    }

    /// Waits until there is a reason to look, `RESCAN` at most.
    pub fn wait(&self) -> Wake {
        match self.notices.recv_timeout(RESCAN) {
            Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
            Err(RecvTimeoutError::Timeout) => return Wake::Rescan,
            Ok(Notice::Changed) => {}
        }
        let end = Instant::now() + AT_MOST;
        while Instant::now() < end {
            match self.notices.recv_timeout(QUIET) {
                Ok(Notice::Changed) => {}
                Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        Wake::Changed
    }
}

fn spawn_stop(stop: Stop, tell: Sender<Notice>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || match stop.0.wait() {
            Ok(signal) => {
                log::info!("{signal}: leaving; what is in place stays in place");
                if tell.send(Notice::Stop).is_err() {
                    log::debug!("the watch had ended before the signal");
                }
            }
            Err(e) => log::error!("cannot wait for signals: {e}"),
        })
        .map(drop)
}

/// Which folder a path names now; another one at the same path needs another watch.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).ok().map(|m| (m.dev(), m.ino()))
}
