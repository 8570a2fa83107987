//! Network configurations: a single plugin or a list, from text, from a file or by name from a folder.
//!
//! Keys of a list are read exactly as spelled; keys of a plugin as Go's decoder reads them, which ignores case.
//! So does libcni.

mod files;
mod plugin;

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    error::{Error, code, one_line},
    raw::Object,
    version,
};

pub use files::{find_network, scan_dir};
pub(crate) use plugin::declared_capabilities;
pub use plugin::{plugin_type, valid_plugin_type};

/// Most plugins that one network may have.
pub const MAX_PLUGINS: usize = 64;
/// Longest network name: what a Kubernetes object name may have.
const MAX_NAME: usize = 253;
/// Keys that only a runtime may set.
const RUNTIME_KEYS: [&str; 2] = ["prevResult", "runtimeConfig"];
/// Keys of a list that are read here.
const LIST_KEYS: [&str; 7] =
    ["cniVersion", "cniVersions", "name", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "plugins"];

/// A network: its name, its version and the plugins that make it, in order.
#[derive(Debug, Clone, Default)]
pub struct NetworkConfig {
    /// The version that its plugins are called with.
    pub cni_version: String,
    /// The network's name, checked.
    pub name: String,
    /// The administrator wants no CHECK.
    pub disable_check: bool,
    /// The administrator wants no GC.
    pub disable_gc: bool,
    /// Plugins in the order of ADD, each with a checked `type`.
    pub plugins: Vec<Object>,
    /// Keys of the list that mean nothing here; kept for [`NetworkConfig::to_json`].
    pub extra: Object,
}

impl NetworkConfig {
    /// Reads a single plugin, which is what has a `type`, or a list. An absent or empty name becomes
    /// `default_name`. A list is all there is: no folder is looked at.
    ///
    /// ```
    /// let network = cni::config::NetworkConfig::parse(
    ///     r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "bridge"}, {"type": "tuning"}]}"#,
    ///     None,
    /// )?;
    /// assert_eq!(network.plugins.len(), 2);
    /// # Ok::<(), cni::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Code 6 when it is no JSON object, 1 for a version that is not supported, 7 for everything else.
    pub fn parse(text: &str, default_name: Option<&str>) -> Result<Self, Error> {
        Self::read(Object::parse(text)?, default_name)
    }

    /// Reads what [`NetworkConfig::to_json`] wrote, as [`NetworkConfig::parse`] does but for the limits of size
    /// and depth: what could be attached must be detachable, and a caller's own keys may have made it bigger.
    ///
    /// # Errors
    /// As [`NetworkConfig::parse`].
    pub fn restore(text: &str) -> Result<Self, Error> {
        Self::read(Object::parse_unbounded(text)?, None)
    }

    fn read(object: Object, default_name: Option<&str>) -> Result<Self, Error> {
        let single = is_single(&object);
        let mut config = if single { Self::read_single(object)? } else { Self::read_list(object)?.0 };
        config.finish_name(default_name)?;
        config.check_plugins()?;
        Ok(config)
    }

    fn read_single(object: Object) -> Result<Self, Error> {
        let cni_version = one_version(object.get_known("cniVersion")?.unwrap_or_default())?;
        let name = object.get_known("name")?.unwrap_or_default();
        Ok(Self { cni_version, name, plugins: vec![object], ..Self::default() })
    }

    /// The list, and whether it is complete without its folder.
    fn read_list(mut object: Object) -> Result<(Self, bool), Error> {
        let cni_version = chosen_version(&object)?;
        let name = read(&object, "name")?.unwrap_or_default();
        let disable_check = read_switch(&object, "disableCheck")?;
        let disable_gc = read_switch(&object, "disableGC")?;
        let inlined_only = read_switch(&object, "loadOnlyInlinedPlugins")?;
        let plugins: Option<Vec<Box<RawValue>>> = read(&object, "plugins")?;
        let plugins = match plugins {
            None if inlined_only => {
                return Err(invalid(
                    "\"loadOnlyInlinedPlugins\" is true and there is no \"plugins\": no plugin is left",
                ));
            }
            Some(plugins) if plugins.is_empty() => return Err(no_plugin()),
            plugins => plugins.unwrap_or_default(),
        };
        let mut parsed = Vec::with_capacity(plugins.len());
        for (index, plugin) in plugins.iter().enumerate() {
            let plugin = serde_json::from_str(plugin.get())
                .map_err(|e| invalid(format!("plugin {index} of the list is no JSON object: {e}")))?;
            parsed.push(plugin);
        }
        for key in LIST_KEYS {
            object.remove(key);
        }
        // It would make a single plugin of the list when it is read again.
        object.remove_spellings("type");
        let list = Self { cni_version, name, disable_check, disable_gc, plugins: parsed, extra: object };
        Ok((list, inlined_only))
    }

    fn finish_name(&mut self, default_name: Option<&str>) -> Result<(), Error> {
        if self.name.is_empty() {
            self.name = default_name.unwrap_or_default().to_owned();
        }
        if valid_network_name(&self.name) {
            return Ok(());
        }
        let shown = one_line(&self.name, 60);
        Err(invalid(format!(
            "network name {shown:?} is missing or invalid: use letters, digits, '.', '_' and '-', a letter or digit first"
        )))
    }

    fn check_plugins(&self) -> Result<(), Error> {
        if self.plugins.is_empty() {
            return Err(no_plugin());
        }
        if self.plugins.len() > MAX_PLUGINS {
            return Err(invalid(format!("more than the {MAX_PLUGINS} plugins that are allowed")));
        }
        self.plugins.iter().enumerate().try_for_each(|(index, plugin)| {
            plugin::check(plugin).map_err(|e| Error { msg: format!("plugin {index}: {}", e.msg), ..e })
        })
    }

    /// Drops what only a runtime may set: a user who could would forge another plugin's answer.
    pub fn strip_runtime_keys(&mut self) {
        for object in self.plugins.iter_mut().chain([&mut self.extra]) {
            for key in RUNTIME_KEYS {
                object.remove_spellings(key);
            }
        }
    }

    /// Capabilities that any plugin declares as true.
    pub fn capabilities(&self) -> BTreeSet<String> {
        self.plugins.iter().flat_map(declared_capabilities).collect()
    }

    /// Names of the binaries that it runs: `type` and `ipam.type` of each plugin.
    pub fn binaries(&self) -> BTreeSet<String> {
        self.plugins.iter().flat_map(plugin::binaries).collect()
    }

    /// The network as a list, with every key and value as they were read. [`NetworkConfig::restore`] reads it.
    pub fn to_json(&self) -> String {
        let text = |s: &str| serde_json::Value::from(s).to_string();
        let mut out = format!("{{\"cniVersion\":{},\"name\":{}", text(&self.cni_version), text(&self.name));
        for (key, on) in [("disableCheck", self.disable_check), ("disableGC", self.disable_gc)] {
            if on {
                out.push_str(&format!(",\"{key}\":true"));
            }
        }
        for (key, value) in self.extra.iter() {
            out.push_str(&format!(",{}:{}", text(key), value.get()));
        }
        let plugins: Vec<String> = self.plugins.iter().map(Object::to_json).collect();
        out.push_str(&format!(",\"plugins\":[{}]}}", plugins.join(",")));
        out
    }
}

/// A `type` makes it a single plugin, whatever else is there.
fn is_single(object: &Object) -> bool {
    object.get_known::<Box<RawValue>>("type").map_or(true, |kind| kind.is_some())
}

/// True for a network name of the specification's alphabet.
pub fn valid_network_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

fn one_version(version: String) -> Result<String, Error> {
    if version.is_empty() {
        return Ok(version::DEFAULT.to_owned());
    }
    version::require(&version).map(|()| version)
}

/// The highest supported version of a list's `cniVersion` and `cniVersions`.
fn chosen_version(list: &Object) -> Result<String, Error> {
    let single: String = read(list, "cniVersion")?.unwrap_or_default();
    let Some(mut offered) = read::<Vec<String>>(list, "cniVersions")? else { return one_version(single) };
    if !single.is_empty() {
        offered.push(single);
    }
    if let Some(bad) = offered.iter().find(|version| !version::is_well_formed(version)) {
        return Err(invalid(format!("{:?} in \"cniVersions\" is no version", one_line(bad, 40))));
    }
    let best = version::SUPPORTED.iter().rev().find(|known| offered.iter().any(|o| o == *known));
    match best {
        Some(best) => Ok((*best).to_owned()),
        None if offered.is_empty() => Ok(version::DEFAULT.to_owned()),
        None => version::require(&offered.join(", ")).map(|()| String::new()),
    }
}

/// A key of a list. Unlike in a plugin, `null` is a wrong value.
fn read<T: DeserializeOwned>(list: &Object, key: &str) -> Result<Option<T>, Error> {
    let value = list.get(key).map(|value| serde_json::from_str(value.get()));
    value.transpose().map_err(|e| invalid(format!("key {key:?} has a wrong value: {e}")))
}

/// A switch as a boolean or, as libcni allows, as the word in quotes.
fn read_switch(list: &Object, key: &str) -> Result<bool, Error> {
    let Some(value) = read::<serde_json::Value>(list, key)? else { return Ok(false) };
    match (value.as_bool(), value.as_str()) {
        (Some(on), _) => Ok(on),
        (_, Some(word)) if word.eq_ignore_ascii_case("true") => Ok(true),
        (_, Some(word)) if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(invalid(format!("key {key:?} must be true or false"))),
    }
}

fn no_plugin() -> Error {
    invalid("no plugin: give \"type\", or \"plugins\" with at least one element")
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(code::INVALID_CONFIG, msg)
}
