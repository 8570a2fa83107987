//! Routes of a network, and name servers.

use std::net::IpAddr;

use crate::{
    lint::{
        Found, Rule, World,
        cidr::{Cidr, same_family},
        ranges,
        world::{Network, Plugin},
    },
    node::Node,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "route",
        why: "the plugin cannot read it, so no pod that asks for the network starts",
        fix: "write { \"dst\": \"ADDRESS/PREFIX\", \"gw\": \"ADDRESS\" }; the default route is 0.0.0.0/0 or ::/0",
        check: route,
    },
    Rule {
        name: "route-host-bits",
        why: "what is meant cannot be told: the destination of a route is a subnet",
        fix: "write the subnet's own address, or /32 for one host",
        check: route_host_bits,
    },
    Rule {
        name: "route-families",
        why: "a route leads through a gateway of its own family; the kernel refuses this one",
        fix: "choose a gateway of the destination's family",
        check: route_families,
    },
    Rule {
        name: "route-gateway-outside",
        why: "pods cannot reach the gateway, so the kernel refuses the route and no pod that asks for the network starts",
        fix: "choose a gateway of the network's subnet",
        check: route_gateway_outside,
    },
    Rule {
        name: "name-server",
        why: "nothing asks a name server that is no address",
        fix: "write addresses",
        check: name_server,
    },
];

/// Every route, with where it is from.
fn routes(world: &World) -> impl Iterator<Item = (&Network, &Plugin, &Node)> {
    world.plugins().flat_map(|(network, plugin)| {
        let known = ["host-local", "static", "whereabouts"].contains(&plugin.ipam_kind().unwrap_or_default());
        let routes = plugin.ipam().filter(|_| known).and_then(|ipam| ipam.get_as_go("routes"));
        routes.into_iter().flat_map(Node::items).map(move |route| (network, plugin, route))
    })
}

fn destination(route: &Node) -> Option<(&Node, Cidr)> {
    let node = route.get_as_go("dst")?;
    Some((node, Cidr::parse(node.text()?)?))
}

fn gateway(route: &Node) -> Option<(&Node, IpAddr)> {
    let node = route.get_as_go("gw")?;
    Some((node, node.text()?.parse().ok()?))
}

fn route(world: &World, found: &mut Found) {
    for (_, _, route) in routes(world) {
        if route.entries().is_empty() {
            found.add(
                route.at,
                format!("a route is an object, not {}", route.kind()),
                "write { \"dst\": … }",
            );
            continue;
        }
        match route.get_as_go("dst") {
            None => {
                let other =
                    route.entries().iter().find(|entry| entry.node.text().and_then(Cidr::parse).is_some());
                // A misspelt key is told by `unknown-key`.
                if other.is_none() {
                    found.add(route.at, "this route has no dst", "add \"dst\": the subnet it leads to");
                }
            }
            Some(node) => {
                if let Some(text) = node.text().filter(|text| Cidr::parse(text).is_none()) {
                    found.add(node.at, format!("{text:?} is no destination"), meant(text));
                }
            }
        }
        if let Some(node) = route.get_as_go("gw")
            && let Some(text) = node.text().filter(|text| !text.is_empty() && text.parse::<IpAddr>().is_err())
        {
            let fix = match Cidr::parse(text) {
                Some(cidr) => format!("remove the prefix length: \"{}\"", cidr.address),
                None => "write an address such as 10.61.0.1".to_owned(),
            };
            found.add(node.at, format!("{text:?} is no gateway"), fix);
        }
    }
}

fn meant(text: &str) -> String {
    match text.parse::<IpAddr>() {
        _ if text.eq_ignore_ascii_case("default") => "write \"0.0.0.0/0\", for IPv6 \"::/0\"".to_owned(),
        Ok(address) if address.is_unspecified() => format!("write \"{address}/0\""),
        Ok(address) => format!(
            "add the prefix length: \"{address}/{}\" is one host",
            if address.is_ipv4() { 32 } else { 128 }
        ),
        Err(_) => "write ADDRESS/PREFIX; the default route is \"0.0.0.0/0\"".to_owned(),
    }
}

fn route_host_bits(world: &World, found: &mut Found) {
    for (node, cidr) in routes(world).filter_map(|(_, _, route)| destination(route)) {
        if cidr.address != cidr.first() {
            let one = if cidr.address.is_ipv4() { 32 } else { 128 };
            let fix = format!("write \"{}\", or \"{}/{one}\" for the one host", cidr.network(), cidr.address);
            found.add(node.at, format!("{cidr} is an address of a subnet, not a subnet"), fix);
        }
    }
}

fn route_families(world: &World, found: &mut Found) {
    for (_, _, route) in routes(world) {
        let (Some((_, to)), Some((node, through))) = (destination(route), gateway(route)) else { continue };
        if !same_family(to.address, through) {
            let family = if to.address.is_ipv4() { "IPv4" } else { "IPv6" };
            found.add(
                node.at,
                format!("{through} cannot be the gateway to {to}"),
                format!("choose an {family} address"),
            );
        }
    }
}

fn route_gateway_outside(world: &World, found: &mut Found) {
    for (network, plugin, route) in routes(world) {
        let Some((node, through)) = gateway(route) else { continue };
        let subnets = ranges::subnets(network, plugin);
        let same: Vec<_> = subnets.iter().filter(|subnet| same_family(subnet.address, through)).collect();
        // Another family is another rule; a scope of its own may make the gateway reachable.
        let families = destination(route).is_some_and(|(_, to)| !same_family(to.address, through));
        if families || same.is_empty() || route.get_as_go("scope").is_some() {
            continue;
        }
        if !same.iter().any(|subnet| subnet.contains(through)) {
            let of: Vec<String> = same.iter().map(|subnet| subnet.network().to_string()).collect();
            let of = of.join(" or ");
            found.add(
                node.at,
                format!("the gateway {through} is not in {of}"),
                format!("choose an address of {of}"),
            );
        }
    }
}

fn name_server(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let inside = plugin.ipam().and_then(|ipam| ipam.get_as_go("dns"));
        for servers in
            plugin.get("dns").into_iter().chain(inside).filter_map(|dns| dns.get_as_go("nameservers"))
        {
            for node in servers.items() {
                if let Some(text) = node.text().filter(|text| text.parse::<IpAddr>().is_err()) {
                    found.add(node.at, format!("the name server {text:?} is no address"), "write an address");
                }
            }
        }
    }
}
