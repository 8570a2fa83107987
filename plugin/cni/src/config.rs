//! Network configurations: a single plugin or a list, from text or from a file.

use std::{collections::BTreeSet, fs, io::Read, path::Path, path::PathBuf};

use serde_json::value::RawValue;

use crate::{
    error::{Error, code, one_line},
    raw::{self, Object, same_key},
    version,
};

/// Most plugins that one network may have.
pub const MAX_PLUGINS: usize = 64;
/// Longest network name: what a Kubernetes object name may have.
const MAX_NAME: usize = 253;
/// Longest plugin name.
const MAX_TYPE: usize = 128;
/// Keys that only a runtime may set.
const RUNTIME_KEYS: [&str; 2] = ["prevResult", "runtimeConfig"];

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
    /// Reads a single plugin or a list. An absent or empty name becomes `default_name`.
    pub fn parse(text: &str, default_name: Option<&str>) -> Result<Self, Error> {
        let object = Object::parse(text)?;
        let is_list =
            object.get("plugins").is_some_and(|v| v.get() != "null") || object.get("type").is_none();
        let mut config = if is_list { Self::read_list(object)? } else { Self::read_single(object)? };
        config.finish_name(default_name)?;
        config.check_plugins()?;
        Ok(config)
    }

    /// Reads a `.conf` or `.conflist`. To a list belong the files `<its folder>/<its name>/*.conf` too, unless
    /// it says `loadOnlyInlinedPlugins`.
    pub fn load_file(path: &Path) -> Result<Self, Error> {
        let located = |e: Error| Error { msg: format!("{}: {}", path.display(), e.msg), ..e };
        let object = Object::parse(&read_capped(path)?).map_err(located)?;
        let has_plugins = object.get("plugins").is_some_and(|v| v.get() != "null");
        let is_list = has_plugins || path.extension().is_some_and(|e| e == "conflist");
        if !is_list {
            let mut config = Self::read_single(object).map_err(located)?;
            config.finish_name(None).map_err(located)?;
            config.check_plugins().map_err(located)?;
            return Ok(config);
        }
        let inline_only = read_bool(&object, "loadOnlyInlinedPlugins").map_err(located)?;
        let mut config = Self::read_list(object).map_err(located)?;
        config.finish_name(None).map_err(located)?;
        if !inline_only {
            let folder = path.parent().unwrap_or(Path::new("")).join(&config.name);
            for file in files_with(&folder, &["conf"])? {
                let plugin = Object::parse(&read_capped(&file)?);
                let plugin =
                    plugin.map_err(|e| Error { msg: format!("{}: {}", file.display(), e.msg), ..e })?;
                config.plugins.push(plugin);
            }
        }
        config.check_plugins().map_err(located)?;
        Ok(config)
    }

    fn read_single(object: Object) -> Result<Self, Error> {
        let cni_version = chosen_version(&object)?;
        let name = object.get_as("name")?.unwrap_or_default();
        Ok(Self { cni_version, name, plugins: vec![object], ..Self::default() })
    }

    fn read_list(mut object: Object) -> Result<Self, Error> {
        let cni_version = chosen_version(&object)?;
        let name = object.get_as("name")?.unwrap_or_default();
        let disable_check = read_bool(&object, "disableCheck")?;
        let disable_gc = read_bool(&object, "disableGC")?;
        let plugins: Vec<Box<RawValue>> = object.get_as("plugins")?.unwrap_or_default();
        if plugins.len() > MAX_PLUGINS {
            return Err(invalid(format!("{} plugins, more than the {MAX_PLUGINS} allowed", plugins.len())));
        }
        let mut parsed = Vec::with_capacity(plugins.len());
        for (index, plugin) in plugins.iter().enumerate() {
            let plugin = serde_json::from_str(plugin.get())
                .map_err(|e| invalid(format!("plugin {index} of the list is no JSON object: {e}")))?;
            parsed.push(plugin);
        }
        for key in ["cniVersion", "cniVersions", "name", "disableCheck", "disableGC", "plugins"] {
            object.remove(key);
        }
        Ok(Self { cni_version, name, disable_check, disable_gc, plugins: parsed, extra: object })
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
            return Err(invalid("no plugin: give \"type\", or \"plugins\" with at least one element"));
        }
        if self.plugins.len() > MAX_PLUGINS {
            return Err(invalid(format!("more than the {MAX_PLUGINS} plugins that are allowed")));
        }
        self.plugins.iter().enumerate().try_for_each(|(index, plugin)| {
            check_plugin(plugin).map_err(|e| Error { msg: format!("plugin {index}: {}", e.msg), ..e })
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

    /// The network as a list, with every key and value as they were read.
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

/// Capabilities that one plugin declares as true; a value of another shape declares none.
pub(crate) fn declared_capabilities(plugin: &Object) -> Vec<String> {
    let declared: Option<Object> = plugin.get_as("capabilities").unwrap_or_default();
    let declared = declared.unwrap_or_default();
    declared.iter().filter(|(_, on)| on.get() == "true").map(|(name, _)| name.to_owned()).collect()
}

/// The `type` of a plugin; empty where there is none.
pub fn plugin_type(plugin: &Object) -> Result<String, Error> {
    Ok(plugin.get_as("type")?.unwrap_or_default())
}

/// `type` and `ipam.type` must be bare names in every spelling that a Go plugin would read.
fn check_plugin(plugin: &Object) -> Result<(), Error> {
    let kind = plugin_type(plugin)?;
    check_type("type", &kind)?;
    for (key, value) in plugin.iter() {
        if same_key(key, "type") {
            check_type_value(key, value)?;
        } else if same_key(key, "ipam") && value.get().starts_with('{') {
            let ipam: Object =
                serde_json::from_str(value.get()).map_err(|e| invalid(format!("ipam: {e}")))?;
            for (key, value) in ipam.iter().filter(|(key, _)| same_key(key, "type")) {
                // `"ipam": {"type": ""}` is how users write "no IPAM".
                if !matches!(value.get(), "\"\"" | "null") {
                    check_type_value(&format!("ipam.{key}"), value)?;
                }
            }
        }
    }
    Ok(())
}

fn check_type_value(key: &str, value: &RawValue) -> Result<(), Error> {
    let kind: String = serde_json::from_str(value.get())
        .map_err(|_| invalid(format!("{} is not a string", one_line(key, 40))))?;
    check_type(key, &kind)
}

fn check_type(key: &str, kind: &str) -> Result<(), Error> {
    if valid_plugin_type(kind) {
        return Ok(());
    }
    let (key, shown) = (one_line(key, 40), one_line(kind, 60));
    Err(invalid(format!(
        "{key} {shown:?} is no bare name of a plugin: give the file name alone, without a path"
    )))
}

/// True for the bare name of a binary: nothing that a path or an option could be made of.
pub fn valid_plugin_type(kind: &str) -> bool {
    !kind.is_empty()
        && kind.len() <= MAX_TYPE
        && !kind.starts_with(['-', '.'])
        && kind.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\' | b':'))
}

/// True for a network name of the specification's alphabet.
pub fn valid_network_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The highest supported version of `cniVersion` and `cniVersions`.
fn chosen_version(object: &Object) -> Result<String, Error> {
    let single: String = object.get_as("cniVersion")?.unwrap_or_default();
    let mut offered: Vec<String> = object.get_as("cniVersions")?.unwrap_or_default();
    if offered.is_empty() && single.is_empty() {
        return Ok(version::DEFAULT.to_owned());
    }
    if !single.is_empty() {
        offered.push(single.clone());
    }
    let best = version::SUPPORTED.iter().rev().find(|v| offered.iter().any(|o| o == *v));
    match best {
        Some(best) => Ok((*best).to_owned()),
        None => version::require(&single).map(|()| single),
    }
}

/// A switch as a boolean or, as libcni allows, as the word in quotes.
fn read_bool(object: &Object, key: &str) -> Result<bool, Error> {
    let Some(value) = object.get(key) else { return Ok(false) };
    match value.get().to_ascii_lowercase().as_str() {
        "true" | "\"true\"" => Ok(true),
        "false" | "\"false\"" | "null" => Ok(false),
        _ => Err(invalid(format!("key {key:?} must be true or false"))),
    }
}

fn invalid(msg: impl Into<String>) -> Error {
    Error::new(code::INVALID_CONFIG, msg)
}

fn read_capped(path: &Path) -> Result<String, Error> {
    let failed = |e: std::io::Error| {
        Error::new(code::IO, format!("{}: the CNI configuration cannot be read: {e}", path.display()))
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
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
        Error::new(code::IO, format!("{}: the folder cannot be read: {e}", dir.display()))
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        let wanted = path.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
        if wanted && !entry.file_type().map_err(failed)?.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
