//! The text of `00-multus.conflist`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cni::config::{NetworkConfig, plugin_type};
use cni::raw::{Object, same_key};
use hostfs::{HostDir, Primary};
use serde::Serialize;
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
const RESERVED: [&str; 9] = [
    "type",
    "name",
    "cniVersion",
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
    /// Options of the plugin, copied into its entry as they were written.
    pub(crate) options: Object,
    /// Capabilities beyond the primary's, or less of them.
    pub(crate) capabilities: BTreeMap<String, bool>,
    /// As the host names it.
    pub(crate) state_dir: PathBuf,
    /// As the host names it.
    pub(crate) run_dir: PathBuf,
}

/// Reads the plugin options and the capabilities among them; no file means none.
pub(crate) fn read_options(path: &Path) -> Result<(Object, BTreeMap<String, bool>)> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => "{}".to_owned(),
        Err(e) => return Err(e).with_context(|| format!("cannot read the options {}", path.display())),
    };
    let wrong = || format!("the options {}", path.display());
    let mut options = Object::parse(&text).map_err(|e| anyhow::anyhow!(e.msg)).with_context(wrong)?;
    if let Some(key) = RESERVED.iter().find(|r| options.iter().any(|(k, _)| same_key(k, r))) {
        bail!("the options {} set {key:?}, which is decided by this program: remove it", path.display());
    }
    let capabilities =
        options.get_as("capabilities").map_err(|e| anyhow::anyhow!(e.msg)).with_context(wrong)?;
    options.remove("capabilities");
    Ok((options, capabilities.unwrap_or_default()))
}

/// Our config, or one that somebody else chained a plugin to.
#[derive(Serialize)]
pub(crate) struct Conflist {
    #[serde(flatten)]
    top: Map<String, Value>,
    plugins: Vec<Object>,
}

impl Conflist {
    /// Our config for this primary. Plugins that others added to the config in place are kept where they are, and
    /// as they were written.
    pub(crate) fn build(
        conf: &HostDir,
        primary: &Primary,
        settings: &Settings,
        existing: Option<&Object>,
    ) -> Result<Conflist> {
        let mut plugins = existing.map(plugins).unwrap_or_default();
        let entry = entry(conf, primary, settings)?;
        match plugins.iter_mut().find(|p| is_ours(p)) {
            Some(ours) => *ours = entry,
            None => plugins = vec![entry],
        }
        let mut top = Map::new();
        top.insert("cniVersion".into(), version(primary, settings).into());
        // The primary's name: runtimes key their cached results by it, so pods that run keep theirs.
        top.insert("name".into(), primary.name.clone().into());
        // Else the runtime would append the primary's sub-directory chain, which the plugin runs for the primary.
        top.insert("loadOnlyInlinedPlugins".into(), true.into());
        Ok(Conflist { top, plugins })
    }

    /// The file's text. It has been read back: what a runtime could not load is never published.
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("cannot write our config as JSON")?;
        text.push('\n');
        match NetworkConfig::parse(&text, None) {
            Ok(_) => Ok(text),
            Err(e) => bail!("our config would not be valid and is not written: {}", e.msg),
        }
    }

    /// Whether somebody else has a plugin in it.
    pub(crate) fn is_shared(&self) -> bool {
        self.plugins.len() > 1
    }
}

fn entry(conf: &HostDir, primary: &Primary, settings: &Settings) -> Result<Object> {
    let mut capabilities: BTreeMap<&str, bool> =
        primary.capabilities.iter().map(|name| (name.as_str(), true)).collect();
    capabilities.extend(settings.capabilities.iter().map(|(name, on)| (name.as_str(), *on)));
    capabilities.retain(|_, on| *on);
    capabilities.insert(ANNOTATIONS, true);
    let mut entry = Object::default();
    let mut set = |key: &str, value: Value| {
        entry.set(key, &value).map_err(|e| anyhow::anyhow!("our plugin entry: {}", e.msg))
    };
    set("type", TYPE.into())?;
    set("capabilities", json!(capabilities))?;
    set("clusterNetwork", json!(conf.host(&primary.file)))?;
    set("stateDir", json!(settings.state_dir))?;
    set("runDir", json!(settings.run_dir))?;
    set("formatVersion", 1.into())?;
    for (key, value) in settings.options.iter() {
        entry.set_raw(key, value.to_owned());
    }
    Ok(entry)
}

fn version(primary: &Primary, settings: &Settings) -> String {
    if let Some(version) = &settings.cni_version {
        return version.clone();
    }
    match primary.cni_version.as_str() {
        "0.1.0" | "0.2.0" | "" => FIRST_LISTS.into(),
        version => version.into(),
    }
}

/// The plugins of a config; none if it is no list of objects.
pub(crate) fn plugins(config: &Object) -> Vec<Object> {
    config.get_as("plugins").ok().flatten().unwrap_or_default()
}

/// Whether a plugin entry is ours.
pub(crate) fn is_ours(plugin: &Object) -> bool {
    plugin_type(plugin).is_ok_and(|t| t == TYPE)
}

/// Whether two texts say the same: others write with other spaces and another order.
pub(crate) fn same(a: &str, b: &str) -> bool {
    let value = |text| serde_json::from_str::<Value>(text).ok();
    value(a).is_some_and(|a| Some(a) == value(b))
}
