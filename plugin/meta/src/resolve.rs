//! From selections and definitions to delegates.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cni::{config::NetworkConfig, raw};

use crate::{
    cluster::{Network, PodRef},
    device_info,
    equip::{self, Devices},
    error::{Fault, Result},
    netconf::NetConf,
    selection::Selection,
    source::{self, Source},
};

/// Network types that would lead back to us.
const REFUSED_TYPES: [&str; 3] = ["multus", "multus-shim", "multus-daemon"];

/// One network to attach, complete: nothing about it is looked up later.
#[derive(Debug, Clone)]
pub struct Delegate {
    /// `NAMESPACE/NAME` of the definition, or the network's own name.
    pub network: String,
    /// Interface in the pod.
    pub ifname: String,
    /// What to run.
    pub config: NetworkConfig,
    /// The runtimeConfig this delegate may receive; its plugins get what they declare.
    pub capability_args: raw::Object,
    /// What it gets in `CNI_ARGS` beside the runtime's own.
    pub args: Vec<(String, String)>,
    /// The selection's `default-route`.
    pub default_route: Option<Vec<IpAddr>>,
    /// Files about its device.
    pub device_info: Option<device_info::Files>,
    /// The pod's default network.
    pub primary: bool,
    /// Works on an interface that another delegate made.
    pub shares_interface: bool,
}

impl Delegate {
    /// A delegate without any request.
    pub fn plain(source: Source, ifname: String) -> Self {
        Self {
            network: source.network,
            ifname,
            config: source.config,
            capability_args: raw::Object::default(),
            args: Vec::new(),
            default_route: None,
            device_info: None,
            primary: false,
            shares_interface: false,
        }
    }
}

/// Names interfaces by position, and refuses one that is taken.
pub struct Interfaces {
    taken: BTreeSet<String>,
    position: usize,
}

impl Interfaces {
    /// The pod has the primary's interface and `lo`.
    pub fn new(primary: &str) -> Self {
        Self { taken: BTreeSet::from([primary.to_owned(), "lo".to_owned()]), position: 0 }
    }

    /// The name of the next attachment: as asked for, else `net` and its position.
    ///
    /// # Errors
    /// `INTERFACE_TAKEN`.
    pub fn next(&mut self, asked: Option<&str>, network: &str) -> Result<String> {
        self.position += 1;
        let ifname = asked.map_or_else(|| format!("net{}", self.position), str::to_owned);
        if self.taken.insert(ifname.clone()) {
            return Ok(ifname);
        }
        Err(Fault::invalid(
            "INTERFACE_TAKEN",
            format!(
                "network {network}: the pod already has an interface {ifname}; ask for another with {network}@NAME"
            ),
        ))
    }
}

/// Checks the daemon's answer against what was asked and pairs each selection with its definition.
///
/// # Errors
/// `DAEMON_MISMATCH`.
pub fn answered(selections: &[Selection], networks: Vec<Network>) -> Result<Vec<(&Selection, Network)>> {
    let same = selections.len() == networks.len()
        && selections.iter().zip(&networks).all(|(selection, network)| network.is(&selection.network));
    if !same {
        return Err(source::mismatch());
    }
    Ok(selections.iter().zip(networks).collect())
}

/// One delegate of the pod's own selection.
///
/// # Errors
/// `ISOLATION`, `INTERFACE_TAKEN`, `NAD_INVALID`, `NAD_EMPTY`, `PLUGIN_REFUSED`, and those of [`equip`]: each names
/// the network.
pub fn selected(
    conf: &NetConf,
    pod: &PodRef,
    sandbox: &str,
    selection: &Selection,
    definition: Network,
    interfaces: &mut Interfaces,
    devices: &mut Devices,
) -> Result<Delegate> {
    check_isolation(conf, pod, &definition.namespace, &definition.shown(), false)?;
    let ifname = interfaces.next(selection.interface.as_deref(), &definition.shown())?;
    let resource = definition.resource().map(str::to_owned);
    let mut delegate = Delegate::plain(source::of_definition(conf, definition)?, ifname);
    equip::equip(&mut delegate, &selection.requests, resource.as_deref(), devices, conf, sandbox)?;
    Ok(delegate)
}

/// Refuses what must not run as a delegate.
///
/// # Errors
/// `PLUGIN_REFUSED` names the type.
pub fn check_types(conf: &NetConf, config: &NetworkConfig, shown: &str) -> Result<()> {
    for kind in config.binaries() {
        if REFUSED_TYPES.contains(&kind.as_str()) {
            return Err(Fault::invalid(
                "PLUGIN_REFUSED",
                format!(
                    "network {shown}: type {kind:?} would call Multus from Multus; name the plugin that does the work"
                ),
            ));
        }
        if !conf.allowed_plugins.is_empty() && !conf.allowed_plugins.contains(&kind) {
            return Err(Fault::invalid(
                "PLUGIN_REFUSED",
                format!(
                    "network {shown}: type {kind:?} is not in allowedPlugins; ask the cluster's operator to allow it"
                ),
            ));
        }
    }
    Ok(())
}

/// `own_place`: definitions of `multusNamespace` are the operator's offer, as for the default network.
///
/// # Errors
/// `ISOLATION` names the namespaces that are open.
pub fn check_isolation(
    conf: &NetConf,
    pod: &PodRef,
    namespace: &str,
    shown: &str,
    own_place: bool,
) -> Result<()> {
    let allowed = !conf.namespace_isolation
        || namespace == pod.namespace
        || (own_place && namespace == conf.multus_namespace)
        || conf.global_namespaces.iter().any(|name| name == namespace);
    if allowed {
        return Ok(());
    }
    Err(Fault::invalid(
        "ISOLATION",
        format!(
            "network {shown}: namespaceIsolation is on and the pod is in namespace {}; use a network of that namespace or of {}",
            pod.namespace,
            conf.global_namespaces.join(", ")
        ),
    ))
}
