//! Subnets and ranges of addresses.

use std::net::IpAddr;

use crate::{
    lint::{
        Found, Rule, World,
        cidr::{Cidr, same_family},
        ranges::{self, Range},
    },
    node::{Node, Value},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "subnet",
        why: "the IPAM plugin cannot read it, so no pod that asks for the network starts",
        fix: "write ADDRESS/PREFIX, such as 10.61.0.0/24",
        check: subnet,
    },
    Rule {
        name: "subnet-host-bits",
        why: "host-local refuses a subnet whose address is not the network's own, so no pod that asks for the network starts",
        fix: "write the network's own address",
        check: subnet_host_bits,
    },
    Rule {
        name: "subnet-too-small",
        why: "nothing is left for pods in it, so host-local refuses it",
        fix: "choose a prefix of 30 or less, with IPv6 126 or less",
        check: subnet_too_small,
    },
    Rule {
        name: "range-address",
        why: "the IPAM plugin cannot read it, so no pod that asks for the network starts",
        fix: "write an address without prefix, such as 10.61.0.10",
        check: range_address,
    },
    Rule {
        name: "range-outside",
        why: "the IPAM plugin refuses addresses outside of the subnet, so no pod that asks for the network starts",
        fix: "choose an address of the subnet",
        check: range_outside,
    },
    Rule {
        name: "range-order",
        why: "a range that ends before it starts has no address, so no pod that asks for the network starts",
        fix: "exchange the two",
        check: range_order,
    },
    Rule {
        name: "range-edge",
        why: "the first and the last address of an IPv4 subnet are the network's and the broadcast address; a pod with one of them reaches nobody",
        fix: "begin one address later, or end one earlier",
        check: range_edge,
    },
    Rule {
        name: "gateway-outside",
        why: "pods cannot reach a gateway outside of their subnet, so their routes through it fail",
        fix: "choose an address of the subnet, usually its first",
        check: gateway_outside,
    },
    Rule {
        name: "ranges-overlap",
        why: "the IPAM plugin refuses ranges that share addresses, so no pod that asks for the network starts",
        fix: "let one range end before the other begins",
        check: ranges_overlap,
    },
    Rule {
        name: "ranges-shape",
        why: "host-local wants a list of lists: one address of each inner list goes to a pod",
        fix: "write \"ranges\": [ [ { \"subnet\": … } ] ]",
        check: ranges_shape,
    },
    Rule {
        name: "range-families",
        why: "host-local refuses IPv4 and IPv6 in one set of ranges",
        fix: "give IPv6 a list of its own: [ [ IPv4 ], [ IPv6 ] ]; a pod then gets an address of each",
        check: range_families,
    },
    Rule {
        name: "exclude-outside",
        why: "it excludes nothing, because the range has no such address",
        fix: "write a part of the range, as ADDRESS/PREFIX",
        check: exclude_outside,
    },
    Rule {
        name: "networks-overlap",
        why: "host-local counts addresses per network name: two pods of one wire get the same address",
        fix: "give each network a range of its own, or both the same \"name\" in their config",
        check: networks_overlap,
    },
    Rule {
        name: "old-version-addresses",
        why: "before CNI 0.3.0 a result has one address of each family; host-local refuses more",
        fix: "write \"cniVersion\": \"1.0.0\"",
        check: old_version_addresses,
    },
];

fn key(range: &Range<'_>, host_local: &'static str, whereabouts: &'static str) -> &'static str {
    if range.ipam == "host-local" { host_local } else { whereabouts }
}

fn subnet(world: &World, found: &mut Found) {
    for range in ranges::all(world) {
        let name = key(&range, "subnet", "range");
        let Some(node) = range.subnet else {
            let told_elsewhere = range.set == 0 || range.object.entries().is_empty();
            if !told_elsewhere {
                found.add(range.object.at, format!("this range has no {name}"), format!("add {name:?}"));
            }
            continue;
        };
        let Some(text) = node.text().filter(|_| range.cidr().is_none()) else { continue };
        found.add(node.at, format!("{text:?} is no subnet"), mend(text));
    }
}

/// What a subnet that cannot be read was probably meant to be.
fn mend(text: &str) -> String {
    let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
    // Numbers with leading zeros, which may mean octal.
    let part = |part: &str| match part.trim_start_matches('0') {
        "" => "0".to_owned(),
        plain => plain.to_owned(),
    };
    let plain: Vec<String> = address.trim().split('.').map(part).collect();
    let address = if address.contains(':') { address.trim().to_owned() } else { plain.join(".") };
    match address.parse::<IpAddr>() {
        Ok(ip) if prefix.is_empty() => {
            let cidr = Cidr { address: ip, prefix: if ip.is_ipv4() { 24 } else { 64 } };
            format!("add the prefix length: \"{}\"", cidr.network())
        }
        Ok(ip) => match Cidr::parse(&format!("{ip}/{}", prefix.trim())) {
            Some(cidr) => format!("write \"{}\"", cidr.network()),
            None => format!("choose a prefix length from 0 to {}", if ip.is_ipv4() { 32 } else { 128 }),
        },
        Err(_) => "write ADDRESS/PREFIX, such as \"10.61.0.0/24\"".to_owned(),
    }
}

fn subnet_host_bits(world: &World, found: &mut Found) {
    for range in ranges::all(world).filter(|range| range.ipam == "host-local") {
        let (Some(node), Some(cidr)) = (range.subnet, range.cidr()) else { continue };
        if cidr.address != cidr.first() {
            let message = format!("{cidr} is an address of a subnet, not a subnet");
            found.add(node.at, message, format!("write \"{}\"", cidr.network()));
        }
    }
}

fn subnet_too_small(world: &World, found: &mut Found) {
    for range in ranges::all(world).filter(|range| range.ipam == "host-local") {
        let (Some(node), Some(cidr)) = (range.subnet, range.cidr()) else { continue };
        let most = if cidr.address.is_ipv4() { 30 } else { 126 };
        if cidr.prefix > most {
            let message = format!("{cidr} has no room for pods");
            found.add(node.at, message, format!("choose a prefix length of {most} or less"));
        }
    }
}

/// The addresses of a range beside its subnet, with their keys.
fn addresses<'a>(range: &Range<'a>) -> Vec<(&'static str, &'a Node)> {
    let named = [
        (key(range, "rangeStart", "range_start"), range.start),
        (key(range, "rangeEnd", "range_end"), range.end),
        ("gateway", range.gateway),
    ];
    named.into_iter().filter_map(|(name, node)| Some((name, node?))).collect()
}

fn range_address(world: &World, found: &mut Found) {
    for range in ranges::all(world) {
        for (name, node) in addresses(&range) {
            let Some(text) = node.text().filter(|text| !text.is_empty() && text.parse::<IpAddr>().is_err())
            else {
                continue;
            };
            let fix = match Cidr::parse(text) {
                Some(cidr) => format!("remove the prefix length: \"{}\"", cidr.address),
                None => "write an address such as 10.61.0.10".to_owned(),
            };
            found.add(node.at, format!("{name} {text:?} is no address"), fix);
        }
    }
}

fn range_outside(world: &World, found: &mut Found) {
    for range in ranges::all(world) {
        let Some(cidr) = range.cidr() else { continue };
        for (name, node) in addresses(&range).into_iter().filter(|(name, _)| *name != "gateway") {
            let Some(address) = node.text().and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
            if !cidr.contains(address) {
                let network = cidr.network();
                let fix = format!("choose an address from {} to {}", cidr.first_host(), cidr.last_host());
                found.add(node.at, format!("{name} {address} is not in the subnet {network}"), fix);
            }
        }
    }
}

fn range_order(world: &World, found: &mut Found) {
    for range in ranges::all(world) {
        let ip = |node: Option<&Node>| node.and_then(Node::text).and_then(|text| text.parse::<IpAddr>().ok());
        let (Some(node), Some(start), Some(end)) = (range.end, ip(range.start), ip(range.end)) else {
            continue;
        };
        if same_family(start, end) && start > end {
            found.add(
                node.at,
                format!("the range ends at {end}, before it starts at {start}"),
                "exchange the two",
            );
        }
    }
}

fn range_edge(world: &World, found: &mut Found) {
    for range in ranges::all(world).filter(|range| range.ipam == "host-local") {
        let Some(cidr) = range.cidr().filter(|cidr| cidr.address.is_ipv4() && cidr.prefix <= 30) else {
            continue;
        };
        for (name, node) in addresses(&range).into_iter().filter(|(name, _)| *name != "gateway") {
            let Some(address) = node.text().and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
            if address == cidr.first() {
                let message = format!("{name} {address} is the network's own address");
                found.add(node.at, message, format!("write \"{}\"", cidr.first_host()));
            } else if address == cidr.last() {
                let message = format!("{name} {address} is the broadcast address");
                found.add(node.at, message, format!("write \"{}\"", cidr.last_host()));
            }
        }
    }
}

fn gateway_outside(world: &World, found: &mut Found) {
    for range in ranges::all(world) {
        let (Some(cidr), Some(node)) = (range.cidr(), range.gateway) else { continue };
        let Some(gateway) = node.text().and_then(|text| text.parse::<IpAddr>().ok()) else { continue };
        if !cidr.contains(gateway) {
            let message = format!("the gateway {gateway} is not in the subnet {}", cidr.network());
            found.add(
                node.at,
                message,
                format!("choose one of {}, usually {}", cidr.network(), cidr.first_host()),
            );
        }
    }
}

fn ranges_overlap(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let ranges = ranges::of(network, plugin);
        for (index, later) in ranges.iter().enumerate() {
            let Some(earlier) = ranges.iter().take(index).find(|earlier| earlier.overlaps(later)) else {
                continue;
            };
            let at = later.subnet.map_or(later.object.at, |node| node.at);
            let message = format!("{} overlaps with {}", later.shown(), earlier.shown());
            found.add(at, message, "let one range end before the other begins, or remove one");
        }
    }
}

fn ranges_shape(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let Some(node) = plugin.ipam_of("host-local").and_then(|ipam| ipam.get_as_go("ranges")) else {
            continue;
        };
        let fix = "write a list of lists: [ [ { \"subnet\": … } ] ]";
        let Value::List(sets) = &node.value else {
            found.add(node.at, format!("ranges is {}, not a list of lists", node.kind()), fix);
            continue;
        };
        // One mistake, told once, however many ranges there are.
        if let Some(set) = sets.iter().find(|set| !matches!(set.value, Value::List(_))) {
            found.add(set.at, format!("this element of ranges is {}, not a list", set.kind()), fix);
        }
        for set in sets.iter().filter(|set| matches!(&set.value, Value::List(items) if items.is_empty())) {
            found.add(set.at, "this set of ranges is empty", "add { \"subnet\": … }, or remove the set");
        }
    }
}

fn range_families(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let ranges = ranges::of(network, plugin);
        for range in ranges.iter().filter(|range| range.ipam == "host-local") {
            let first = ranges.iter().find(|other| other.set == range.set).and_then(Range::cidr);
            let (Some(first), Some(own), Some(node)) = (first, range.cidr(), range.subnet) else { continue };
            if !same_family(first.address, own.address) {
                let message = format!("{own} is in one set with {first}");
                found.add(node.at, message, "move it into a list of its own: [ [ IPv4 ], [ IPv6 ] ]");
            }
        }
    }
}

fn exclude_outside(world: &World, found: &mut Found) {
    for range in ranges::all(world).filter(|range| range.ipam == "whereabouts") {
        for node in range.object.get_as_go("exclude").map(Node::items).unwrap_or_default() {
            let (Some(text), Some(cidr)) = (node.text(), range.cidr()) else { continue };
            match Cidr::parse(text) {
                None => {
                    let fix = match text.parse::<IpAddr>() {
                        Ok(address) => {
                            format!("write \"{address}/{}\"", if address.is_ipv4() { 32 } else { 128 })
                        }
                        Err(_) => "write ADDRESS/PREFIX, such as 10.61.0.0/28".to_owned(),
                    };
                    found.add(node.at, format!("{text:?} is no part of a range"), fix);
                }
                Some(part) if !cidr.contains(part.address) => {
                    let message = format!("{text} is not in the range {}", cidr.network());
                    found.add(node.at, message, format!("choose a part of {}, or remove it", cidr.network()));
                }
                Some(_) => {}
            }
        }
    }
}

/// The wire that a plugin's interface is on, as far as the config tells.
fn wire(range: &Range<'_>) -> Option<(&'static str, String)> {
    let key = match range.plugin.kind.as_deref()? {
        "bridge" => "bridge",
        "macvlan" | "ipvlan" => "master",
        _ => return None,
    };
    Some((key, range.plugin.get(key)?.text()?.to_owned()))
}

fn networks_overlap(world: &World, found: &mut Found) {
    let all: Vec<Range<'_>> = ranges::all(world).filter(|range| range.ipam == "host-local").collect();
    let vlan = |range: &Range<'_>| range.plugin.get("vlan").and_then(Node::number);
    for (index, later) in all.iter().enumerate() {
        let shares = |earlier: &&Range<'_>| {
            !std::ptr::eq(earlier.network, later.network)
                && wire(later).is_some()
                && wire(earlier) == wire(later)
                && vlan(earlier) == vlan(later)
                && earlier.network.cni_name() != later.network.cni_name()
                && earlier.overlaps(later)
        };
        let Some(earlier) = all.iter().take(index).find(shares) else { continue };
        let at = later.subnet.map_or(later.object.at, |node| node.at);
        let (_, wire) = wire(later).unwrap_or_default();
        let message =
            format!("{} is on {wire} too and gives out addresses of the same range", earlier.network.shown());
        found.add(
            at,
            message,
            "give each network a range of its own, or both the same \"name\" in their config",
        );
    }
}

fn old_version_addresses(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let version = network.version().and_then(Node::text).unwrap_or("1.0.0");
        if !["0.1.0", "0.2.0"].contains(&version) {
            continue;
        }
        let mut sets: Vec<(usize, bool)> = ranges::of(network, plugin)
            .iter()
            .filter(|range| range.ipam == "host-local")
            .filter_map(|range| Some((range.set, range.cidr()?.address.is_ipv4())))
            .collect();
        sets.dedup();
        let count = |four: bool| sets.iter().filter(|(_, is_four)| *is_four == four).count();
        if let Some(node) = network.version().filter(|_| count(true) > 1 || count(false) > 1) {
            let message =
                format!("CNI {version} knows one address of a family, and this network has several");
            found.add(node.at, message, "write \"1.0.0\"");
        }
    }
}
