//! The primary network, read at each call from its own file, else from the snapshot of its last good state.

use std::path::{Path, PathBuf};

use cni::config::NetworkConfig;
use serde::Deserialize;

use cni::error::one_line;

use crate::{
    error::{Fault, Result},
    netconf::NetConf,
    resolve::check_types,
};

/// `primary/file.json`, written by `config`.
#[derive(Deserialize)]
struct Snapshot {
    path: PathBuf,
    config: String,
}

/// Loads the primary's config.
///
/// # Errors
/// `PRIMARY_MISSING` (try again) when its file is not there, `PRIMARY_INVALID` when it is broken and no
/// snapshot of that file stands in.
pub fn load(conf: &NetConf) -> Result<NetworkConfig> {
    let path = &conf.cluster_network;
    if let Some(indicator) = conf.readiness_indicator.as_ref().filter(|path| !path.exists()) {
        return Err(Fault::retry(
            "PRIMARY_NOT_READY",
            format!(
                "awaiting the readiness indicator {}, which the primary network's own pod writes",
                indicator.display()
            ),
        ));
    }
    if !path.exists() {
        return Err(Fault::retry(
            "PRIMARY_MISSING",
            format!(
                "awaiting the primary network's config {}; is the primary network's pod running on this node?",
                path.display()
            ),
        ));
    }
    let config = NetworkConfig::load_file(path).or_else(|broken| {
        log::warn!("{} is broken ({}); using its last good state", path.display(), broken.msg);
        from_snapshot(&conf.state_dir.join("primary/file.json"), path).map_err(|why| {
            Fault::retry(
                "PRIMARY_INVALID",
                format!(
                    "the primary network's config {} is broken ({}) and its snapshot cannot stand in ({why})",
                    path.display(),
                    one_line(&broken.msg, 90)
                ),
            )
        })
    })?;
    check_types(conf, &config, &config.name)?;
    Ok(config)
}

fn from_snapshot(file: &Path, path: &Path) -> std::result::Result<NetworkConfig, String> {
    let text = std::fs::read_to_string(file).map_err(|error| one_line(&error.to_string(), 60))?;
    let snapshot: Snapshot = serde_json::from_str(&text).map_err(|error| one_line(&error.to_string(), 60))?;
    if snapshot.path != path {
        return Err("it is of another file".to_owned());
    }
    NetworkConfig::parse(&snapshot.config, None).map_err(|error| one_line(&error.msg, 60))
}
