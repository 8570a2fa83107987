//! Which CNI config is the primary network's: the one that the runtime would load if this project were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cni::config::{NetworkConfig, plugin_type};
use cni::raw::{MAX_SIZE, Object};

use crate::HostDir;

/// Our file; Go Multus's beside it. Neither is ever the primary, not even while it is broken.
const OUR_NAMES: [&str; 2] = ["00-multus.conflist", "00-multus.conf"];
/// What container runtimes take for a config.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];
/// Networks that come with a runtime as an example or for its own use outside of Kubernetes: CRI-O, Podman,
/// containerd's install script.
const SAMPLES: [&str; 3] = ["crio", "podman", "containerd-net"];
/// nerdctl puts this into the configs of its own networks.
const NERDCTL: &str = "nerdctlID";

/// Which file to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The first by name, as container runtimes do; samples do not count.
    First,
    /// The first whose network has this name, also in a folder of the CNI config folder.
    Network(String),
    /// This one, relative to the CNI config folder. Its extension may change with the primary's version.
    File(PathBuf),
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
    /// The version that its plugins are called with.
    pub cni_version: String,
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
        Wanted::File(file) => named(dir, file),
        Wanted::First => first(dir),
        Wanted::Network(name) => network(dir, name),
    }
}

/// The configs of a folder that a runtime would consider, in its order.
pub fn candidates(dir: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.as_bytes().starts_with(b".");
        let extension = Path::new(&name).extension().and_then(OsStr::to_str);
        if extension.is_some_and(|e| EXTENSIONS.contains(&e)) && !hidden && !entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn first(dir: &HostDir) -> Result<Primary, Unusable> {
    let mut sample = None;
    for file in list(dir, Path::new(""))? {
        match read(dir, &file)? {
            Kind::Primary(primary) => return Ok(primary),
            Kind::Sample(_) => sample = sample.or(Some(file)),
            Kind::Multus | Kind::Loopback => {}
        }
    }
    let (folder, name) = (dir.host(Path::new("")), |file: PathBuf| file.display().to_string());
    let folder = folder.display().to_string();
    let folder = folder.trim_end_matches('/');
    Err(Unusable::Missing(match sample.map(name) {
        Some(sample) => format!(
            "{folder} has only {sample}, an example of a container runtime; if that is the cluster's network, set \
             multus.primaryCniConfigFile={sample}"
        ),
        None => {
            format!("no .conf, .conflist or .json of another plugin in {folder} yet; install a primary CNI")
        }
    }))
}

fn network(dir: &HostDir, wanted: &str) -> Result<Primary, Unusable> {
    let mut files = list(dir, Path::new(""))?;
    for folder in folders(dir) {
        files.extend(list(dir, &folder)?);
    }
    // A broken file may be any network's; it only matters if the wanted one is nowhere else.
    let mut broken = None;
    for file in files {
        match read(dir, &file) {
            Ok(Kind::Primary(primary) | Kind::Sample(primary)) if primary.name == wanted => {
                return Ok(primary);
            }
            Ok(_) => {}
            Err(why) => broken = broken.or(Some(why)),
        }
    }
    Err(broken.unwrap_or_else(|| {
        let folder = dir.host(Path::new(""));
        Unusable::Missing(format!(
            "no config of network {wanted:?} in {} or a folder of it yet",
            folder.display()
        ))
    }))
}

fn named(dir: &HostDir, file: &Path) -> Result<Primary, Unusable> {
    let shown = dir.host(file).display().to_string();
    let refuse = |why: &str| Err(Unusable::Broken { file: shown.clone(), why: why.to_owned() });
    let itself = "it is the config of Multus itself; name the file of the primary network";
    if OUR_NAMES.iter().any(|o| file == Path::new(o)) {
        return refuse(itself);
    }
    // A new version of a CNI may write a list where the old one wrote a single plugin.
    let spellings = EXTENSIONS.iter().map(|e| file.with_extension(e)).filter(|f| f != file);
    let found = std::iter::once(file.to_owned()).chain(spellings).find(|f| exists(dir, f));
    let Some(file) = found else {
        let aside = file.with_file_name(cilium_bak(file));
        return Err(Unusable::Missing(if exists(dir, &aside) {
            format!(
                "{shown} was renamed to *.cilium_bak by Cilium: set cni.exclusive=false in Cilium's values"
            )
        } else {
            format!("{shown} is not there yet")
        }));
    };
    match read(dir, &file)? {
        Kind::Primary(primary) | Kind::Sample(primary) => Ok(primary),
        Kind::Multus => refuse(itself),
        Kind::Loopback => refuse("it only sets up the loopback interface"),
    }
}

/// The name that Cilium gives to a config that it sets aside.
pub fn cilium_bak(file: &Path) -> OsString {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".cilium_bak");
    name
}

fn exists(dir: &HostDir, file: &Path) -> bool {
    dir.file(file).is_ok_and(|place| fs::symlink_metadata(place.here).is_ok())
}

/// The candidates in a folder of the CNI config folder, relative to that.
fn list(dir: &HostDir, folder: &Path) -> Result<Vec<PathBuf>, Unusable> {
    let missing = |why: String| {
        Unusable::Missing(format!("cannot list the CNI config folder {}: {why}", dir.host(folder).display()))
    };
    let place = dir.file(folder).map_err(|e| missing(e.to_string()))?;
    let names = candidates(&place.here).map_err(|e| missing(e.to_string()))?;
    let ours = |name: &OsString| OUR_NAMES.iter().any(|o| name == o);
    Ok(names.into_iter().filter(|n| !ours(n)).map(|n| folder.join(n)).collect())
}

/// Folders of the CNI config folder, in order; one that cannot be listed has none.
fn folders(dir: &HostDir) -> Vec<PathBuf> {
    let Ok(place) = dir.place() else { return Vec::new() };
    let entries = fs::read_dir(place.here).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && !e.file_name().as_bytes().starts_with(b"."))
        .map(|e| PathBuf::from(e.file_name()))
        .collect();
    found.sort();
    found
}

enum Kind {
    Primary(Primary),
    Sample(Primary),
    Multus,
    Loopback,
}

fn read(dir: &HostDir, file: &Path) -> Result<Kind, Unusable> {
    let broken = |why: String| Unusable::Broken { file: dir.host(file).display().to_string(), why };
    let place = dir.file(file).map_err(|e| broken(e.to_string()))?;
    let text = text(&place.here).map_err(broken)?;
    if text.trim().is_empty() {
        return Err(broken("it is empty".into()));
    }
    // The reader that the plugin uses as well, so that what is accepted here works there.
    let config = match NetworkConfig::load_file(&place.here) {
        Ok(config) => config,
        Err(_) if is_multus(&text) => return Ok(Kind::Multus),
        Err(e) => {
            let path = format!("{}: ", place.here.display());
            return Err(broken(e.msg.strip_prefix(&path).unwrap_or(&e.msg).to_owned()));
        }
    };
    judge(file, text, &config).map_err(broken)
}

/// The file's text. Anything but a regular file is not opened, since that could block.
fn text(path: &Path) -> Result<String, String> {
    let cannot = |e: std::io::Error| match e.kind() {
        ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        _ => format!("cannot read it ({e})"),
    };
    if !fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("it is not a regular file".into());
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(cannot)?;
    file.take(MAX_SIZE as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() > MAX_SIZE {
        return Err(format!("it is larger than {MAX_SIZE} bytes"));
    }
    Ok(text)
}

fn judge(file: &Path, text: String, config: &NetworkConfig) -> Result<Kind, String> {
    let mut types = Vec::new();
    for plugin in &config.plugins {
        types.push(plugin_type(plugin).map_err(|e| e.msg)?);
        // A runtime refuses the whole config for one capability that is no boolean.
        plugin.get_as::<BTreeMap<String, bool>>("capabilities").map_err(|e| e.msg)?;
    }
    if types.iter().any(|t| t.starts_with("multus")) {
        return Ok(Kind::Multus);
    }
    if types.iter().all(|t| t == "loopback") {
        return Ok(Kind::Loopback);
    }
    let nerdctl = config.extra.get(NERDCTL).is_some();
    let sample = nerdctl || (SAMPLES.contains(&config.name.as_str()) && types.iter().any(|t| t == "bridge"));
    let primary = Primary {
        file: file.to_owned(),
        text,
        name: config.name.clone(),
        cni_version: config.cni_version.clone(),
        capabilities: config.capabilities(),
    };
    Ok(if sample { Kind::Sample(primary) } else { Kind::Primary(primary) })
}

/// Whether a config that is not valid is some Multus's all the same: those leave out what a runtime wants.
fn is_multus(text: &str) -> bool {
    let Ok(object) = Object::parse(text) else { return false };
    let plugins: Vec<Object> = object.get_as("plugins").ok().flatten().unwrap_or_default();
    std::iter::once(&object).chain(&plugins).any(|p| plugin_type(p).is_ok_and(|t| t.starts_with("multus")))
}
