//! Our own plugin entry in `00-multus.conflist`: parsed once, validated, with defaults.

use std::{path::PathBuf, time::Duration};

use cni::raw;
use serde::Deserialize;

use crate::error::{Fault, Result};

/// Newest layout of our plugin entry that this build understands.
pub const FORMAT_VERSION: u32 = 1;

/// What an operator decided for this node.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// The primary network's config file on this host.
    pub cluster_network: PathBuf,
    /// Survives a reboot: journal and snapshots.
    pub state_dir: PathBuf,
    /// Does not: locks, plain records, the daemon's socket.
    pub run_dir: PathBuf,
    /// Pods may use networks of their own namespace and of `global_namespaces` only.
    pub namespace_isolation: bool,
    /// Namespaces whose networks any pod may use.
    pub global_namespaces: Vec<String>,
    /// Delegates that may run; empty means all.
    pub allowed_plugins: Vec<String>,
    /// How long an ADD waits for the daemon's socket.
    pub daemon_wait: Duration,
    /// How long one ADD may take altogether.
    pub add_deadline: Duration,
    /// How long one DEL may take altogether.
    pub del_deadline: Duration,
    /// Stays absent until the primary network serves this node.
    pub readiness_indicator: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    format_version: Option<u32>,
    cluster_network: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    #[serde(default)]
    namespace_isolation: bool,
    #[serde(default)]
    global_namespaces: String,
    #[serde(default)]
    allowed_plugins: Vec<String>,
    daemon_wait_seconds: Option<u64>,
    add_deadline_seconds: Option<u64>,
    del_deadline_seconds: Option<u64>,
    readinessindicatorfile: Option<PathBuf>,
}

impl NetConf {
    /// Reads our entry from what the runtime gave on stdin.
    ///
    /// # Errors
    /// `NETCONF_INVALID` when a key has the wrong type or the primary is not named.
    pub fn parse(config: &raw::Object) -> Result<Self> {
        let entry: Entry = serde_json::from_str(&config.to_json()).map_err(|error| {
            Fault::invalid(
                "NETCONF_INVALID",
                format!("our entry in 00-multus.conflist: {error}; let the config container rewrite it"),
            )
        })?;
        if entry.format_version.unwrap_or(FORMAT_VERSION) > FORMAT_VERSION {
            return Err(Fault::invalid(
                "NETCONF_TOO_NEW",
                format!(
                    "00-multus.conflist is newer than this multus-shim, which knows format {FORMAT_VERSION}; install the matching version"
                ),
            ));
        }
        let cluster_network =
            entry.cluster_network.filter(|path| !path.as_os_str().is_empty()).ok_or_else(|| {
                Fault::invalid(
                    "NETCONF_INVALID",
                    "00-multus.conflist names no primary network: set clusterNetwork",
                )
            })?;
        let global = entry.global_namespaces.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut global_namespaces: Vec<String> = global.map(str::to_owned).collect();
        if global_namespaces.is_empty() {
            global_namespaces.push("default".to_owned());
        }
        let seconds = |value: Option<u64>, default| Duration::from_secs(value.unwrap_or(default));
        Ok(Self {
            cluster_network,
            state_dir: entry.state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/cni/multus-rs")),
            run_dir: entry.run_dir.unwrap_or_else(|| PathBuf::from("/run/multus-rs")),
            namespace_isolation: entry.namespace_isolation,
            global_namespaces,
            allowed_plugins: entry.allowed_plugins,
            daemon_wait: seconds(entry.daemon_wait_seconds, 10),
            // kubelet gives a sandbox four minutes to start and two to stop.
            add_deadline: seconds(entry.add_deadline_seconds, 220),
            del_deadline: seconds(entry.del_deadline_seconds, 110),
            readiness_indicator: entry.readinessindicatorfile,
        })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("daemon/multus.sock")
    }
}
