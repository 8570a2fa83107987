//! One operation per sandbox at a time, and nothing left running beside it.
//!
//! The lock is a flock, which ends with its holder. The holder notes itself and the process group of the delegate
//! it runs in the lock file; the file lives in memory (`/run`), as the processes it names do. A runtime that gives
//! up kills the plugin alone: whoever takes the lock next first ends the group that the note names.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use cni::{chain::Watcher, error::Error, process};
use nix::fcntl::{Flock, FlockArg};

use crate::error::{Fault, Result};

/// Longest note; a note is rewritten in place with a fixed width, so that no reader sees half of one.
const NOTE: usize = 96;
/// How often a lock that is held in another mode is tried.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Slug of a lock that another operation holds.
pub(crate) const BUSY: &str = "SANDBOX_BUSY";

/// A sandbox's lock, held.
pub struct SandboxLock {
    file: Flock<File>,
    path: PathBuf,
    /// This process.
    plugin: Process,
}

/// Processes as the lock file names them: the plugin that holds the lock, the delegate group it runs.
#[derive(Debug, Clone, Copy, Default)]
struct Note {
    plugin: Process,
    group: Option<Process>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Process {
    pid: i32,
    start_time: u64,
}

impl Process {
    fn alive(self) -> bool {
        process::start_time(self.pid) == Some(self.start_time)
    }
}

impl SandboxLock {
    /// Takes the lock of `sandbox`, waiting until `deadline`, and ends what an earlier plugin left running.
    ///
    /// # Errors
    /// `SANDBOX_BUSY` names the plugin that holds it; `LOCK_FAILED` when the folder cannot be used.
    pub fn acquire(run_dir: &Path, sandbox: &str, deadline: Instant) -> Result<Self> {
        let dir = run_dir.join("lock");
        let path = dir.join(sandbox);
        let failed = |error: io::Error| unusable(&path, &error);
        let lock = loop {
            let file = open_in(&dir, &path).map_err(failed)?;
            // The last holder removes the file; a lock on a removed file guards nothing.
            let lock = wait_for(file, deadline, &path)?;
            if same_file(&lock, &path) {
                break lock;
            }
        };
        // Whoever noted it holds the lock no more, so its plugin is gone, or dead and not yet reaped.
        if let Some(group) = read_note(&lock).group {
            log::warn!(
                "sandbox {sandbox}: ending the delegate group {} that a killed plugin left running",
                group.pid
            );
            end(group)?;
        }
        let pid = std::process::id().cast_signed();
        let plugin = Process { pid, start_time: process::start_time(pid).unwrap_or(0) };
        let held = Self { file: lock, path, plugin };
        held.note(None).map_err(|error| Fault::io("LOCK_FAILED", error.msg))?;
        Ok(held)
    }

    fn note(&self, group: Option<Process>) -> std::result::Result<(), Error> {
        let (plugin, group) = (self.plugin, group.unwrap_or_default());
        let text = format!("{} {} {} {}", plugin.pid, plugin.start_time, group.pid, group.start_time);
        let text = format!("{text:<NOTE$}\n");
        self.file.write_all_at(text.as_bytes(), 0).map_err(|error| {
            Error::new(cni::error::code::IO, format!("lock file {}: {error}", self.path.display()))
        })
    }
}

impl Watcher for SandboxLock {
    fn started(&self, pid: i32, start_time: u64) -> std::result::Result<(), Error> {
        self.note(Some(Process { pid, start_time }))
    }

    fn ended(&self, _pid: i32) {
        if let Err(error) = self.note(None) {
            log::warn!("{}", error.msg);
        }
    }
}

impl Drop for SandboxLock {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("lock file {}: {error}", self.path.display());
        }
    }
}

/// Keeps GC and the ADD of pods with networks apart: an address that is just being given must not be collected.
pub struct GcLock {
    _file: Flock<File>,
}

impl GcLock {
    /// For an ADD: any number at once, no GC beside them.
    ///
    /// # Errors
    /// `GC_BUSY` (try again) when a GC does not end in time; `LOCK_FAILED`.
    pub fn shared(run_dir: &Path, deadline: Instant) -> Result<Self> {
        Self::take(run_dir, deadline, FlockArg::LockSharedNonblock)
    }

    /// For a GC: alone.
    ///
    /// # Errors
    /// As [`GcLock::shared`].
    pub fn exclusive(run_dir: &Path, deadline: Instant) -> Result<Self> {
        Self::take(run_dir, deadline, FlockArg::LockExclusiveNonblock)
    }

    fn take(run_dir: &Path, deadline: Instant, how: FlockArg) -> Result<Self> {
        let path = run_dir.join("gc.lock");
        let failed = |error: io::Error| unusable(&path, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(failed)?;
        let mut file = open(&path).map_err(failed)?;
        loop {
            match Flock::lock(file, how) {
                Ok(lock) => return Ok(Self { _file: lock }),
                Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
                Err((_, error)) => return Err(failed(error.into())),
            }
            if Instant::now() >= deadline {
                return Err(Fault::retry(
                    "GC_BUSY",
                    format!(
                        "GC and the start of pods with networks wait for each other ({})",
                        path.display()
                    ),
                ));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Opens a lock file. Its folder is nearly always there, so it is made only when that did not work.
fn open_in(dir: &Path, path: &Path) -> io::Result<File> {
    open(path).or_else(|_| {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        open(path)
    })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

/// Waits in a thread of its own, since flock itself knows no deadline.
fn wait_for(file: File, deadline: Instant, path: &Path) -> Result<Flock<File>> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => file,
        Err((_, error)) => return Err(unusable(path, &error.into())),
    };
    let holder = read_note(&file);
    if let Some(group) = holder.group.filter(|_| !holder.plugin.alive()) {
        end(group)?;
    }
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // The receiver may have given up; then the lock is dropped with the message.
        drop(sender.send(Flock::lock(file, FlockArg::LockExclusive)));
    });
    let wait = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    match receiver.recv_timeout(wait) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err((_, error))) => Err(unusable(path, &error.into())),
        Err(_) => Err(Fault::retry(
            BUSY,
            format!(
                "another operation on this sandbox still runs (process {}, {}); waiting for it to end",
                holder.plugin.pid,
                path.display()
            ),
        )),
    }
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    Fault::io(
        "LOCK_FAILED",
        format!("lock file {}: {error}; make its folder usable, a plain tmpfs is enough", path.display()),
    )
}

fn end(group: Process) -> Result<()> {
    process::kill_group(group.pid, group.start_time)
        .map_err(|error| Fault::new(error.code, "DELEGATE_STUCK", error.msg))
}

fn same_file(lock: &Flock<File>, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (lock.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

fn read_note(file: &File) -> Note {
    let mut buffer = [0; NOTE];
    let read = file.read_at(&mut buffer, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..read]);
    let numbers: Vec<u64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let process = |at: usize| -> Option<Process> {
        let pid = i32::try_from(*numbers.get(at)?).ok().filter(|pid| *pid > 1)?;
        Some(Process { pid, start_time: *numbers.get(at + 1)? })
    };
    Note { plugin: process(0).unwrap_or_default(), group: process(2) }
}
