//! Waiting for folders to change: the kernel's notice when it comes, a look of our own when it does not.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// A change counts once this long nothing more happened, so a file written in two steps is read once.
const QUIET: Duration = Duration::from_millis(200);
/// A folder that never is quiet is looked at anyway.
const AT_MOST: Duration = Duration::from_secs(2);

/// Why [`Watch::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There is a reason to look: something changed, or it was long ago.
    Look,
    /// SIGTERM or SIGINT: leave.
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
    /// Room for one: a notice says that something happened, not what or how often.
    notices: Receiver<()>,
    /// While one sender lives, waiting takes its time.
    _tell: SyncSender<()>,
    stopped: Arc<AtomicBool>,
}

impl Watch {
    /// Starts to listen for changes and for the signals in `stop`.
    pub fn new(stop: Stop) -> std::io::Result<Watch> {
        let (tell, notices) = sync_channel(1);
        let stopped = Arc::new(AtomicBool::new(false));
        spawn_stop(stop, tell.clone(), Arc::clone(&stopped))?;
        let keep = tell.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well, and would wake us for ever. Overflow and the like: look.
            let changed = !event.is_ok_and(|event| {
                matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write))
            });
            if changed {
                notice(&tell);
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(e) => {
                log::warn!("cannot watch folders ({e}): looking from time to time instead");
                None
            }
        };
        Ok(Watch { watcher, watched: Vec::new(), notices, _tell: keep, stopped })
    }

    /// Makes these the watched folders, as they are now. Call it before each look, so that nothing falls in between.
    pub fn set(&mut self, dirs: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let mut now: Vec<_> = dirs.iter().map(|d| (d.clone(), identity(d))).collect();
        now.sort();
        now.dedup();
        if now == self.watched {
            return;
        }
        for (dir, _) in self.watched.iter().filter(|w| w.1.is_some() && !now.contains(w)) {
            if watcher.unwatch(dir).is_err() {
                log::debug!("{} was not watched any more", dir.display());
            }
        }
        for (dir, _) in now.iter().filter(|n| n.1.is_some() && !self.watched.contains(n)) {
            if let Err(e) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                log::warn!("cannot watch {} ({e}): looking from time to time instead", dir.display());
            }
        }
        self.watched = now;
    }

    /// Waits until something changed and it is quiet again, `at_most` that long.
    pub fn wait(&self, at_most: Duration) -> Wake {
        if self.notices.recv_timeout(at_most).is_ok() {
            let end = Instant::now() + AT_MOST;
            while !self.is_stopped() && Instant::now() < end && self.notices.recv_timeout(QUIET).is_ok() {}
        }
        if self.is_stopped() { Wake::Stop } else { Wake::Look }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// A full channel has a notice already, a closed one nobody who waits.
fn notice(tell: &SyncSender<()>) {
    if tell.try_send(()).is_err() {
        log::trace!("already noticed");
    }
}

fn spawn_stop(stop: Stop, tell: SyncSender<()>, stopped: Arc<AtomicBool>) -> std::io::Result<()> {
    let waiting = move || match stop.0.wait() {
        Ok(signal) => {
            log::info!("{signal}: leaving; what is in place stays in place");
            stopped.store(true, Ordering::SeqCst);
            notice(&tell);
        }
        Err(e) => log::error!("cannot wait for signals: {e}"),
    };
    std::thread::Builder::new().name("signals".into()).spawn(waiting).map(drop)
}

/// Which folder a path names now; another one at the same path needs another watch.
fn identity(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).ok().map(|m| (m.dev(), m.ino()))
}
