//! What this project did to the host, written down before it is done, so that it can be undone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::{make_dir, replace};
use crate::{Error, Result, at};

/// The format that this version writes.
const FORMAT: u32 = 1;

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
        /// Name of its copy in the folder `replaced` beside the ledger's folder, if one was kept.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        copy: Option<String>,
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

/// One file on the host that is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path as the host names it.
    pub path: PathBuf,
    /// SHA-256 of our bytes, in hex.
    pub sha256: String,
    /// What was there before us; absent if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    format_version: u32,
    entries: Vec<Entry>,
}

/// The ledger of one writer.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    entries: Vec<Entry>,
}

impl Ledger {
    /// Reads the ledger `state_dir/ledger/WRITER.json`, or starts an empty one.
    pub fn open(state_dir: &Path, writer: &str) -> Result<Ledger> {
        let path = state_dir.join("ledger").join(format!("{writer}.json"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Ledger { path, entries: Vec::new() });
            }
            Err(e) => return Err(at("read", &path)(e)),
        };
        let refuse = |reason: String| Error::Ledger { path: path.clone(), reason };
        let file: File = serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
        if file.format_version != FORMAT {
            return Err(refuse(format!("format {}, this version writes {FORMAT}", file.format_version)));
        }
        Ok(Ledger { path, entries: file.entries })
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
        let noted = || known.and_then(|k| k.replaced.clone());
        // An equal file is one that a run put there which was ended before it could note so.
        let is_ours =
            |old: &str| before == Before::Ours || old == sha256 || known.is_some_and(|k| k.sha256 == old);
        let replaced = match standing(here)? {
            None => noted(),
            Some((Replaced::File { sha256: old, .. }, _)) if is_ours(&old) => noted(),
            Some((Replaced::File { sha256: old, mode, .. }, content)) => {
                // A second foreign file in a row was put over ours, so the first one is what we replaced.
                match noted() {
                    Some(first) => Some(first),
                    None => {
                        let copy = Some(self.keep(&old, &content)?);
                        Some(Replaced::File { sha256: old, mode, copy })
                    }
                }
            }
            Some((link, _)) => noted().or(Some(link)),
        };
        let entry = Entry { path: host.to_owned(), sha256, replaced };
        if self.entry(host) == Some(&entry) {
            return Ok(());
        }
        self.entries.retain(|e| e.path != host);
        self.entries.push(entry);
        self.write()
    }

    fn keep(&self, sha256: &str, content: &[u8]) -> Result<String> {
        let state_dir = self.path.ancestors().nth(2).unwrap_or(Path::new("/"));
        let dir = state_dir.join("replaced");
        make_dir(&dir, 0o700)?;
        replace(&dir.join(sha256), content, 0o600)?;
        Ok(sha256.to_owned())
    }

    fn write(&self) -> Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        make_dir(dir, 0o700)?;
        let file = File { format_version: FORMAT, entries: self.entries.clone() };
        let mut text = serde_json::to_vec_pretty(&file)
            .map_err(|e| Error::Ledger { path: self.path.clone(), reason: e.to_string() })?;
        text.push(b'\n');
        replace(&self.path, &text, 0o600).map(drop)
    }
}

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// What stands at a path now, and its bytes if it is a file.
fn standing(here: &Path) -> Result<Option<(Replaced, Vec<u8>)>> {
    let meta = match fs::symlink_metadata(here) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("look at", here)(e)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(here).map_err(at("read the link", here))?;
        return Ok(Some((Replaced::Link { target }, Vec::new())));
    }
    if !meta.is_file() {
        let kind = std::io::Error::other("something that is neither a file nor a link stands there");
        return Err(at("replace", here)(kind));
    }
    let content = fs::read(here).map_err(at("read", here))?;
    let mode = meta.mode() & 0o7777;
    Ok(Some((Replaced::File { sha256: digest(&content), mode, copy: None }, content)))
}
