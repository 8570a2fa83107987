//! What was done for a sandbox, written before it is done, so that DEL needs nobody.
//!
//! One file per sandbox: `journal/ID.json` for pods with networks (synced to disk before the first delegate),
//! `plain/ID.json` under the run folder for the others (best effort). The file is a JSON text sequence (RFC 7464): each
//! text is the whole record, as it was after one more step, and the last whole one counts. A checksum over the exact
//! text of the record tells it from a torn one.

mod sealed;

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cni::error::one_line;

use self::sealed::{Unreadable, sealed, unsealed};
use crate::record::Record;

/// Begins every text but the first. No JSON holds it, so it is found also behind a torn text.
const SEPARATOR: char = '\u{1e}';
/// A file system that knew the new length of a file and lost what was there, fills it with zeros.
const BETWEEN_TEXTS: [u8; 2] = [SEPARATOR as u8, 0];
/// The folder of records that no DEL could serve.
const GIVEN_UP: &str = "given-up";
/// Texts of one record, about.
const MOST_STEPS: u64 = 16;

/// Why a record could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file operation failed.
    #[error("{doing} {path}: {source}", path = path.display())]
    Io {
        /// `writing`, `syncing`, `reading`, `removing`.
        doing: &'static str,
        /// The record's file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file's text is not a record: torn by a power cut, or of a newer version.
    #[error("{path} is no whole record: {why}", path = path.display())]
    Corrupt {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file says nothing: a power cut came before its first sync, so before anything was attached.
    #[error("{path} is empty: its plugin lost power before it ran anything", path = path.display())]
    Empty {
        /// The record's file.
        path: PathBuf,
    },
    /// Something to be recorded is no JSON.
    #[error("{what} is no JSON: {why}")]
    Invalid {
        /// What was to be recorded.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
}

impl JournalError {
    pub(crate) fn invalid(what: &'static str, error: serde_json::Error) -> Self {
        Self::Invalid { what, why: one_line(&error.to_string(), 100) }
    }
}

/// A folder of records.
#[derive(Debug, Clone)]
pub struct Journal {
    dir: PathBuf,
    durable: bool,
}

impl Journal {
    /// Records that survive a power cut.
    pub fn durable(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("journal"), durable: true }
    }

    /// Records of plain pods: no sync, gone with a reboot.
    pub fn plain(run_dir: &Path) -> Self {
        Self { dir: run_dir.join("plain"), durable: false }
    }

    /// What [`Journal::give_up`] set aside of it.
    pub fn given_up(&self) -> Self {
        Self { dir: self.dir.with_file_name(GIVEN_UP), durable: self.durable }
    }

    /// Whether its records survive a power cut.
    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// Writes the first record of a sandbox, before anything is attached; on return of a durable one it is on the disk.
    ///
    /// # Errors
    /// When the folder or file cannot be written.
    pub fn begin(&self, record: &Record) -> Result<(), JournalError> {
        self.put(record, false)
    }

    /// Writes a record whole, in place of what is there; on return of a durable one it is on the disk.
    ///
    /// # Errors
    /// When the folder or file cannot be written; then what was there stays, or the new record is there and not synced.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        self.put(record, true)
    }

    fn put(&self, record: &Record, replaces: bool) -> Result<(), JournalError> {
        let (path, aside) = (self.path(&record.sandbox), self.aside(&record.sandbox));
        let text = sealed(record)?;
        let sync = |file: &File| if self.durable { file.sync_all() } else { Ok(()) };
        let written = self.create(&aside).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            // A first record is renamed before it is synced: a journaling file system then commits once. Torn by a power cut
            // in between, it belongs to a pod of which nothing is attached.
            if replaces {
                sync(&file)?;
            }
            fs::rename(&aside, &path)?;
            if !replaces {
                sync(&file)?;
            }
            if self.durable { sync(&File::open(&self.dir)?) } else { Ok(()) }
        });
        written.map_err(|source| {
            // The first error is the one that tells.
            let _ = fs::remove_file(&aside);
            if !replaces {
                let _ = fs::remove_file(&path);
            }
            JournalError::Io { doing: "writing", path, source }
        })
    }

    /// An empty file of mode 0600. Its folder is nearly always there, so it is made only when that did not work.
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(path).or_else(|_| {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            options.open(path)
        })
    }

    /// Adds the record as it is now behind what is written of it, for progress that a power cut may lose: a reboot
    /// treats every phase as possible.
    ///
    /// # Errors
    /// When the file cannot be written; what it said before stays.
    pub fn note(&self, record: &Record) -> Result<(), JournalError> {
        let path = self.path(&record.sandbox);
        let text = sealed(record)?;
        let failed = |source| JournalError::Io { doing: "writing", path: path.clone(), source };
        let mut file = match File::options().append(true).open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return self.write(record),
            Err(error) => return Err(failed(error)),
        };
        // Steps of many and large networks would become more than the daemon can read; a plain pod has two.
        let most = MOST_STEPS * text.len() as u64;
        if self.durable && file.metadata().map_err(failed)?.len() > most {
            return self.write(record);
        }
        file.write_all(format!("\n{SEPARATOR}{text}").as_bytes()).map_err(failed)
    }

    /// Brings what was noted to the disk, once everything is attached: its DEL shall have the results also after a power
    /// cut. Does nothing for plain pods.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self, sandbox: &str) -> Result<(), JournalError> {
        if !self.durable {
            return Ok(());
        }
        let path = self.path(sandbox);
        let synced = File::open(&path).and_then(|file| file.sync_data());
        synced.map_err(|source| JournalError::Io { doing: "syncing", path, source })
    }

    /// Reads a sandbox's record, if there is one.
    ///
    /// # Errors
    /// [`JournalError::Corrupt`] when the file is not what was written, [`JournalError::Empty`] when it never was.
    pub fn read(&self, sandbox: &str) -> Result<Option<Record>, JournalError> {
        let path = self.path(sandbox);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(JournalError::Io { doing: "reading", path, source }),
        };
        if text.iter().all(|byte| *byte == 0) {
            return Err(JournalError::Empty { path });
        }
        let mut why = String::new();
        for step in text.split(|byte| BETWEEN_TEXTS.contains(byte)).rev() {
            match unsealed(step) {
                // A later step is torn, so as after a power cut each phase may be behind what happened.
                Ok(record) if !why.is_empty() => {
                    return Ok(Some(Record { boot_id: String::new(), ..record }));
                }
                Ok(record) => return Ok(Some(record)),
                Err(Unreadable::Torn(broken)) => why = broken,
                Err(Unreadable::Newer(version)) => {
                    why = format!("format {version} is newer than this build");
                    break;
                }
            }
        }
        Err(JournalError::Corrupt { path, why })
    }

    /// The sandboxes that have a record, in no order; none where there is no folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sandboxes(&self) -> Result<Vec<String>, JournalError> {
        let failed = |source| JournalError::Io { doing: "listing", path: self.dir.clone(), source };
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut sandboxes = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // A name that begins with a dot is being written.
            let sandbox = name.to_str().and_then(|name| name.strip_suffix(".json"));
            sandboxes.extend(sandbox.filter(|name| !name.starts_with('.')).map(str::to_owned));
        }
        Ok(sandboxes)
    }

    /// How long ago the sandbox's record was written; `None` where there is none.
    pub fn age(&self, sandbox: &str) -> Option<Duration> {
        let written = fs::metadata(self.path(sandbox)).and_then(|file| file.modified()).ok()?;
        Some(SystemTime::now().duration_since(written).unwrap_or_default())
    }

    /// Whether there is a file for the sandbox.
    pub fn knows(&self, sandbox: &str) -> bool {
        self.path(sandbox).exists()
    }

    /// Removes a sandbox's record, and what a killed plugin left of one; none is fine.
    ///
    /// # Errors
    /// When a file is there and stays.
    pub fn remove(&self, sandbox: &str) -> Result<(), JournalError> {
        for path in [self.path(sandbox), self.aside(sandbox)] {
            match fs::remove_file(&path) {
                Err(source) if !is_absent(&source) => {
                    return Err(JournalError::Io { doing: "removing", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves a record that no DEL can serve into `given-up/` next to the journal, where it can be looked at, and where a
    /// GC tries again.
    ///
    /// # Errors
    /// When the file cannot be moved.
    pub fn give_up(&self, sandbox: &str) -> Result<(), JournalError> {
        let path = self.path(sandbox);
        let folder = self.given_up().dir;
        let failed = |source| JournalError::Io { doing: "setting aside", path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
        fs::rename(&path, folder.join(format!("{sandbox}.json"))).map_err(failed)
    }

    fn path(&self, sandbox: &str) -> PathBuf {
        self.dir.join(format!("{sandbox}.json"))
    }

    /// The same for every operation on the sandbox, which are never two at once: killed ones leave no more than this.
    fn aside(&self, sandbox: &str) -> PathBuf {
        self.dir.join(format!(".{sandbox}.json"))
    }
}

/// No file, or no folder that could hold one.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// This boot's id, as the kernel says it.
///
/// # Errors
/// When `/proc` is not readable.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
