//! Configurations as files: `.conflist` is a list, `.conf` and `.json` are single plugins.

use std::{
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{NetworkConfig, invalid, is_single, read, valid_network_name};
use crate::{
    error::{Error, code, io_words, one_line},
    raw::{self, Object},
};

impl NetworkConfig {
    /// Reads a configuration file. To a list belong the files `<its folder>/<its name>/*.conf` too, after its
    /// own plugins, unless it says `loadOnlyInlinedPlugins`. A list that hides in a `.conf` is read as one.
    ///
    /// # Errors
    /// Code 5 when a file cannot be read, else as [`NetworkConfig::parse`]; the message names the file.
    pub fn load_file(path: &Path) -> Result<Self, Error> {
        let located = |e: Error| at(path, e);
        let object = Object::parse(&read_capped(path)?).map_err(located)?;
        let mut config = if is_list(path, &object) {
            let (mut list, inlined_only) = Self::read_list(object).map_err(located)?;
            list.finish_name(None).map_err(located)?;
            if !inlined_only {
                list.add_folder(&path.parent().unwrap_or(Path::new("")).join(&list.name))?;
            }
            list
        } else {
            Self::read_single(object).map_err(located)?
        };
        config.finish_name(None).map_err(located)?;
        config.check_plugins().map_err(located)?;
        Ok(config)
    }

    /// Appends the plugins of the files `*.conf` of a folder, in the order of their names. A folder that does not
    /// exist has none.
    ///
    /// # Errors
    /// Code 5 when a file cannot be read, code 6 or 7 when it holds no object; the message names the file. The
    /// plugins are not checked, as [`NetworkConfig::parse`] would.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), Error> {
        for file in files_with(folder, &["conf"])? {
            self.plugins.push(Object::parse(&read_capped(&file)?).map_err(|e| at(&file, e))?);
        }
        Ok(())
    }
}

/// Finds a network by its name in a folder: the first list of that name in the order of file names, else the
/// first single plugin. A file that cannot be read tells no name; it is passed over with a warning in the log.
///
/// # Errors
/// Code 7 when no file has that name, code 5 when the folder cannot be read, and as
/// [`NetworkConfig::load_file`] when the file that has the name is broken.
pub fn find_network(dir: &Path, name: &str) -> Result<NetworkConfig, Error> {
    let mut passed_over = String::new();
    for extensions in [&["conflist"][..], &["conf", "json"]] {
        for file in files_with(dir, extensions)? {
            match name_of(&file) {
                Ok(found) if found == name && valid_network_name(name) => {
                    return NetworkConfig::load_file(&file);
                }
                Ok(_) => {}
                Err(e) => {
                    log::warn!("looking for network {name}: passed over {}", e.msg);
                    if passed_over.is_empty() {
                        passed_over = format!("; passed over {}", one_line(&e.msg, 140));
                    }
                }
            }
        }
    }
    let (name, dir) = (one_line(name, 60), dir.display());
    Err(invalid(format!("no CNI configuration in {dir} has the name {name:?}{passed_over}")))
}

fn name_of(file: &Path) -> Result<String, Error> {
    let located = |e: Error| at(file, e);
    let object = Object::parse(&read_capped(file)?).map_err(located)?;
    let name = if is_list(file, &object) { read(&object, "name") } else { object.get_known("name") };
    Ok(name.map_err(located)?.unwrap_or_default())
}

fn is_list(path: &Path, object: &Object) -> bool {
    has_extension(path, "conflist") || (!is_single(object) && object.get("plugins").is_some())
}

fn at(path: &Path, e: Error) -> Error {
    Error { msg: format!("{}: {}", path.display(), e.msg), ..e }
}

fn read_capped(path: &Path) -> Result<String, Error> {
    let failed = |e: std::io::Error| {
        let (path, e) = (path.display(), io_words(&e));
        Error::new(code::IO, format!("{path}: the CNI configuration cannot be read: {e}"))
    };
    // Opening a pipe would wait for its writer.
    let there = fs::metadata(path).map_err(failed)?;
    if !there.is_file() {
        return Err(Error::new(code::IO, format!("{}: not a file", path.display())));
    }
    let file = fs::File::open(path).map_err(failed)?;
    // Room for all of it, so that it is read at once.
    let size = usize::try_from(there.len()).unwrap_or(raw::MAX_SIZE).min(raw::MAX_SIZE);
    let mut text = String::with_capacity(size + 1);
    // One byte more than allowed, so that the parser sees and names the excess.
    file.take(raw::MAX_SIZE as u64 + 1).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The files that a runtime would read, `.conf`, `.conflist` and `.json`, sorted by the bytes of their names.
/// A folder that does not exist has none.
pub fn scan_dir(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    files_with(dir, &["conf", "conflist", "json"])
}

fn files_with(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| {
        Error::new(code::IO, format!("{}: the folder cannot be read: {}", dir.display(), io_words(&e)))
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let wanted = extensions.iter().any(|extension| has_extension(&path, extension));
        if wanted && !entry.file_type().map_err(failed)?.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// As Go sees extensions: `.conf` alone has one, too.
fn has_extension(path: &Path, extension: &str) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.strip_suffix(extension.as_bytes()).is_some_and(|stem| stem.ends_with(b"."))
}
