//! Which CNI config is the primary network's: the one that the runtime would load if this project were not there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::HostDir;

/// Our file; Go Multus's beside it. Neither is ever the primary, not even while it is broken.
const OUR_NAMES: [&str; 2] = ["00-multus.conflist", "00-multus.conf"];
/// Larger than any config, small enough to read each time.
const MAX_BYTES: u64 = 1 << 20;

/// Which file to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The first by name, as container runtimes do.
    First,
    /// This one, relative to the CNI config folder.
    Named(PathBuf),
}

/// A primary network's config, read and understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Relative to the CNI config folder.
    pub file: PathBuf,
    /// The text of the file.
    pub text: String,
    /// The network's name.
    pub name: String,
    /// Its `cniVersion`, if it says one.
    pub cni_version: Option<String>,
    /// The capabilities that any of its plugins declares.
    pub capabilities: BTreeSet<String>,
}

/// Why there is no primary now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is none yet.
    #[error("waiting for the primary network: {0}")]
    Missing(String),
    /// There is one that cannot be used.
    #[error("the primary network's config {file} cannot be used: {why}")]
    Broken {
        /// As the host names it.
        file: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

/// Finds and reads the primary network's config.
pub fn find(dir: &HostDir, wanted: &Wanted) -> Result<Primary, Unusable> {
    match wanted {
        Wanted::Named(file) => named(dir, file),
        Wanted::First => {
            let names = candidates(&dir.here).map_err(|e| {
                Unusable::Missing(format!("cannot list the CNI config folder {}: {e}", dir.host.display()))
            })?;
            for name in names.iter().filter(|n| !OUR_NAMES.iter().any(|o| n.as_os_str() == *o)) {
                match read(dir, Path::new(name))? {
                    Kind::Primary(primary) => return Ok(primary),
                    Kind::Multus | Kind::Loopback => {}
                }
            }
            let dir = dir.host.display();
            Err(Unusable::Missing(format!(
                "no .conf, .conflist or .json of another plugin in {dir} yet; install a primary CNI (or name its file)"
            )))
        }
    }
}

/// The configs of a folder that a runtime would consider, in its order.
pub fn candidates(dir: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.as_bytes().starts_with(b".");
        let extension = Path::new(&name).extension().and_then(OsStr::to_str);
        let config = matches!(extension, Some("conf" | "conflist" | "json"));
        if config && !hidden && !entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn named(dir: &HostDir, file: &Path) -> Result<Primary, Unusable> {
    let shown = dir.host(file);
    if let Err(e) = fs::metadata(dir.here(file))
        && e.kind() == std::io::ErrorKind::NotFound
    {
        return Err(Unusable::Missing(format!("{} is not there yet", shown.display())));
    }
    let refuse = |why: &str| Err(Unusable::Broken { file: shown.display().to_string(), why: why.to_owned() });
    if OUR_NAMES.iter().any(|o| file == Path::new(o)) {
        return refuse("it is the config of Multus itself; name the file of the primary network");
    }
    match read(dir, file)? {
        Kind::Primary(primary) => Ok(primary),
        Kind::Multus => refuse("it is the config of Multus itself; name the file of the primary network"),
        Kind::Loopback => refuse("it only sets up the loopback interface"),
    }
}

enum Kind {
    Primary(Primary),
    Multus,
    Loopback,
}

fn read(dir: &HostDir, file: &Path) -> Result<Kind, Unusable> {
    let broken = |why: String| Unusable::Broken { file: dir.host(file).display().to_string(), why };
    let here = dir.here(file);
    let meta = fs::metadata(&here).map_err(|e| broken(format!("cannot read it ({e})")))?;
    if !meta.is_file() {
        return Err(broken("it is not a regular file".into()));
    }
    if meta.len() > MAX_BYTES {
        return Err(broken(format!("it has {} bytes, at most {MAX_BYTES} are read", meta.len())));
    }
    let bytes = fs::read(&here).map_err(|e| broken(format!("cannot read it ({e})")))?;
    let text = String::from_utf8(bytes).map_err(|_| broken("it is not UTF-8".into()))?;
    parse(file, text).map_err(broken)
}

fn parse(file: &Path, text: String) -> Result<Kind, String> {
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    let top: Map<String, Value> =
        serde_json::from_str(&text).map_err(|e| format!("it is not a JSON object ({e})"))?;
    let list;
    let plugins: &[Value] = match top.get("plugins") {
        Some(Value::Array(plugins)) if plugins.is_empty() => return Err("its \"plugins\" is empty".into()),
        Some(Value::Array(plugins)) => plugins,
        Some(_) => return Err("its \"plugins\" is not a list".into()),
        None => {
            list = [Value::Object(top.clone())];
            &list
        }
    };
    let mut capabilities = BTreeSet::new();
    let mut types = Vec::new();
    for plugin in plugins {
        let Some(kind) = plugin.get("type").and_then(Value::as_str).filter(|t| !t.is_empty()) else {
            return Err("one of its plugins has no \"type\"".into());
        };
        types.push(kind);
        match plugin.get("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                for (name, on) in map {
                    match on {
                        Value::Bool(true) => drop(capabilities.insert(name.clone())),
                        Value::Bool(false) => {}
                        _ => return Err(format!("its capability {name:?} is neither true nor false")),
                    }
                }
            }
            Some(_) => return Err("its \"capabilities\" is not an object".into()),
        }
    }
    if types.iter().any(|t| t.starts_with("multus")) {
        return Ok(Kind::Multus);
    }
    if types.iter().all(|t| *t == "loopback") {
        return Ok(Kind::Loopback);
    }
    let word = |key: &str| match top.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) if s.is_empty() => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(_) => Err(format!("its {key:?} is not text")),
    };
    let name = word("name")?.ok_or("it has no \"name\"")?;
    let cni_version = word("cniVersion")?;
    Ok(Kind::Primary(Primary { file: file.to_owned(), name, cni_version, capabilities, text }))
}
