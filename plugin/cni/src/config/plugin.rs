//! What is read and checked of one plugin's configuration, in every spelling that a Go plugin would read.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::invalid;
use crate::{
    error::{Error, one_line},
    raw::{Object, same_key},
};

/// Longest plugin name.
const MAX_TYPE: usize = 128;

/// The `type` of a plugin: the file name of its binary. Empty where there is none.
pub fn plugin_type(plugin: &Object) -> Result<String, Error> {
    Ok(plugin.get_known("type")?.unwrap_or_default())
}

/// What of a checked plugin is run: `type`, and `ipam.type` where there is one.
pub(super) fn binaries(plugin: &Object) -> Vec<String> {
    let ipam = plugin.iter().filter(|(key, _)| same_key(key, "ipam"));
    let ipam = ipam.filter_map(|(_, value)| serde_json::from_str::<Object>(value.get()).ok());
    let kinds = ipam.flat_map(|ipam| types(&ipam)).chain(types(plugin));
    kinds.filter(|kind| !kind.is_empty()).collect()
}

/// The value of `type` in each spelling.
fn types(object: &Object) -> Vec<String> {
    let spellings = object.iter().filter(|(key, _)| same_key(key, "type"));
    spellings.filter_map(|(_, value)| serde_json::from_str(value.get()).ok()).collect()
}

/// Capabilities that one plugin declares as true; a value of another shape declares none.
pub(crate) fn declared_capabilities(plugin: &Object) -> Vec<String> {
    let values = plugin.iter().filter(|(key, _)| same_key(key, "capabilities")).map(|(_, value)| value);
    let declared = values.filter_map(|value| serde_json::from_str::<Object>(value.get()).ok());
    let mut on: Vec<String> = Vec::new();
    for capabilities in declared {
        on.extend(capabilities.iter().filter(|(_, on)| on.get() == "true").map(|(name, _)| name.to_owned()));
    }
    on
}

/// What a plugin must have to be run: a bare name as `type` and as `ipam.type`, and no known key of a type that
/// would make a Go plugin refuse it.
pub(super) fn check(plugin: &Object) -> Result<(), Error> {
    let kind = plugin_type(plugin)?;
    if kind.is_empty() {
        return Err(invalid("\"type\" is missing: give the name of the plugin's binary"));
    }
    check_type("type", &kind)?;
    plugin.get_known::<String>("name")?;
    plugin.get_known::<String>("cniVersion")?;
    for (key, value) in plugin.iter() {
        if same_key(key, "capabilities") {
            known::<BTreeMap<String, Option<bool>>>("capabilities", value)?;
        } else if same_key(key, "dns") {
            check_dns(value)?;
        } else if same_key(key, "ipam") {
            check_ipam(value)?;
        }
    }
    Ok(())
}

fn check_ipam(value: &RawValue) -> Result<(), Error> {
    let ipam: Object = known("ipam", value)?.unwrap_or_default();
    for (key, value) in ipam.iter().filter(|(key, _)| same_key(key, "type")) {
        let kind: String = known(&format!("ipam.{key}"), value)?.unwrap_or_default();
        // `"ipam": {"type": ""}` is how users write "no IPAM".
        if !kind.is_empty() {
            check_type("ipam.type", &kind)?;
        }
    }
    Ok(())
}

fn check_dns(value: &RawValue) -> Result<(), Error> {
    let dns: Object = known("dns", value)?.unwrap_or_default();
    dns.get_known::<String>("domain")?;
    ["nameservers", "search", "options"]
        .iter()
        .try_for_each(|key| dns.get_known::<Vec<Option<String>>>(key).map(drop))
}

/// Decodes the value of a known key; `null` is none.
fn known<T: DeserializeOwned>(key: &str, value: &RawValue) -> Result<Option<T>, Error> {
    Option::deserialize(value)
        .map_err(|e| invalid(format!("key {:?} has a wrong value: {e}", one_line(key, 40))))
}

fn check_type(key: &str, kind: &str) -> Result<(), Error> {
    if valid_plugin_type(kind) {
        return Ok(());
    }
    let shown = one_line(kind, 60);
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
