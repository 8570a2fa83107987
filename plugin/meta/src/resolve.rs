//! From selections and definitions to delegates. Pure: no file, no socket.

use std::collections::BTreeSet;

use cni::{config::NetworkConfig, raw};

use crate::{
    cluster::{Network, PodRef},
    error::{Fault, Result},
    netconf::NetConf,
    selection::Selection,
};

/// Network types that would lead back to us.
const REFUSED_TYPES: [&str; 2] = ["multus", "multus-shim"];

/// One network to attach, complete: nothing about it is looked up later.
#[derive(Debug, Clone)]
pub struct Delegate {
    /// `NAMESPACE/NAME` of the definition, or the primary's network name.
    pub network: String,
    /// Interface in the pod.
    pub ifname: String,
    /// What to run.
    pub config: NetworkConfig,
    /// The runtimeConfig this delegate may receive; its plugins get what they declare.
    pub capability_args: raw::Object,
    /// The cluster's default network of this pod.
    pub primary: bool,
}

/// Checks the daemon's answer against what was asked and builds the delegates after the primary.
///
/// # Errors
/// `DAEMON_MISMATCH` when the answer is not what was asked for, `ISOLATION`, `INTERFACE_TAKEN`,
/// `NAD_INVALID`, `NAD_EMPTY`, `PLUGIN_REFUSED`: each names the network.
pub fn secondary(
    conf: &NetConf,
    pod: &PodRef,
    primary_ifname: &str,
    selections: &[Selection],
    networks: &[Network],
) -> Result<Vec<Delegate>> {
    let same = selections.len() == networks.len()
        && selections
            .iter()
            .zip(networks)
            .all(|(s, n)| s.network.namespace == n.namespace && s.network.name == n.name);
    if !same {
        return Err(Fault::retry(
            "DAEMON_MISMATCH",
            "the multus daemon answered with other networks than the pod asks for; nothing was attached",
        ));
    }
    let mut taken = BTreeSet::from([primary_ifname.to_owned(), "lo".to_owned()]);
    let mut delegates = Vec::new();
    for (position, (selection, network)) in selections.iter().zip(networks).enumerate() {
        let shown = format!("{}/{}", network.namespace, network.name);
        check_isolation(conf, pod, &network.namespace, &shown)?;
        let ifname = selection.interface.clone().unwrap_or_else(|| format!("net{}", position + 1));
        if !taken.insert(ifname.clone()) {
            return Err(Fault::invalid(
                "INTERFACE_TAKEN",
                format!(
                    "network {shown}: the pod already has an interface {ifname}; ask for another with {shown}@NAME"
                ),
            ));
        }
        delegates.push(Delegate {
            config: parse(conf, network, &shown)?,
            network: shown,
            ifname,
            capability_args: raw::Object::default(),
            primary: false,
        });
    }
    Ok(delegates)
}

fn parse(conf: &NetConf, network: &Network, shown: &str) -> Result<NetworkConfig> {
    let edit = format!("kubectl -n {} edit net-attach-def {}", network.namespace, network.name);
    if network.config.trim().is_empty() {
        return Err(Fault::invalid(
            "NAD_EMPTY",
            format!("network {shown}: its spec.config is empty; add one with: {edit}"),
        ));
    }
    let mut config = NetworkConfig::parse(&network.config, Some(&network.name)).map_err(|error| {
        Fault::invalid(
            "NAD_INVALID",
            format!(
                "network {shown}: spec.config: {}; correct it with: {edit}",
                cni::error::one_line(&error.msg, 120)
            ),
        )
    })?;
    config.strip_runtime_keys();
    check_types(conf, &config, shown)?;
    Ok(config)
}

/// Refuses what must not run as a delegate.
///
/// # Errors
/// `PLUGIN_REFUSED` names the type.
pub fn check_types(conf: &NetConf, config: &NetworkConfig, shown: &str) -> Result<()> {
    for plugin in &config.plugins {
        let kind: String = plugin.get_as("type").ok().flatten().unwrap_or_default();
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

fn check_isolation(conf: &NetConf, pod: &PodRef, namespace: &str, shown: &str) -> Result<()> {
    let allowed = !conf.namespace_isolation
        || namespace == pod.namespace
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
