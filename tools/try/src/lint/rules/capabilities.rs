//! What a network says it can do, and what pods ask of it.

use crate::{
    lint::{
        Found, Rule, World,
        knowledge::CAPABILITIES,
        near::nearest,
        pods::Selection,
        world::{Network, Plugin},
    },
    node::{Node, Value},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "capability-name",
        why: "nobody asks for a capability of that name, so what pods ask for never reaches the plugin",
        fix: "write one of ips, mac, portMappings, bandwidth, infinibandGUID, deviceID, ipRanges, dns",
        check: capability_name,
    },
    Rule {
        name: "capability-value",
        why: "a capability counts only if it is true",
        fix: "write true",
        check: capability_value,
    },
    Rule {
        name: "capability-missing",
        why: "the plugin never learns of the request: the pod starts without what it asked for, or not at all",
        fix: "add the capability to the plugin that can serve it",
        check: capability_missing,
    },
    Rule {
        name: "ipvlan-mac",
        why: "all interfaces of an ipvlan share their master's hardware address; none can have its own",
        fix: "remove mac, or use macvlan",
        check: ipvlan_mac,
    },
];

fn declared(world: &World) -> impl Iterator<Item = (&Plugin, &crate::node::Entry)> {
    world.plugins().flat_map(|(_, plugin)| {
        plugin
            .get("capabilities")
            .map(Node::entries)
            .unwrap_or_default()
            .iter()
            .map(move |entry| (plugin, entry))
    })
}

fn capability_name(world: &World, found: &mut Found) {
    for (_, entry) in declared(world).filter(|(_, entry)| !CAPABILITIES.contains(&entry.key.as_str())) {
        let alias = match entry.key.as_str() {
            "ip" | "ipaddress" => Some("ips"),
            "ports" | "portmap" => Some("portMappings"),
            _ => nearest(&entry.key, CAPABILITIES.iter().copied()),
        };
        if let Some(name) = alias {
            found.add(entry.at, format!("there is no capability {:?}", entry.key), format!("write {name:?}"));
        }
    }
}

fn capability_value(world: &World, found: &mut Found) {
    for (_, entry) in declared(world) {
        if !matches!(entry.node.value, Value::Switch(_)) {
            let message = format!("the capability {} is {}, not true", entry.key, entry.node.kind());
            found.add(entry.node.at, message, "write true");
        }
    }
}

/// What a selection may ask for, the capability it needs, and a plugin that can serve it.
const REQUESTS: [(&str, &str, &str); 5] = [
    ("ips", "ips", "the plugin whose ipam is host-local or static"),
    ("mac", "mac", "macvlan, bridge or tuning"),
    ("infiniband-guid", "infinibandGUID", "ib-sriov"),
    ("portMappings", "portMappings", "portmap"),
    ("bandwidth", "bandwidth", "bandwidth"),
];

fn asks_for_mac_of_ipvlan(selection: &Selection, network: &Network) -> bool {
    selection.get("mac").is_some() && network.has("ipvlan")
}

fn capability_missing(world: &World, found: &mut Found) {
    for (_, selection, network) in world.selections() {
        let Some(network) = network.filter(|network| network.parsed().is_some()) else { continue };
        for (request, capability, server) in REQUESTS {
            let Some(node) = selection.get(request) else { continue };
            if network.declares(capability)
                || (request == "mac" && asks_for_mac_of_ipvlan(selection, network))
            {
                continue;
            }
            found.add(
                node.at,
                format!(
                    "{request} is asked of {}, which has not the capability {capability}",
                    network.shown()
                ),
                format!("add \"capabilities\": {{ \"{capability}\": true }} to {server}"),
            );
        }
    }
}

fn ipvlan_mac(world: &World, found: &mut Found) {
    for (_, selection, network) in world.selections() {
        let Some(network) = network.filter(|network| asks_for_mac_of_ipvlan(selection, network)) else {
            continue;
        };
        if let Some(node) = selection.get("mac") {
            let message = format!(
                "{} is an ipvlan, whose interfaces have no hardware address of their own",
                network.shown()
            );
            found.add(node.at, message, "remove mac, or use macvlan");
        }
    }
}
