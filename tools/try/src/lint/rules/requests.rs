//! What a pod asks of a network: addresses, routes, ports, rates.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use crate::{
    lint::{
        Found, Rule, World,
        cidr::{Cidr, same_family},
        near::nearest,
        pods::{NETWORKS, Selection},
        ranges::{self, Range},
        world::Network,
    },
    node::{Node, Value},
    source::At,
};

use super::{selections::texts, values::wrong_mac};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "requested-ip",
        why: "the annotation cannot be read, so the pod does not start",
        fix: "write addresses, with or without prefix length: [\"10.61.0.5/24\"]",
        check: requested_ip,
    },
    Rule {
        name: "requested-ip-prefix",
        why: "static has no subnet of its own and needs the prefix length, so the pod does not start",
        fix: "write ADDRESS/PREFIX",
        check: requested_ip_prefix,
    },
    Rule {
        name: "requested-ip-outside",
        why: "host-local gives no address that is outside of its ranges, so the pod does not start",
        fix: "ask for an address of the network's range",
        check: requested_ip_outside,
    },
    Rule {
        name: "requested-ip-gateway",
        why: "the address is the gateway's; host-local refuses to give it to a pod",
        fix: "ask for another address",
        check: requested_ip_gateway,
    },
    Rule {
        name: "requested-mac",
        why: "an interface needs six bytes that name one station, so the pod does not start",
        fix: "write six bytes such as 02:11:22:33:44:55; the first one even, and not all zero",
        check: requested_mac,
    },
    Rule {
        name: "address-twice",
        why: "two interfaces with one address disturb each other, or the second pod does not start",
        fix: "ask for different addresses",
        check: address_twice,
    },
    Rule {
        name: "address-for-many",
        why: "all pods of the template ask for the same address: the second does not start, or disturbs the first",
        fix: "leave the address to the network, or make one object of each pod",
        check: address_for_many,
    },
    Rule {
        name: "infiniband-guid",
        why: "a GUID has eight bytes; with another number the pod does not start",
        fix: "write eight bytes such as c2:11:22:33:44:55:66:77",
        check: infiniband_guid,
    },
    Rule {
        name: "port-mapping",
        why: "the port cannot be mapped, so the pod does not start",
        fix: "write { \"hostPort\": 8080, \"containerPort\": 80, \"protocol\": \"tcp\" }, ports from 1 to 65535",
        check: port_mapping,
    },
    Rule {
        name: "bandwidth-request",
        why: "a limit of nothing, or one of rate and burst alone, is refused",
        fix: "give rate and burst above 0, in bits a second and bits",
        check: bandwidth_request,
    },
    Rule {
        name: "default-route-address",
        why: "the annotation cannot be read, so the pod does not start",
        fix: "write the gateway's address, such as [\"10.61.0.1\"]",
        check: default_route_address,
    },
    Rule {
        name: "default-route-outside",
        why: "the pod cannot reach the gateway over this network, so it does not start",
        fix: "choose a gateway of the network's subnet",
        check: default_route_outside,
    },
    Rule {
        name: "default-route-twice",
        why: "a pod has one default route; the annotation is refused",
        fix: "leave default-route on one network",
        check: default_route_twice,
    },
    Rule {
        name: "ips-and-claim",
        why: "an IPAM claim names the addresses itself; with ips beside it the annotation is refused",
        fix: "remove one of the two",
        check: ips_and_claim,
    },
];

fn address(text: &str) -> Option<IpAddr> {
    Cidr::parse(text).map(|cidr| cidr.address).or_else(|| text.parse().ok())
}

fn all_ips(world: &World) -> impl Iterator<Item = (&Selection, Option<&Network>, &Node, &str)> {
    world.selections().flat_map(|(_, selection, network)| {
        texts(selection, "ips").into_iter().map(move |(node, text)| (selection, network, node, text))
    })
}

fn requested_ip(world: &World, found: &mut Found) {
    for (_, _, node, text) in all_ips(world).filter(|(.., text)| address(text).is_none()) {
        let fix = match text.parse::<SocketAddr>() {
            Ok(socket) => format!("write \"{}\"", socket.ip()),
            Err(_) => "write an address, with or without prefix length".to_owned(),
        };
        found.add(node.at, format!("{text:?} is no address"), fix);
    }
}

fn requested_ip_prefix(world: &World, found: &mut Found) {
    for (_, network, node, text) in all_ips(world) {
        let by_static = network
            .and_then(Network::parsed)
            .is_some_and(|parsed| parsed.plugins.iter().any(|plugin| plugin.ipam_kind() == Some("static")));
        if let Ok(address) = text.parse::<IpAddr>()
            && by_static
        {
            let prefix = if address.is_ipv4() { 24 } else { 64 };
            let message = format!("{text} has no prefix length, and the network's ipam is static");
            found.add(node.at, message, format!("write \"{address}/{prefix}\""));
        }
    }
}

/// The ranges of host-local in a network.
fn host_local(network: &Network) -> Vec<Range<'_>> {
    let plugins = network.parsed().map(|parsed| parsed.plugins.as_slice()).unwrap_or_default();
    let ranges = plugins.iter().flat_map(|plugin| ranges::of(network, plugin));
    ranges.filter(|range| range.ipam == "host-local").collect()
}

fn requested_ip_outside(world: &World, found: &mut Found) {
    for (_, network, node, text) in all_ips(world) {
        let (Some(network), Some(ip)) = (network, address(text)) else { continue };
        let ranges = host_local(network);
        let bounds: Option<Vec<(IpAddr, IpAddr)>> = ranges.iter().map(Range::bounds).collect();
        let Some(bounds) = bounds.filter(|bounds| !bounds.is_empty() && !network.declares("ipRanges")) else {
            continue;
        };
        if !bounds.iter().any(|(first, last)| same_family(*first, ip) && (first..=last).contains(&&ip)) {
            let of: Vec<String> = ranges.iter().map(Range::shown).collect();
            let message = format!("{ip} is not in the range of {}", network.shown());
            found.add(node.at, message, format!("choose one of {}", of.join(" or ")));
        }
    }
}

fn requested_ip_gateway(world: &World, found: &mut Found) {
    for (_, network, node, text) in all_ips(world) {
        let (Some(network), Some(ip)) = (network, address(text)) else { continue };
        let gateway = |range: &Range<'_>| {
            let written = range.gateway.and_then(Node::text).and_then(|text| text.parse().ok());
            // Unless it is told, host-local takes the first address.
            written.or_else(|| Some(range.cidr()?.first_host()))
        };
        if host_local(network).iter().any(|range| gateway(range) == Some(ip)) {
            let message = format!("{ip} is the gateway of {}", network.shown());
            found.add(node.at, message, "ask for another address");
        }
    }
}

fn requested_mac(world: &World, found: &mut Found) {
    for node in world.selections().filter_map(|(_, selection, _)| selection.get("mac")) {
        let Some(mac) = node.text() else { continue };
        if let Some((why, fix)) = wrong_mac(mac) {
            found.add(node.at, format!("mac {mac:?} {why}"), fix);
        }
    }
}

/// Addresses that a selection fixes, hardware addresses too, in one spelling.
fn fixed(selection: &Selection) -> Vec<(At, String)> {
    let ips = texts(selection, "ips").into_iter();
    let ips = ips.filter_map(|(node, text)| Some((node.at, address(text)?.to_string())));
    let mac = selection.get("mac").and_then(|node| Some((node.at, node.text()?.to_ascii_lowercase())));
    ips.chain(mac).collect()
}

fn address_twice(world: &World, found: &mut Found) {
    let mut owners: HashMap<(usize, String), String> = HashMap::new();
    for (pod, selection, network) in world.selections() {
        let (Some(index), Some(network)) = (selection.network, network) else { continue };
        for (at, address) in fixed(selection) {
            let owner = format!("{} asks {} for {address} too", pod.shown(), network.shown());
            if let Some(first) = owners.insert((index, address), owner) {
                found.add(at, first, "ask for different addresses");
            }
        }
    }
}

fn address_for_many(world: &World, found: &mut Found) {
    for (pod, selection, _) in world.selections().filter(|(pod, ..)| pod.many()) {
        if let Some((at, address)) = fixed(selection).into_iter().next() {
            let message = format!("all pods of {} ask for {address}", pod.shown());
            found.add(at, message, "leave the address to the network, or make one object of each pod");
        }
    }
}

fn infiniband_guid(world: &World, found: &mut Found) {
    for node in world.selections().filter_map(|(_, selection, _)| selection.get("infiniband-guid")) {
        let Some(text) = node.text() else { continue };
        let byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        if text.split([':', '-']).count() != 8 || !text.split([':', '-']).all(byte) {
            let message = format!("{text:?} is no GUID");
            found.add(node.at, message, "write eight bytes such as c2:11:22:33:44:55:66:77");
        }
    }
}

fn port_mapping(world: &World, found: &mut Found) {
    let keys = ["hostPort", "containerPort", "protocol", "hostIP"];
    for mappings in world.selections().filter_map(|(_, selection, _)| selection.get("portMappings")) {
        for mapping in mappings.items() {
            for key in ["hostPort", "containerPort"] {
                match mapping.get(key) {
                    Some(node) if node.number().is_some_and(|port| (1..=65535).contains(&port)) => {}
                    Some(node) => {
                        let message = format!("{key} {} is no port", node.shown());
                        let quoted =
                            node.text().is_some_and(|text| text.parse::<u16>().is_ok_and(|port| port > 0));
                        let fix =
                            if quoted { "remove the quotes" } else { "choose a number from 1 to 65535" };
                        found.add(node.at, message, fix);
                    }
                    None if mapping.entries().iter().any(|entry| nearest(&entry.key, [key]).is_some()) => {}
                    None => {
                        found.add(mapping.at, format!("this mapping has no {key}"), format!("add {key:?}"))
                    }
                }
            }
            for entry in mapping.entries().iter().filter(|entry| !keys.contains(&entry.key.as_str())) {
                let fix =
                    nearest(&entry.key, keys).map_or("remove it".to_owned(), |key| format!("write {key:?}"));
                found.add(entry.at, format!("a port mapping has no key {:?}", entry.key), fix);
            }
            let protocol = mapping.get("protocol").and_then(|node| Some((node, node.text()?)));
            if let Some((node, word)) = protocol
                && !["tcp", "udp", "sctp"].contains(&word.to_ascii_lowercase().as_str())
            {
                found.add(node.at, format!("{word:?} is no protocol with ports"), "write tcp, udp or sctp");
            }
        }
    }
}

fn bandwidth_request(world: &World, found: &mut Found) {
    let keys = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
    for limits in world.selections().filter_map(|(_, selection, _)| selection.get("bandwidth")) {
        if limits.entries().is_empty() && matches!(limits.value, Value::Map(_)) {
            found.add(
                limits.at,
                "this bandwidth limits nothing",
                "add ingressRate and ingressBurst, or remove it",
            );
        }
        for entry in limits.entries() {
            if !keys.contains(&entry.key.as_str()) {
                let fix =
                    nearest(&entry.key, keys).map_or("remove it".to_owned(), |key| format!("write {key:?}"));
                found.add(entry.at, format!("bandwidth has no key {:?}", entry.key), fix);
            } else if entry.node.number().is_none_or(|number| number < 1) {
                let message = format!("{} is no limit for {}", entry.node.shown(), entry.key);
                found.add(entry.node.at, message, "write a number of bits above 0, without quotes");
            }
        }
        for (rate, burst) in [("ingressRate", "ingressBurst"), ("egressRate", "egressBurst")] {
            if let (Some(entry), None) = (limits.entry(burst), limits.entry(rate)) {
                found.add(entry.at, format!("{burst} needs {rate}"), format!("add {rate:?}"));
            }
        }
    }
}

fn default_routes(world: &World) -> impl Iterator<Item = (Option<&Network>, &Node, &str)> {
    world.selections().flat_map(|(_, selection, network)| {
        texts(selection, "default-route").into_iter().map(move |(node, text)| (network, node, text))
    })
}

fn default_route_address(world: &World, found: &mut Found) {
    for (_, node, text) in default_routes(world).filter(|(.., text)| text.parse::<IpAddr>().is_err()) {
        let fix = match Cidr::parse(text) {
            Some(cidr) => format!("remove the prefix length: \"{}\"", cidr.address),
            None => "write the gateway's address, such as \"10.61.0.1\"".to_owned(),
        };
        found.add(node.at, format!("default-route {text:?} is no address"), fix);
    }
}

fn default_route_outside(world: &World, found: &mut Found) {
    for (network, node, text) in default_routes(world) {
        let (Some(network), Ok(gateway)) = (network, text.parse::<IpAddr>()) else { continue };
        let plugins = network.parsed().map(|parsed| parsed.plugins.as_slice()).unwrap_or_default();
        let subnets: Vec<Cidr> = plugins.iter().flat_map(|plugin| ranges::subnets(network, plugin)).collect();
        // Addresses that pods bring along may be of any subnet.
        let told = !subnets.is_empty() && !plugins.iter().any(|plugin| plugin.ipam_kind() == Some("static"));
        if told && !subnets.iter().any(|subnet| subnet.contains(gateway)) {
            let of: Vec<String> = subnets.iter().map(|subnet| subnet.network().to_string()).collect();
            let of = of.join(" or ");
            found.add(
                node.at,
                format!("the gateway {gateway} is not in {of}"),
                format!("choose an address of {of}"),
            );
        }
    }
}

fn default_route_twice(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks).filter(|asks| asks.key == NETWORKS) {
        // One network for each family; an empty list takes both.
        let mut taken = [false; 2];
        for selection in asks.selections() {
            let Some(node) =
                selection.get("default-route").filter(|node| matches!(node.value, Value::List(_)))
            else {
                continue;
            };
            let routes = texts(selection, "default-route");
            let of = |four: bool| {
                let family = |text: &str| text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv4() == four);
                node.items().is_empty() || routes.iter().any(|(_, text)| family(text))
            };
            let wants = [of(true), of(false)];
            if wants.iter().zip(taken).any(|(wants, taken)| *wants && taken) {
                found.add(
                    node.at,
                    "another network of this pod has the default route already",
                    "leave it on one network",
                );
            }
            taken = [taken[0] || wants[0], taken[1] || wants[1]];
        }
    }
}

fn ips_and_claim(world: &World, found: &mut Found) {
    for (_, selection, _) in world.selections() {
        if let (Some(_), Some(node)) = (selection.get("ips"), selection.get("ipam-claim-reference")) {
            found.add(node.at, "ipam-claim-reference stands beside ips", "remove one of the two");
        }
    }
}
