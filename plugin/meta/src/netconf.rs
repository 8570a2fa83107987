//! Our own plugin entry: every key of Go Multus and ours, read once, validated, with defaults.
//!
//! Known keys count in every spelling that a Go program would accept; unknown keys are ignored.

use std::{path::PathBuf, time::Duration};

use cni::{
    config::valid_network_name,
    error::one_line,
    raw::{self, same_key},
};
use serde::de::DeserializeOwned;

use crate::{
    error::{Fault, Result},
    logging,
    routes::{self, Cidr},
};

/// Newest layout of our plugin entry that this build understands.
pub const FORMAT_VERSION: u32 = 1;

/// The keys that are read, as they are documented.
const KEYS: [&str; 31] = [
    // Go Multus.
    "clusterNetwork",
    "defaultNetworks",
    "delegates",
    "confDir",
    "binDir",
    "kubeconfig",
    "multusNamespace",
    "systemNamespaces",
    "namespaceIsolation",
    "globalNamespaces",
    "readinessindicatorfile",
    "auxiliaryCNIChainName",
    "retryDeleteOnError",
    "cniDir",
    "logFile",
    "logLevel",
    "logToStderr",
    "logOptions",
    // Ours.
    "formatVersion",
    "stateDir",
    "runDir",
    "allowedPlugins",
    "strict",
    "clusterCIDRs",
    "statusPolicy",
    "daemonWaitSeconds",
    "readinessWaitSeconds",
    "addDeadlineSeconds",
    "delDeadlineSeconds",
    "kubeletDir",
    "deviceInfoDir",
];

/// Most seconds that a key may give: a day.
const LONGEST_WAIT: u64 = 24 * 60 * 60;

/// Where a pod's primary network comes from.
#[derive(Debug, Clone)]
pub enum PrimarySource {
    /// `clusterNetwork`: a file, a folder, the name of a definition, or the name of a network in [`NetConf::conf_dir`].
    Named(String),
    /// The first of `delegates`.
    Inline(raw::Object),
}

/// What becomes of a pod whose status cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusPolicy {
    /// Its ADD fails and is undone.
    Required,
    /// It starts; the daemon publishes later.
    BestEffort,
}

/// What an operator decided for this node.
#[derive(Debug, Clone)]
pub struct NetConf {
    /// The network that every pod gets first.
    pub primary: PrimarySource,
    /// The rest of `delegates`: networks for every pod, whole.
    pub inline_networks: Vec<raw::Object>,
    /// Networks for every pod outside of [`NetConf::system_namespaces`]; values as for `clusterNetwork`.
    pub default_networks: Vec<String>,
    /// Folder with networks by name, for definitions without a config.
    pub conf_dir: PathBuf,
    /// Folder of plugins that is searched before `CNI_PATH`.
    pub bin_dir: Option<PathBuf>,
    /// How the thin plugin reaches the API.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the definitions that `clusterNetwork`, `defaultNetworks` and bare default networks name.
    pub multus_namespace: String,
    /// Pods of these namespaces get no default networks.
    pub system_namespaces: Vec<String>,
    /// A chain of its own beside the primary: the files `<folder of the primary>/<this name>/*.conf`.
    pub auxiliary_chain: Option<String>,
    /// Survives a reboot: journal and snapshots.
    pub state_dir: PathBuf,
    /// Does not: locks, plain records, the daemon's socket.
    pub run_dir: PathBuf,
    /// Delegate records that Go Multus left.
    pub go_cache_dir: PathBuf,
    /// The kubelet's folder, where the thin plugin asks which devices a pod was given.
    pub kubelet_dir: PathBuf,
    /// Device files of the Device Information Specification.
    pub device_info_dir: PathBuf,
    /// Pods may use networks of their own namespace and of `global_namespaces` only.
    pub namespace_isolation: bool,
    /// Namespaces whose networks any pod may use.
    pub global_namespaces: Vec<String>,
    /// Delegates that may run; empty means all.
    pub allowed_plugins: Vec<String>,
    /// Refuse what the specifications forbid and Go Multus lets pass.
    pub strict: bool,
    /// Destinations that stay reachable through the primary when another network has the default route.
    pub cluster_cidrs: Vec<Cidr>,
    /// What becomes of a pod whose status cannot be published.
    pub status_policy: StatusPolicy,
    /// How long an ADD waits for the daemon's socket.
    pub daemon_wait: Duration,
    /// How long an ADD waits for the readiness indicator.
    pub readiness_wait: Duration,
    /// How long one ADD may take altogether.
    pub add_deadline: Duration,
    /// How long one DEL may take altogether.
    pub del_deadline: Duration,
    /// Stays absent until the primary network serves this node.
    pub readiness_indicator: Option<PathBuf>,
}

impl NetConf {
    /// Reads our entry from what the runtime gave on stdin.
    ///
    /// # Errors
    /// `NETCONF_INVALID` when a key has the wrong type or the primary is not named; `NETCONF_TOO_NEW`.
    pub fn parse(config: &raw::Object) -> Result<Self> {
        let entry = Entry::of(config);
        if entry.or("formatVersion", FORMAT_VERSION)? > FORMAT_VERSION {
            return Err(Fault::invalid(
                "NETCONF_TOO_NEW",
                format!(
                    "00-multus.conflist is newer than this multus-shim, which knows format {FORMAT_VERSION}; install the matching version"
                ),
            ));
        }
        entry.known_but_idle();
        let (primary, inline_networks) = entry.primary()?;
        // Go Multus reads default networks beside a clusterNetwork only.
        let default_networks = match &primary {
            PrimarySource::Named(_) => entry.or("defaultNetworks", Vec::new())?,
            PrimarySource::Inline(_) => Vec::new(),
        };
        let global: String = entry.or("globalNamespaces", String::new())?;
        let mut global_namespaces: Vec<String> =
            global.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if global_namespaces.is_empty() {
            global_namespaces.push("default".to_owned());
        }
        let path = |key, default: &str| -> Result<PathBuf> {
            Ok(entry.path(key)?.unwrap_or_else(|| PathBuf::from(default)))
        };
        let seconds = |key, default| match entry.or(key, default)? {
            seconds if seconds <= LONGEST_WAIT => Ok(Duration::from_secs(seconds)),
            seconds => Err(bad(&format!("key {key:?} is {seconds}, {LONGEST_WAIT} is the most"))),
        };
        Ok(Self {
            primary,
            inline_networks,
            default_networks,
            conf_dir: path("confDir", "/etc/cni/multus/net.d")?,
            bin_dir: entry.path("binDir")?,
            kubeconfig: entry.path("kubeconfig")?,
            multus_namespace: entry.text("multusNamespace")?.unwrap_or_else(|| "kube-system".to_owned()),
            system_namespaces: entry.or("systemNamespaces", vec!["kube-system".to_owned()])?,
            auxiliary_chain: entry.network_name("auxiliaryCNIChainName")?,
            state_dir: path("stateDir", "/var/lib/cni/multus-rs")?,
            run_dir: path("runDir", "/run/multus-rs")?,
            go_cache_dir: path("cniDir", "/var/lib/cni/multus")?,
            kubelet_dir: path("kubeletDir", "/var/lib/kubelet")?,
            device_info_dir: path("deviceInfoDir", "/var/run/k8s.cni.cncf.io/devinfo")?,
            namespace_isolation: entry.or("namespaceIsolation", false)?,
            global_namespaces,
            allowed_plugins: entry.or("allowedPlugins", Vec::new())?,
            strict: entry.or("strict", false)?,
            cluster_cidrs: routes::destinations("clusterCIDRs", &entry.or("clusterCIDRs", Vec::new())?)?,
            status_policy: entry.status_policy()?,
            daemon_wait: seconds("daemonWaitSeconds", 10)?,
            readiness_wait: seconds("readinessWaitSeconds", 10)?,
            // kubelet gives a sandbox four minutes to start and two to stop.
            add_deadline: seconds("addDeadlineSeconds", 220)?,
            del_deadline: seconds("delDeadlineSeconds", 110)?,
            readiness_indicator: entry.path("readinessindicatorfile")?,
        })
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("daemon/multus.sock")
    }
}

/// The known keys of our entry, in their documented spelling.
pub(crate) struct Entry(raw::Object);

impl Entry {
    pub(crate) fn of(config: &raw::Object) -> Self {
        let mut known = raw::Object::default();
        for (key, value) in config.iter() {
            // `null` leaves a key as it is.
            if let Some(name) = KEYS.iter().find(|name| same_key(key, name)).filter(|_| value.get() != "null")
            {
                known.set_raw(name, value.to_owned());
            }
        }
        Self(known)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.0.get_as::<Option<T>>(key).map(Option::flatten).map_err(|error| bad(&error.msg))
    }

    fn or<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T> {
        Ok(self.get(key)?.unwrap_or(default))
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        Ok(self.get::<String>(key)?.filter(|text| !text.is_empty()))
    }

    /// A name that becomes part of a path.
    fn network_name(&self, key: &str) -> Result<Option<String>> {
        match self.text(key)? {
            Some(name) if !valid_network_name(&name) => {
                Err(bad(&format!("key {key:?}: {:?} is no network name", one_line(&name, 60))))
            }
            name => Ok(name),
        }
    }

    pub(crate) fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        let path = self.text(key)?.map(PathBuf::from);
        match path {
            Some(path) if path.is_relative() => {
                Err(bad(&format!("key {key:?} must be an absolute path, not {:?}", path.display())))
            }
            path => Ok(path),
        }
    }

    fn status_policy(&self) -> Result<StatusPolicy> {
        match self.text("statusPolicy")?.as_deref() {
            None | Some("required") => Ok(StatusPolicy::Required),
            Some("bestEffort") => Ok(StatusPolicy::BestEffort),
            Some(other) => {
                Err(bad(&format!("key \"statusPolicy\" is {other:?}, expected required or bestEffort")))
            }
        }
    }

    /// `clusterNetwork`, else the first delegate; with the delegates that follow it.
    fn primary(&self) -> Result<(PrimarySource, Vec<raw::Object>)> {
        if let Some(name) = self.text("clusterNetwork")? {
            return Ok((PrimarySource::Named(name), Vec::new()));
        }
        let mut delegates: Vec<raw::Object> = self.or("delegates", Vec::new())?;
        if delegates.is_empty() {
            return Err(bad("it names no primary network: set clusterNetwork or delegates"));
        }
        let rest = delegates.split_off(1);
        let first = delegates.into_iter().next().unwrap_or_default();
        Ok((PrimarySource::Inline(first), rest))
    }

    /// Keys of Go Multus that change nothing here are accepted and said.
    fn known_but_idle(&self) {
        if self.0.get("retryDeleteOnError").is_some() {
            log::info!("retryDeleteOnError changes nothing: a DEL that failed is always tried again");
        }
        logging::say_idle_keys(&self.0);
    }
}

fn bad(why: &str) -> Fault {
    Fault::invalid(
        "NETCONF_INVALID",
        format!("our entry of the CNI config: {why}; correct the chart's values or the file itself"),
    )
}
