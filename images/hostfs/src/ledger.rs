//! What this project did to the host, written down before it is done, so that it can be undone.

use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::{make_dir, replace};
use crate::{Error, Result, at};

/// The format that this version writes. A newer one is refused: its meaning is not known here.
const FORMAT: u32 = 1;
/// Two pods of one DaemonSet overlap for a moment only.
const PATIENCE: Duration = Duration::from_secs(60);

/// What stood at a path before it became ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Replaced {
    /// A regular file.
    File {
        /// SHA-256 of its bytes, in hex.
        sha256: String,
        /// Its permission bits.
        mode: u32,
        /// Name of its copy in the folder `replaced` of the state folder.
        copy: String,
    },
    /// A symbolic link.
    Link {
        /// What it pointed to.
        target: PathBuf,
    },
}

/// How to take what stands at a path before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Unless the ledger knows it as ours it is somebody else's: note it and keep a copy.
    Judge,
    /// It is ours, whoever edited it since.
    Ours,
}

/// One file on the host that we wrote or took away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path on the host, without links in it.
    pub path: PathBuf,
    /// SHA-256 of our bytes, in hex; absent if we took the file away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What was there before us; absent if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book {
    format_version: u32,
    entries: Vec<Entry>,
}

/// The ledger of one writer. While it is open no other process has it.
#[derive(Debug)]
pub struct Ledger {
    state_dir: PathBuf,
    path: PathBuf,
    entries: Vec<Entry>,
    _lock: File,
}

impl Ledger {
    /// Opens `state_dir/ledger/WRITER.json`, waiting for another process of that writer to end.
    pub fn open(state_dir: &Path, writer: &str) -> Result<Ledger> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Ledger::try_open(state_dir, writer)? {
                Some(ledger) => return Ok(ledger),
                None if Instant::now() >= end => {
                    return Err(Error::Busy { path: file(state_dir, writer, "lock") });
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Opens it, unless another process has it open.
    ///
    /// A ledger that cannot be understood is set aside and a new one begun: what is on the host has to be kept
    /// right even so.
    pub fn try_open(state_dir: &Path, writer: &str) -> Result<Option<Ledger>> {
        let (path, lock_path) = (file(state_dir, writer, "json"), file(state_dir, writer, "lock"));
        make_dir(&state_dir.join("ledger"), 0o700)?;
        let lock = File::options().create(true).append(true).open(&lock_path);
        let lock = lock.map_err(at("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(at("lock", &lock_path)(e)),
        }
        let entries = read(&path)?;
        Ok(Some(Ledger { state_dir: state_dir.to_owned(), path, entries, _lock: lock }))
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is known of a path of the host.
    pub fn entry(&self, host: &Path) -> Option<&Entry> {
        self.entries.iter().find(|e| e.path == host)
    }

    /// Writes down that `bytes` are about to be put at `host` (which this process sees as `here`).
    ///
    /// A foreign file that stands there is noted and copied. What was noted the first time stays noted when our
    /// own file is replaced by a newer one of ours.
    pub fn record(&mut self, here: &Path, host: &Path, bytes: &[u8], before: Before) -> Result<()> {
        let sha256 = digest(bytes);
        let known = self.entry(host);
        let noted = known.and_then(|k| k.replaced.clone());
        let ours = |old: &str| {
            before == Before::Ours || old == sha256 || known.is_some_and(|k| k.sha256.as_deref() == Some(old))
        };
        let replaced = match standing(here)? {
            None => noted,
            Some(Standing::File { bytes: old, .. }) if ours(&digest(&old)) => noted,
            // A second foreign file in a row was put over ours, so the first one is what we replaced.
            Some(found) => match noted {
                Some(first) => Some(first),
                None => Some(self.keep(found)?),
            },
        };
        self.note(Entry { path: host.to_owned(), sha256: Some(sha256), replaced })
    }

    /// Writes down that the foreign file at `host` is about to be removed, and keeps a copy.
    pub fn record_removal(&mut self, here: &Path, host: &Path) -> Result<()> {
        let Some(found) = standing(here)? else { return Ok(()) };
        // Whoever wrote the file again has the newest of it: that is what they get back.
        let replaced = Some(self.keep(found)?);
        self.note(Entry { path: host.to_owned(), sha256: None, replaced })
    }

    fn note(&mut self, entry: Entry) -> Result<()> {
        if self.entry(&entry.path) == Some(&entry) {
            return Ok(());
        }
        let mut entries = self.entries.clone();
        entries.retain(|e| e.path != entry.path);
        entries.push(entry);
        let book = Book { format_version: FORMAT, entries };
        let mut text = serde_json::to_vec_pretty(&book)
            .map_err(|e| Error::Ledger { path: self.path.clone(), reason: e.to_string() })?;
        text.push(b'\n');
        replace(&self.path, &text, 0o600)?;
        // Only what is on disk is known.
        self.entries = book.entries;
        Ok(())
    }

    fn keep(&self, found: Standing) -> Result<Replaced> {
        match found {
            Standing::Link { target } => Ok(Replaced::Link { target }),
            Standing::File { bytes, mode } => {
                let sha256 = digest(&bytes);
                let dir = self.state_dir.join("replaced");
                make_dir(&dir, 0o700)?;
                replace(&dir.join(&sha256), &bytes, 0o600)?;
                Ok(Replaced::File { copy: sha256.clone(), sha256, mode })
            }
        }
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn file(state_dir: &Path, writer: &str, extension: &str) -> PathBuf {
    state_dir.join("ledger").join(format!("{writer}.{extension}"))
}

fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(at("read", path)(e)),
    };
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u32,
    }
    match serde_json::from_slice::<Version>(&text) {
        Ok(v) if v.format_version > FORMAT => Err(Error::Ledger {
            path: path.to_owned(),
            reason: format!("its format is {}, this version knows {FORMAT}", v.format_version),
        }),
        _ => match serde_json::from_slice::<Book>(&text) {
            Ok(book) => Ok(book.entries),
            Err(e) => {
                let aside = path.with_extension("json.broken");
                log::error!(
                    "{} is broken ({e}): it is kept as {} and a new one begun; an uninstall will not know what was \
                     replaced before now",
                    path.display(),
                    aside.display()
                );
                fs::rename(path, &aside).map_err(at("set aside", path))?;
                Ok(Vec::new())
            }
        },
    }
}

enum Standing {
    File { bytes: Vec<u8>, mode: u32 },
    Link { target: PathBuf },
}

/// What stands at a path now.
fn standing(here: &Path) -> Result<Option<Standing>> {
    let meta = match fs::symlink_metadata(here) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("look at", here)(e)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(here).map_err(at("read the link", here))?;
        return Ok(Some(Standing::Link { target }));
    }
    if !meta.is_file() {
        let kind =
            std::io::Error::other("something that is neither a file nor a link stands there: remove it");
        return Err(at("replace", here)(kind));
    }
    let bytes = fs::read(here).map_err(at("read", here))?;
    Ok(Some(Standing::File { bytes, mode: meta.mode() & 0o7777 }))
}
