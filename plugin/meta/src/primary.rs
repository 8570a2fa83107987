//! The primary network, read at each call from where it lives, else from the snapshot of its last good state.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cni::{
    config::{NetworkConfig, find_network},
    error::one_line,
};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::{Network, NetworkRef},
    error::{Fault, Result},
    netconf::{NetConf, PrimarySource},
    source::{self, Lookup, Source},
};

/// How often an awaited file is looked for; it may lie in a folder that does not exist yet, so nothing is watched.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `primary/file.json`, written by `config`.
#[derive(Deserialize)]
struct FileSnapshot {
    path: PathBuf,
    config: String,
}

/// `primary/nad.json`: a primary that is a definition, as it was last seen.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct DefinitionSnapshot {
    format_version: u32,
    definition: Network,
}

/// Awaits the readiness indicator, for a bounded time (standard 6.1.2).
///
/// # Errors
/// `PRIMARY_NOT_READY` (try again) names the file.
pub fn await_ready(conf: &NetConf) -> Result<()> {
    let until = Instant::now() + conf.readiness_wait;
    while let Err(fault) = ready(conf) {
        if Instant::now() >= until {
            return Err(fault);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Whether the readiness indicator is there now.
///
/// # Errors
/// `PRIMARY_NOT_READY` names the file.
pub fn ready(conf: &NetConf) -> Result<()> {
    let Some(indicator) = conf.readiness_indicator.as_ref().filter(|path| !path.exists()) else {
        return Ok(());
    };
    Err(Fault::retry(
        "PRIMARY_NOT_READY",
        format!(
            "awaiting the readiness indicator {}, which the primary network's own pod writes",
            indicator.display()
        ),
    ))
}

/// The primary of now, asking the cluster where it is a definition.
///
/// # Errors
/// `PRIMARY_MISSING` (try again) when it is not there, `PRIMARY_INVALID` when it is broken and no snapshot stands in.
pub fn load(conf: &NetConf, lookup: &Lookup<'_>) -> Result<Source> {
    let name = match &conf.primary {
        PrimarySource::Named(name) if source::as_path(name).is_none() => name,
        _ => return load_local(conf),
    };
    let snapshot = read_snapshot(conf);
    let wanted = NetworkRef { namespace: conf.multus_namespace.clone(), name: name.clone() };
    let snapshot = snapshot.filter(|snapshot| snapshot.is(&wanted));
    let definition = match lookup.definition(&wanted, snapshot.is_some()) {
        Ok(None) => return known_by_name(conf, name),
        Ok(Some(definition)) => {
            keep_snapshot(conf, &definition, snapshot.as_ref());
            definition
        }
        Err(fault) => {
            let snapshot = snapshot.ok_or(fault)?;
            log::warn!("the primary {wanted} is taken from its snapshot, since the cluster does not answer");
            snapshot
        }
    };
    source::of_definition(conf, definition)
}

/// The primary of now without the cluster: a definition is taken from its snapshot.
///
/// # Errors
/// As [`load`].
pub fn load_local(conf: &NetConf) -> Result<Source> {
    match &conf.primary {
        PrimarySource::Inline(delegate) => {
            let config = NetworkConfig::parse(&delegate.to_json(), None).map_err(|error| {
                Fault::invalid(
                    "NETCONF_INVALID",
                    format!("delegates, the first: {}", one_line(&error.msg, 200)),
                )
            })?;
            source::of_config(conf, config)
        }
        PrimarySource::Named(value) => match source::as_path(value) {
            Some(path) => load_file(conf, Path::new(path)),
            None => match read_snapshot(conf) {
                Some(definition) if definition.name == *value => source::of_definition(conf, definition),
                _ => known_by_name(conf, value),
            },
        },
    }
}

/// The folder of the primary's file, where its sub-folders of further plugins are.
///
/// # Errors
/// `NETCONF_INVALID` when the primary is no file.
pub fn folder(conf: &NetConf) -> Result<PathBuf> {
    let path = match &conf.primary {
        PrimarySource::Named(value) => source::as_path(value),
        PrimarySource::Inline(_) => None,
    };
    let path = path.map(|path| on_host(Path::new(path)));
    match path {
        Some(path) if path.is_dir() => Ok(path),
        Some(path) => Ok(path.parent().unwrap_or(Path::new("/")).to_owned()),
        None => Err(Fault::invalid(
            "NETCONF_INVALID",
            "auxiliaryCNIChainName needs a clusterNetwork that is a file or a folder",
        )),
    }
}

fn load_file(conf: &NetConf, path: &Path) -> Result<Source> {
    let path = on_host(path);
    let file = match fs::metadata(&path) {
        Err(_) => return Err(missing(format!("config {}", path.display()))),
        Ok(there) if there.is_dir() => source::file_of(&path).map_err(missing)?,
        Ok(_) => path,
    };
    let config = NetworkConfig::load_file(&file).or_else(|broken| {
        log::warn!("{} is broken ({}); using its last good state", file.display(), broken.msg);
        from_snapshot(&conf.state_dir.join("primary/file.json"), &file).map_err(|why| {
            Fault::retry(
                "PRIMARY_INVALID",
                format!(
                    "the primary network's config {} is broken ({}) and its snapshot cannot stand in ({why})",
                    file.display(),
                    one_line(&broken.msg, 90)
                ),
            )
        })
    })?;
    source::of_config(conf, config)
}

/// Go Multus writes paths of its own container; the host's file has the same path without that prefix.
fn on_host(path: &Path) -> PathBuf {
    match path.strip_prefix("/host") {
        Ok(rest) if !path.exists() => Path::new("/").join(rest),
        _ => path.to_owned(),
    }
}

fn known_by_name(conf: &NetConf, name: &str) -> Result<Source> {
    let config = find_network(&conf.conf_dir, name).map_err(|error| {
        let why = one_line(&error.msg, 140);
        missing(format!("{name}: there is no definition {}/{name}, and {why}", conf.multus_namespace))
    })?;
    source::of_config(conf, config)
}

fn missing(what: String) -> Fault {
    Fault::retry(
        "PRIMARY_MISSING",
        format!("awaiting the primary network's {what}; is the primary network's pod running on this node?"),
    )
}

fn from_snapshot(file: &Path, path: &Path) -> std::result::Result<NetworkConfig, String> {
    let text = fs::read_to_string(file).map_err(|error| one_line(&error.to_string(), 60))?;
    let snapshot: FileSnapshot =
        serde_json::from_str(&text).map_err(|error| one_line(&error.to_string(), 60))?;
    if snapshot.path != path {
        return Err("it is of another file".to_owned());
    }
    NetworkConfig::parse(&snapshot.config, None).map_err(|error| one_line(&error.msg, 60))
}

fn snapshot_file(conf: &NetConf) -> PathBuf {
    conf.state_dir.join("primary/nad.json")
}

fn read_snapshot(conf: &NetConf) -> Option<Network> {
    let text = fs::read_to_string(snapshot_file(conf)).ok()?;
    match serde_json::from_str::<DefinitionSnapshot>(&text) {
        Ok(snapshot) => Some(snapshot.definition),
        Err(error) => {
            log::warn!("{} is no snapshot: {error}", snapshot_file(conf).display());
            None
        }
    }
}

/// Kept only when it changed; a snapshot that cannot be kept costs no pod.
fn keep_snapshot(conf: &NetConf, definition: &Network, known: Option<&Network>) {
    if known == Some(definition) {
        return;
    }
    let path = snapshot_file(conf);
    if let Err(error) = write_snapshot(&path, definition) {
        log::warn!("the snapshot {} cannot be written: {error}", path.display());
    }
}

fn write_snapshot(path: &Path, definition: &Network) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let text =
        serde_json::to_string(&DefinitionSnapshot { format_version: 1, definition: definition.clone() })?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
