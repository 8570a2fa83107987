//! Why a network cannot be tried on this machine, as far as that is known before anything runs.

use std::{collections::BTreeSet, path::PathBuf};

use crate::{
    lint::{World, world::Network, world::Plugin},
    node::Node,
};

use super::{plugins, task::Task};

/// The reference plugins that the networks need and no folder has.
pub fn missing(world: &World, folders: &[PathBuf]) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for (_, plugin) in world.plugins() {
        names
            .extend(types(plugin).filter(|name| plugins::reference(name).is_some() && !found(name, folders)));
    }
    names.into_iter().collect()
}

fn types(plugin: &Plugin) -> impl Iterator<Item = String> {
    plugin.kind.iter().cloned().chain(plugin.ipam_kind().map(str::to_owned))
}

fn found(name: &str, folders: &[PathBuf]) -> bool {
    cni::exec::find(name, folders).is_ok()
}

/// Notes for each network of the task why it cannot be tried.
pub fn obstacles(task: &mut Task, world: &World) {
    for (network, plugin) in world.plugins() {
        // What no plugin can do here is the better reason than that a plugin is missing.
        let reasons = match needs_more(network, plugin).filter(|_| !task.machine) {
            Some(reason) => vec![reason],
            None => types(plugin).filter_map(|name| no_plugin(&name, &task.plugin_dirs)).collect(),
        };
        if !reasons.is_empty() {
            task.obstacles.entry(network.shown()).or_default().extend(reasons);
        }
    }
}

fn no_plugin(name: &str, folders: &[PathBuf]) -> Option<String> {
    // What is no name of a plugin, or one of ours, Multus refuses itself.
    let ours = crate::lint::knowledge::MULTUS.contains(&name);
    if ours || !cni::config::valid_plugin_type(name) || found(name, folders) {
        return None;
    }
    let shown: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let cure = match plugins::reference(name) {
        Some(_) => {
            "add --install-plugins, which builds it with Go, or install your distribution's CNI plugins"
        }
        None => "install it, and name its folder with --plugin-dir",
    };
    Some(format!("the plugin {name} is in none of {}; {cure}", shown.join(", ")))
}

/// What a network needs beyond plugins, which a throw-away host has not.
fn needs_more(network: &Network, plugin: &Plugin) -> Option<String> {
    let annotations =
        network.object.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default();
    let resource = annotations.iter().find(|entry| entry.key == meta::cluster::RESOURCE_NAME);
    if let Some(resource) = resource {
        let name = resource.node.shown();
        return Some(format!(
            "its devices ({name}) come from a device plugin through the kubelet, and there is none here"
        ));
    }
    let kind = plugin.kind.as_deref().unwrap_or_default();
    let given = |key: &str| plugin.get(key).is_some();
    match (kind, plugin.ipam_kind()) {
        ("sriov" | "ib-sriov" | "accelerated-bridge", _) => {
            Some(format!("{kind} needs a virtual function of a real card; try it with --host on a node that has one"))
        }
        ("host-device", _) if !given("device") => {
            Some("host-device names its device by address or path; try it with --host on the node that has it".to_owned())
        }
        (_, Some("whereabouts")) => Some(
            "whereabouts keeps its addresses in the cluster's API, and there is no cluster here; try it with host-local, or with --host on a node"
                .to_owned(),
        ),
        (_, Some("dhcp")) => Some(
            "dhcp needs its daemon and a server on the wire; try it with --host on a node that has both".to_owned(),
        ),
        _ => None,
    }
}
