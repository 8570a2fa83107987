//! Replacing a file so that every reader, at every moment and after every crash, sees the old one or the new one.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

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
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    meta.is_file()
        && meta.mode() & 0o7777 == mode
        && meta.len() == bytes.len() as u64
        && fs::read(path).is_ok_and(|old| old == bytes)
}

/// Makes `path` a regular file with these bytes and this mode, unless it is that already.
///
/// The temp file is made in the same folder, because container runtimes watch for a rename inside of it and would
/// not see one that comes from elsewhere. A symlink at `path` is replaced and never followed.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<Change> {
    if is_same(path, bytes, mode) {
        return Ok(Change::Unchanged);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut temp = tempfile::Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .tempfile_in(dir)
        .map_err(at("create a temporary file in", dir))?;
    // Says that the owner of this file lives. Taken through a handle for reading: one for writing that is open
    // at the rename would make a program fail with "text file busy" for whoever runs it at that moment.
    let owner = File::open(temp.path()).map_err(at("open", temp.path()))?;
    owner.lock().map_err(at("lock", temp.path()))?;
    temp.write_all(bytes).map_err(at("write", path))?;
    // The mode goes on the temp file, so it holds from the first moment; the umask has no say in it.
    temp.as_file().set_permissions(Permissions::from_mode(mode)).map_err(at("set the mode of", path))?;
    temp.as_file().sync_all().map_err(at("flush", path))?;
    let temp: TempPath = temp.into_temp_path();
    temp.persist(path).map_err(|e| at("rename a temporary file to", path)(e.error))?;
    sync_dir(dir)?;
    Ok(Change::Written)
}

/// Makes a folder and its parents, with `mode` on those that were missing.
pub fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
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
            fs::remove_file(&path).map_err(at("remove", &path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes a rename inside of `dir` survive a power cut.
fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(at("flush the folder", dir))
}
