//! Where networks come from: a file, a folder, a definition of the cluster, a network known by name on this host.

use std::path::{Path, PathBuf};

use cni::{
    config::{NetworkConfig, find_network},
    error::one_line,
};

use crate::{
    cluster::{Cluster, Network, NetworkRef, PodRef, ResolveRequest},
    error::{Fault, Result},
    netconf::NetConf,
    resolve::check_types,
};

/// A network that was found, ready to be attached.
#[derive(Debug, Clone)]
pub struct Source {
    /// `NAMESPACE/NAME` of a definition, else the network's own name.
    pub network: String,
    /// Its config, checked.
    pub config: NetworkConfig,
    /// The definition it came from.
    pub definition: Option<Network>,
}

/// Looks up definitions for one sandbox.
pub struct Lookup<'a> {
    /// The cluster that is asked.
    pub cluster: &'a dyn Cluster,
    /// On whose behalf.
    pub pod: PodRef,
    /// `CNI_CONTAINERID`.
    pub sandbox: &'a str,
}

impl Lookup<'_> {
    /// One definition; `None` when the cluster says that there is none.
    ///
    /// # Errors
    /// When the cluster cannot be asked, or answers with something else (`DAEMON_MISMATCH`).
    pub fn definition(&self, network: &NetworkRef, at_once: bool) -> Result<Option<Network>> {
        let request = ResolveRequest {
            pod: self.pod.clone(),
            sandbox: self.sandbox.to_owned(),
            selections: vec![network.clone()],
            at_once,
            ..ResolveRequest::default()
        };
        match self.cluster.resolve(&request) {
            Ok(answer) => match <[Network; 1]>::try_from(answer.networks) {
                Ok([found]) if found.is(network) => Ok(Some(found)),
                _ => Err(mismatch()),
            },
            // Without the kind there is no such definition either.
            Err(error) if matches!(error.reason.as_str(), "NAD_NOT_FOUND" | "CRD_MISSING") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The daemon answered with something that nobody asked for.
pub(crate) fn mismatch() -> Fault {
    Fault::retry(
        "DAEMON_MISMATCH",
        "the multus daemon answered with other networks than the pod asks for; nothing was attached",
    )
}

/// A network of every pod, by a value of `defaultNetworks`: a path, or the name of a definition in
/// `multusNamespace`, else of a network in `confDir`.
///
/// # Errors
/// `DEFAULT_NETWORK_MISSING` (try again) names the value; `NAD_INVALID` and the like when it is broken.
pub fn by_value(conf: &NetConf, value: &str, lookup: &Lookup<'_>) -> Result<Source> {
    let missing = |why: &str| {
        Fault::retry(
            "DEFAULT_NETWORK_MISSING",
            format!("defaultNetworks: {:?} cannot be used: {why}", one_line(value, 80)),
        )
    };
    if let Some(path) = as_path(value) {
        let file = file_of(Path::new(path)).map_err(|why| missing(&why))?;
        let config = NetworkConfig::load_file(&file).map_err(|error| missing(&one_line(&error.msg, 160)))?;
        return of_config(conf, config);
    }
    let wanted = NetworkRef { namespace: conf.multus_namespace.clone(), name: value.to_owned() };
    if let Some(definition) = lookup.definition(&wanted, false)? {
        return of_definition(conf, definition);
    }
    let config = find_network(&conf.conf_dir, value).map_err(|error| {
        missing(&format!(
            "there is no definition {}/{value}, and {}",
            conf.multus_namespace,
            one_line(&error.msg, 160)
        ))
    })?;
    of_config(conf, config)
}

/// A value with a slash is a path.
pub(crate) fn as_path(value: &str) -> Option<&str> {
    value.contains('/').then_some(value)
}

/// The file that a path means: itself, or the first config of a folder.
pub(crate) fn file_of(path: &Path) -> std::result::Result<PathBuf, String> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let files = cni::config::scan_dir(path).map_err(|error| one_line(&error.msg, 160))?;
    files.into_iter().next().ok_or_else(|| format!("the folder {} holds no CNI config", path.display()))
}

/// A network of this host's own files.
///
/// # Errors
/// `PLUGIN_REFUSED`.
pub(crate) fn of_config(conf: &NetConf, config: NetworkConfig) -> Result<Source> {
    check_types(conf, &config, &config.name)?;
    Ok(Source { network: config.name.clone(), config, definition: None })
}

/// A definition's network: its own config, else the one that this host knows under its name.
///
/// # Errors
/// `NAD_EMPTY`, `NAD_INVALID`, `PLUGIN_REFUSED`; each says how to correct the definition.
pub fn of_definition(conf: &NetConf, definition: Network) -> Result<Source> {
    let network = definition.shown();
    let edit = format!("kubectl -n {} edit net-attach-def {}", definition.namespace, definition.name);
    let broken = |error: &cni::error::Error| {
        Fault::invalid(
            "NAD_INVALID",
            format!("network {network}: spec.config: {}; correct it with: {edit}", one_line(&error.msg, 120)),
        )
    };
    let config = if definition.config.trim().is_empty() {
        find_network(&conf.conf_dir, &definition.name).map_err(|error| {
            Fault::invalid(
                "NAD_EMPTY",
                format!(
                    "network {network}: its spec.config is empty, and {}; add one with: {edit}",
                    one_line(&error.msg, 140)
                ),
            )
        })?
    } else {
        let mut config =
            NetworkConfig::parse(&definition.config, Some(&definition.name)).map_err(|e| broken(&e))?;
        config.strip_runtime_keys();
        config
    };
    check_types(conf, &config, &network)?;
    Ok(Source { network, config, definition: Some(definition) })
}
