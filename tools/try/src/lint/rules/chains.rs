//! What belongs together in a plugin or in a list of plugins.

use crate::{
    lint::{
        Found, Rule, World,
        knowledge::Role,
        world::{Network, Plugin},
    },
    node::Node,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "chained-first",
        why: "the plugin changes an interface that another plugin made before it; alone or first it fails",
        fix: "write a list whose first plugin makes an interface, and put this one behind it",
        check: chained_first,
    },
    Rule {
        name: "second-main",
        why: "two plugins of one list make the same interface, and the second fails",
        fix: "make a network of its own of each, and let the pod ask for both",
        check: second_main,
    },
    Rule {
        name: "bandwidth-without-veth",
        why: "bandwidth shapes the host's end of a veth pair; this interface has none, so no pod that asks for the network starts",
        fix: "use bridge or ptp, or remove bandwidth",
        check: bandwidth_without_veth,
    },
    Rule {
        name: "rate-without-burst",
        why: "a rate and its burst go together; bandwidth refuses one without the other",
        fix: "give both or none",
        check: rate_without_burst,
    },
    Rule {
        name: "contradiction",
        why: "the plugin refuses the two together, so no pod that asks for the network starts",
        fix: "remove one of them",
        check: contradiction,
    },
    Rule {
        name: "missing-key",
        why: "the plugin cannot work without it, so no pod that asks for the network starts",
        fix: "add the key",
        check: missing_key,
    },
    Rule {
        name: "gateway-without-ipam",
        why: "the bridge gets the gateway's address from ipam, and without one it gets none: pods have no gateway",
        fix: "add ipam, or remove the key",
        check: gateway_without_ipam,
    },
];

fn place<'a>(plugin: &'a Plugin, key: &str) -> &'a Node {
    plugin.get(key).unwrap_or(&plugin.object)
}

fn role(plugin: &Plugin) -> Option<Role> {
    plugin.known().map(|known| known.role)
}

fn chained_first(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        if plugin.index == 0 && role(plugin) == Some(Role::Chained) {
            let kind = plugin.kind.as_deref().unwrap_or_default();
            let message = format!("{kind} has no interface to work on: no plugin stands before it");
            found.add(place(plugin, "type").at, message, "put a plugin such as bridge or macvlan before it");
        }
    }
}

/// Types that make the pod's interface, so that one list has one of them.
const MAKERS: [&str; 8] = ["bridge", "macvlan", "ipvlan", "vlan", "ptp", "host-device", "dummy", "sriov"];

fn second_main(world: &World, found: &mut Found) {
    for network in &world.networks {
        let Some(parsed) = network.parsed() else { continue };
        let makers = parsed.plugins.iter().filter(|plugin| MAKERS.iter().any(|kind| plugin.is(kind)));
        for plugin in makers.skip(1) {
            // An ipvlan without ipam takes the interface before it as its master.
            if plugin.is("ipvlan") && plugin.ipam_kind().is_none() {
                continue;
            }
            let kind = plugin.kind.as_deref().unwrap_or_default();
            let message = format!("{kind} makes an interface that a plugin before it has made");
            found.add(place(plugin, "type").at, message, "make it a network of its own");
        }
    }
}

fn bandwidth_without_veth(world: &World, found: &mut Found) {
    for network in &world.networks {
        let Some(parsed) = network.parsed() else { continue };
        let first = parsed.plugins.first().and_then(|plugin| plugin.kind.as_deref()).unwrap_or_default();
        let without = ["macvlan", "ipvlan", "vlan", "host-device", "dummy", "sriov", "tap"].contains(&first);
        for plugin in parsed.plugins.iter().filter(|plugin| without && plugin.is("bandwidth")) {
            let message = format!("bandwidth cannot shape an interface of {first}");
            found.add(place(plugin, "type").at, message, "use bridge or ptp instead, or remove bandwidth");
        }
    }
}

fn rate_without_burst(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins().filter(|(_, plugin)| plugin.is("bandwidth")) {
        for (rate, burst) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
            let given = |key: &str| plugin.get(key).filter(|node| node.number() != Some(0));
            let (there, other) = match (given(rate), given(burst)) {
                (Some(node), None) => (node, burst),
                (None, Some(node)) => (node, rate),
                _ => continue,
            };
            found.add(there.at, format!("bandwidth has one of {rate} and {burst}"), format!("add {other}"));
        }
    }
}

fn contradiction(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let on = |key: &str| plugin.get(key).filter(|node| node.is_true());
        let mut both = |a: Option<&Node>, b: Option<&Node>, message: &str, fix: &str| {
            if let (Some(_), Some(second)) = (a, b) {
                found.add(second.at, message, fix);
            }
        };
        if plugin.is("bridge") {
            both(
                on("hairpinMode"),
                on("promiscMode"),
                "a bridge cannot have hairpinMode and promiscMode",
                "remove one of them",
            );
            both(
                plugin.ipam_kind().and_then(|_| plugin.ipam()),
                on("disableContainerInterface"),
                "disableContainerInterface leaves no interface that ipam could give an address to",
                "remove one of them",
            );
        }
        if plugin.is("portmap") {
            both(
                plugin.get("externalSetMarkChain"),
                plugin.get("markMasqBit"),
                "portmap cannot have externalSetMarkChain and markMasqBit",
                "remove one of them",
            );
        }
    }
}

fn missing_key(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let empty = |key: &str| plugin.get(key).is_none_or(|node| node.text() == Some(""));
        let at = place(plugin, "type").at;
        if plugin.is("vlan") && empty("master") {
            found.add(at, "vlan has no master", "add \"master\": the node's interface that carries the VLAN");
        }
        if plugin.is("vlan") && plugin.get("vlanId").is_none() {
            found.add(at, "vlan has no vlanId", "add \"vlanId\": a number from 1 to 4094");
        }
        if plugin.is("vrf") && empty("vrfname") {
            found.add(at, "vrf has no vrfname", "add \"vrfname\": the name of the VRF's interface");
        }
        if plugin.is("host-device") && no_device(network, plugin) {
            let message = "host-device does not say which device";
            found.add(at, message, "add one of device, hwaddr, kernelpath and pciBusID");
        }
    }
}

fn no_device(network: &Network, plugin: &Plugin) -> bool {
    let keys = ["device", "hwaddr", "kernelpath", "pciBusID", "deviceID"];
    let annotations =
        network.object.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default();
    let by_resource = annotations.iter().any(|entry| entry.key.to_ascii_lowercase().contains("resourcename"));
    // A pod may name the device itself.
    let by_pod = network.declares("deviceID");
    !by_resource && !by_pod && keys.iter().all(|key| plugin.get(key).is_none())
}

fn gateway_without_ipam(world: &World, found: &mut Found) {
    for (_, plugin) in
        world.plugins().filter(|(_, plugin)| plugin.is("bridge") && plugin.ipam_kind().is_none())
    {
        // `missing-ipam-type` tells of an ipam that is there.
        if plugin.ipam().is_some() {
            continue;
        }
        for key in ["isGateway", "isDefaultGateway", "ipMasq"] {
            if let Some(node) = plugin.get(key).filter(|node| node.is_true()) {
                let message = format!("{key} needs addresses, and this bridge has no ipam");
                found.add(node.at, message, "add \"ipam\", or remove the key");
                break;
            }
        }
    }
}
