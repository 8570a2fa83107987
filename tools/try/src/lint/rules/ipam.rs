//! Who gives the addresses.

use crate::lint::{
    Found, Rule, World,
    cidr::Cidr,
    knowledge::{self, Role},
    near::nearest,
};
use crate::node::{Node, Value};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "ipam-type",
        why: "if no such plugin is installed on the node, no pod that asks for the network starts",
        fix: "correct the name: host-local, static, dhcp, whereabouts",
        check: ipam_type,
    },
    Rule {
        name: "missing-ipam-type",
        why: "without a type nobody gives an address: the pod's interface stays without one",
        fix: "add \"type\" to ipam, or write \"ipam\": {} if no address is wanted",
        check: missing_ipam_type,
    },
    Rule {
        name: "missing-ipam",
        why: "the plugin cannot work without addresses, so no pod that asks for the network starts",
        fix: "add ipam, such as { \"type\": \"host-local\", \"subnet\": \"10.61.0.0/24\" }",
        check: missing_ipam,
    },
    Rule {
        name: "missing-range",
        why: "there is no address to give, so no pod that asks for the network starts",
        fix: "add a subnet to host-local, a range to whereabouts, addresses to static",
        check: missing_range,
    },
    Rule {
        name: "static-address",
        why: "static needs the address with its prefix length, so no pod that asks for the network starts",
        fix: "write ADDRESS/PREFIX, such as 10.61.0.5/24",
        check: static_address,
    },
    Rule {
        name: "static-gateway",
        why: "the gateway cannot be reached from the address, so routes through it fail",
        fix: "choose a gateway of the same subnet",
        check: static_gateway,
    },
];

/// Types that are a slip for none of the known ones, but give addresses as well.
const OTHERS: [&str; 6] =
    ["calico-ipam", "weave-ipam", "spiderpool", "nv-ipam", "node-local-ipam", "macvtap"];

fn names() -> impl Iterator<Item = &'static str> {
    let known = knowledge::KNOWN.iter().filter(|known| known.role == Role::Ipam).map(|known| known.name);
    known.chain(OTHERS)
}

fn ipam_type(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let Some(node) = plugin.ipam().and_then(|ipam| ipam.get_as_go("type")) else { continue };
        let Some(kind) = node.text().filter(|kind| cni::config::valid_plugin_type(kind)) else { continue };
        let installed = world.here.plugins.iter().any(|name| name == kind);
        if installed || names().any(|name| name == kind) || knowledge::MULTUS.contains(&kind) {
            continue;
        }
        let fix = match nearest(kind, names()) {
            Some(name) => format!("write {name:?}"),
            None => "write host-local, static, dhcp or whereabouts; for a plugin of your own allow this rule"
                .to_owned(),
        };
        found.add(node.at, format!("no plugin that gives addresses is known by the name {kind:?}"), fix);
    }
}

fn missing_ipam_type(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let Some(ipam) = plugin.ipam() else { continue };
        match ipam.get_as_go("type") {
            Some(node) if node.text().is_none_or(|kind| !kind.is_empty()) => {}
            // `"ipam": { "type": "" }` is how people write that they want none.
            Some(_) if ipam.entries().len() == 1 => {}
            other => found.add(
                other.map_or(ipam.at, |node| node.at),
                "this ipam has settings and no type, so nobody reads them",
                "add \"type\", such as \"host-local\"",
            ),
        }
    }
}

fn missing_ipam(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let needs = ["ptp", "vlan", "dummy"].iter().any(|kind| plugin.is(kind));
        // An ipvlan behind another plugin may take over its addresses.
        let ipvlan = plugin.is("ipvlan") && plugin.index == 0;
        let none = plugin.ipam().is_none_or(|ipam| {
            ipam.get_as_go("type").is_some_and(|kind| kind.text() == Some("")) && ipam.entries().len() == 1
        });
        if (needs || ipvlan) && none {
            let kind = plugin.kind.as_deref().unwrap_or_default();
            let at = plugin.get("ipam").or(plugin.get("type")).unwrap_or(&plugin.object).at;
            let fix = "add \"ipam\": { \"type\": \"host-local\", \"subnet\": … }, or another one";
            found.add(at, format!("{kind} needs an ipam"), fix);
        }
    }
}

fn missing_range(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let Some(ipam) = plugin.ipam() else { continue };
        // A value of another type is told by `value-type`.
        let empty = |key: &str| {
            let node = ipam.get_as_go(key);
            node.is_none_or(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
        };
        let (lacks, fix) = match plugin.ipam_kind() {
            Some("host-local") => (
                empty("ranges") && empty("subnet") && !network.declares("ipRanges"),
                "add \"subnet\": \"10.61.0.0/24\", or \"ranges\"",
            ),
            Some("whereabouts") => {
                (empty("ipRanges") && empty("range"), "add \"range\": \"10.61.0.0/24\", or \"ipRanges\"")
            }
            Some("static") => (
                empty("addresses") && !network.declares("ips"),
                "add \"addresses\", or the capability ips so that pods can name theirs",
            ),
            _ => continue,
        };
        // A misspelt key is told by `unknown-key`; both would be one mistake told twice.
        let misspelt = ipam.entries().iter().any(|entry| {
            let keys = ["subnet", "ranges", "range", "ipRanges", "addresses"];
            !keys.contains(&entry.key.as_str()) && nearest(&entry.key, keys).is_some()
        });
        if lacks && !misspelt {
            let at = ipam.get_as_go("type").map_or(ipam.at, |node| node.at);
            found.add(at, format!("{} has no address to give", plugin.ipam_kind().unwrap_or_default()), fix);
        }
    }
}

fn addresses(world: &World) -> impl Iterator<Item = &Node> {
    world
        .plugins()
        .filter_map(|(_, plugin)| plugin.ipam_of("static"))
        .flat_map(|ipam| ipam.get_as_go("addresses").map(Node::items).unwrap_or_default())
}

fn static_address(world: &World, found: &mut Found) {
    for object in addresses(world) {
        let Some(node) = object.get_as_go("address") else {
            found.add(
                object.at,
                "this element of addresses has no address",
                "add \"address\": \"10.61.0.5/24\"",
            );
            continue;
        };
        let Some(text) = node.text().filter(|text| Cidr::parse(text).is_none()) else { continue };
        let fix = match text.parse::<std::net::IpAddr>() {
            Ok(address) => format!("write \"{address}/{}\"", if address.is_ipv4() { 24 } else { 64 }),
            Err(_) => "write ADDRESS/PREFIX, such as \"10.61.0.5/24\"".to_owned(),
        };
        found.add(node.at, format!("{text:?} is no address with a prefix length"), fix);
    }
}

fn static_gateway(world: &World, found: &mut Found) {
    for object in addresses(world) {
        let (Some(address), Some(node)) = (object.get_as_go("address"), object.get_as_go("gateway")) else {
            continue;
        };
        let Some(subnet) = address.text().and_then(Cidr::parse) else { continue };
        let Some(text) = node.text().filter(|text| !text.is_empty()) else { continue };
        let reached = text.parse().is_ok_and(|gateway| subnet.contains(gateway));
        if !reached {
            let message = format!("the gateway {text} is not in the subnet of {subnet}");
            found.add(node.at, message, format!("choose one of {}", subnet.network()));
        }
    }
}
