//! The text of `00-multus.conflist`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hostfs::{HostDir, Primary};
use serde_json::{Map, Value, json};

/// Our file in the CNI config folder; sorts before every other.
pub(crate) const FILE: &str = "00-multus.conflist";
/// Our plugin on the host.
pub(crate) const TYPE: &str = "multus-shim";
/// With this capability the runtime hands the pod's annotations to the plugin.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// Lists exist in CNI since this version; a primary that is older gets this one around it.
const FIRST_LISTS: &str = "0.3.1";
/// What an option may not set, since it is decided here.
const RESERVED: [&str; 10] = [
    "type",
    "name",
    "cniVersion",
    "capabilities",
    "clusterNetwork",
    "stateDir",
    "runDir",
    "formatVersion",
    "prevResult",
    "runtimeConfig",
];

/// What does not come from the primary's config.
pub(crate) struct Settings {
    /// Version of our config, if not the primary's.
    pub(crate) cni_version: Option<String>,
    /// Options of the plugin, copied into its entry.
    pub(crate) options: Map<String, Value>,
    /// As the host names it.
    pub(crate) state_dir: PathBuf,
    /// As the host names it.
    pub(crate) run_dir: PathBuf,
}

/// Reads the plugin options; no file means none.
pub(crate) fn read_options(path: &Path) -> Result<Map<String, Value>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Map::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot read the options {}", path.display())),
    };
    let options: Map<String, Value> = serde_json::from_slice(&text)
        .with_context(|| format!("the options {} are not a JSON object", path.display()))?;
    if let Some(key) = RESERVED.iter().find(|k| options.contains_key(**k)) {
        bail!("the options {} set {key:?}, which is decided by this program: remove it", path.display());
    }
    Ok(options)
}

/// Our config for this primary. Plugins that others added to the config that is in place are kept where they are.
pub(crate) fn build(
    conf: &HostDir,
    primary: &Primary,
    settings: &Settings,
    existing: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut capabilities = Map::new();
    capabilities.insert(ANNOTATIONS.into(), true.into());
    for name in &primary.capabilities {
        capabilities.insert(name.clone(), true.into());
    }
    let mut entry = Map::new();
    entry.insert("type".into(), TYPE.into());
    entry.insert("capabilities".into(), capabilities.into());
    entry.insert("clusterNetwork".into(), json!(conf.host(&primary.file)));
    entry.insert("stateDir".into(), json!(settings.state_dir));
    entry.insert("runDir".into(), json!(settings.run_dir));
    entry.insert("formatVersion".into(), 1.into());
    entry.extend(settings.options.clone());

    let foreign = existing.map(plugins).unwrap_or_default();
    let ours = foreign.iter().position(is_ours);
    let mut list: Vec<Value> = Vec::new();
    match ours {
        Some(at) => {
            list.extend(foreign.iter().cloned());
            list[at] = entry.into();
        }
        None => list.push(entry.into()),
    }

    let mut top = Map::new();
    top.insert("cniVersion".into(), version(primary, settings).into());
    // The primary's name: runtimes key their cached results by it, so pods that run keep theirs.
    top.insert("name".into(), primary.name.clone().into());
    // Else the runtime would append the primary's sub-directory chain, which the plugin runs for the primary.
    top.insert("loadOnlyInlinedPlugins".into(), true.into());
    top.insert("plugins".into(), list.into());
    top
}

fn version(primary: &Primary, settings: &Settings) -> String {
    if let Some(version) = &settings.cni_version {
        return version.clone();
    }
    match primary.cni_version.as_deref() {
        None | Some("0.1.0" | "0.2.0") => FIRST_LISTS.into(),
        Some(version) => version.into(),
    }
}

/// The plugins of a config.
pub(crate) fn plugins(config: &Map<String, Value>) -> Vec<Value> {
    config.get("plugins").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Whether a plugin entry is ours.
pub(crate) fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(TYPE)
}
