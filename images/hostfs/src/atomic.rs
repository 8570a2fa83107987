//! Replacing a file so that every reader, at every moment and after every crash, sees the old one or the new one.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::{Result, at};

/// Temp files begin with this (container runtimes skip dot files) ...
const PREFIX: &str = ".multus-rs-";
/// ... and end with this, which no container runtime takes for a config.
const SUFFIX: &str = ".tmp";

/// What [`replace`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The file was already there with these bytes and this mode; nothing was written.
    Unchanged,
    /// The file is new, or new in content or mode.
    Written,
}

/// Whether `path` is a regular file (not a link to one) with exactly these bytes and this mode.
pub fn is_same(path: &Path, bytes: &[u8], mode: u32) -> bool {
    has_bytes(path, bytes).is_some_and(|found| found == mode)
}

/// The mode of `path`, if it is a regular file (not a link to one) with exactly these bytes.
pub fn has_bytes(path: &Path, bytes: &[u8]) -> Option<u32> {
    let meta = fs::symlink_metadata(path).ok()?;
    let same = meta.is_file()
        && meta.len() == bytes.len() as u64
        && fs::read(path).is_ok_and(|found| found == bytes);
    same.then(|| meta.mode() & 0o7777)
}

/// Makes `path` a regular file with these bytes and this mode, unless it is that already.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<Change> {
    if is_same(path, bytes, mode) {
        return Ok(Change::Unchanged);
    }
    Staged::write(path, bytes, mode)?.publish()?;
    Ok(Change::Written)
}

/// A file that is whole and on disk, under a temporary name beside the one it is meant for. Dropped, it is gone.
///
/// The temp file is made in the same folder, because container runtimes watch for a rename inside of it and would
/// not see one that comes from elsewhere.
#[derive(Debug)]
pub struct Staged {
    temp: TempPath,
    target: PathBuf,
    /// Its lock says that the owner of the temp file lives.
    _owner: File,
}

impl Staged {
    /// Writes the file beside `target`, with its final mode, whatever the umask.
    pub fn write(target: &Path, bytes: &[u8], mode: u32) -> Result<Staged> {
        let dir = folder(target);
        let mut temp = tempfile::Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .tempfile_in(dir)
            .map_err(at("create a temporary file in", dir))?;
        // A handle for reading: one for writing that is open at the rename would make a program fail with "text
        // file busy" for whoever runs it at that moment.
        let owner = File::open(temp.path()).map_err(at("open", temp.path()))?;
        owner.lock().map_err(at("lock", temp.path()))?;
        temp.write_all(bytes).map_err(at("write", target))?;
        // On the temp file, so that the mode holds from the first moment.
        temp.as_file()
            .set_permissions(Permissions::from_mode(mode))
            .map_err(at("set the mode of", target))?;
        temp.as_file().sync_all().map_err(at("flush", target))?;
        Ok(Staged { temp: temp.into_temp_path(), target: target.to_owned(), _owner: owner })
    }

    /// Where the file is until it is published.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Gives the file its name. Whatever stood there is replaced; a symlink is not followed.
    pub fn publish(self) -> Result<()> {
        let Staged { temp, target, _owner } = self;
        temp.persist(&target).map_err(|e| at("rename a temporary file to", &target)(e.error))?;
        sync_dir(folder(&target))
    }
}

/// Removes a file; one that is not there is no error.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(at("remove", path)(e)),
        Ok(()) => sync_dir(folder(path)),
    }
}

/// Makes a folder and its parents, with `mode` on those that were missing.
pub fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(at("create the folder", dir))
}

/// Removes temp files that a killed process left in `dir`; those of a living one are locked and stay.
pub fn sweep(dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        let path = entry.map_err(at("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        // A link or a pipe of that name is not ours, and opening it could block.
        let regular = fs::symlink_metadata(&path).is_ok_and(|m| m.is_file());
        if regular && File::open(&path).is_ok_and(|f| f.try_lock().is_ok()) {
            remove(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Makes a rename inside of `dir` survive a power cut.
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at("flush the folder", dir))
}
