//! Values that a key cannot have.

use crate::{
    lint::{Found, Rule, World, knowledge::Takes, near::nearest, ranges},
    node::{Node, Value},
};

use super::keys::keyed;

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "value-type",
        why: "the plugin cannot decode its config, so no pod that asks for the network starts",
        fix: "write the value as the type that the key wants",
        check: value_type,
    },
    Rule {
        name: "value-word",
        why: "the plugin knows no such word, so no pod that asks for the network starts",
        fix: "write one of the words that the key knows",
        check: value_word,
    },
    Rule {
        name: "value-range",
        why: "the plugin or the kernel refuses the number, so no pod that asks for the network starts",
        fix: "choose a number of the range",
        check: value_range,
    },
    Rule {
        name: "mac-address",
        why: "an interface needs six bytes that name one station, so no pod that asks for the network starts",
        fix: "write six bytes such as 02:11:22:33:44:55; the first one even, and not all zero",
        check: mac_address,
    },
    Rule {
        name: "interface-name",
        why: "the kernel refuses the name, so no pod that asks for the network starts",
        fix: "use 1 to 15 characters without '/', ':', '%' and blanks",
        check: interface_name,
    },
    Rule {
        name: "mtu",
        why: "the kernel refuses the size, or IPv6 does not work below 1280",
        fix: "choose 68 to 65535, with IPv6 1280 or more; 1500 is usual",
        check: mtu,
    },
    Rule {
        name: "vlan-id",
        why: "a VLAN has a number from 1 to 4094, so no pod that asks for the network starts",
        fix: "choose a number from 1 to 4094",
        check: vlan_id,
    },
    Rule {
        name: "master-here",
        why: "the plugin finds no such interface on the node, so no pod that asks for the network starts",
        fix: "name an interface that the node has; checked with --host or --interfaces only",
        check: master_here,
    },
    Rule {
        name: "sysctl",
        why: "tuning sets parameters below net with values in quotes, and refuses others",
        fix: "write \"net.….….…\": \"VALUE\"",
        check: sysctl,
    },
];

/// Every value whose key is known: what has it, the key as it should be spelt, what it takes, the value.
fn known_values(world: &World) -> Vec<(String, &'static str, &'static Takes, Node)> {
    let mut values = Vec::new();
    for keyed in keyed(world) {
        for entry in keyed.object.entries().iter().filter(|entry| !entry.node.is_null()) {
            if let Some((name, takes)) = keyed.takes(&entry.key) {
                values.push((keyed.what.clone(), name, takes, entry.node.clone()));
            }
        }
    }
    values
}

fn value_type(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let wanted = match takes {
            Takes::Any => continue,
            Takes::Text | Takes::Word(_) | Takes::Mac | Takes::Interface | Takes::Master => "a string",
            Takes::Switch => "true or false",
            Takes::Number(_) | Takes::Mtu | Takes::Vlan => "a number",
            Takes::List => "a list",
            Takes::Map => "an object",
        };
        if node.kind() == wanted {
            continue;
        }
        // `plugins-not-list` and `ranges-shape` tell it better.
        if ["plugins", "ranges"].contains(&key) {
            continue;
        }
        let shown = node.shown();
        let fix = match (wanted, &node.value) {
            ("a string", Value::Number(_) | Value::Switch(_)) => format!("put it in quotes: \"{shown}\""),
            ("a number", Value::Text(_)) if shown.trim().parse::<i128>().is_ok() => {
                format!("remove the quotes: {}", shown.trim())
            }
            ("true or false", Value::Text(_)) if ["true", "false"].contains(&shown.as_str()) => {
                format!("remove the quotes: {shown}")
            }
            ("a list", Value::Text(_) | Value::Map(_) | Value::Number(_)) => {
                "put it in brackets: [ … ]".to_owned()
            }
            ("an object", Value::List(_)) if key == "capabilities" => {
                let names: Vec<String> =
                    node.items().iter().map(|item| format!("\"{}\": true", item.shown())).collect();
                format!("write {{ {} }}", names.join(", "))
            }
            _ => format!("write {wanted}"),
        };
        found.add(node.at, format!("{key} of {what} is {}, not {wanted}", node.kind()), fix);
    }
}

fn value_word(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Word(words), Some(word)) = (takes, node.text()) else { continue };
        // An empty word is the default.
        if word.is_empty() || words.contains(&word) {
            continue;
        }
        let fix = match nearest(word, words.iter().copied()) {
            Some(near) => format!("write {near:?}"),
            None => format!("write one of {}", words.join(", ")),
        };
        found.add(node.at, format!("{key} of {what} cannot be {word:?}: it knows {}", words.join(", ")), fix);
    }
}

fn value_range(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Number(range), Value::Number(text)) = (takes, &node.value) else { continue };
        if node.number().is_none_or(|number| !range.contains(&number)) {
            let message = format!("{key} of {what} cannot be {text}");
            found.add(
                node.at,
                message,
                format!("choose a whole number from {} to {}", range.start(), range.end()),
            );
        }
    }
}

/// What is wrong with a hardware address for an interface of a pod.
pub(super) fn wrong_mac(text: &str) -> Option<(&'static str, String)> {
    let example = || "write six bytes such as 02:11:22:33:44:55".to_owned();
    // Go also reads pairs of bytes with dots between.
    let pairs = text.split('.').all(|pair| pair.len() == 4 && pair.is_ascii());
    let parts: Vec<&str> = match pairs {
        true => text.split('.').flat_map(|pair| [&pair[..2], &pair[2..]]).collect(),
        false => text.split([':', '-']).collect(),
    };
    let byte = |part: &&str| (part.len() == 2).then(|| u8::from_str_radix(part, 16).ok()).flatten();
    let bytes: Option<Vec<u8>> = parts.iter().map(byte).collect();
    match bytes.as_deref() {
        Some([first, ..]) if parts.len() == 6 && first & 1 == 1 => {
            let mut own = parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
            if let Some(begin) = own.first_mut() {
                *begin = format!("{:02x}", (first & 0xfe) | 2);
            }
            Some((
                "names a group of stations, not one",
                format!("make the first byte even: {}", own.join(":")),
            ))
        }
        Some([0, 0, 0, 0, 0, 0]) => Some(("is all zero", example())),
        Some(bytes) if bytes.len() == 6 => None,
        Some(bytes) if bytes.len() != 6 => Some(("has not six bytes", example())),
        _ => Some(("is no hardware address", example())),
    }
}

fn mac_address(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Mac, Some(mac)) = (takes, node.text()) else { continue };
        if let Some((why, fix)) = wrong_mac(mac).filter(|_| !mac.is_empty()) {
            found.add(node.at, format!("{key} of {what}: {mac:?} {why}"), fix);
        }
    }
}

/// What is wrong with the name of an interface.
pub(super) fn wrong_interface(name: &str) -> Option<(String, String)> {
    if cni::env::valid_ifname(name) {
        return None;
    }
    let fine: String = name
        .chars()
        .filter(|c| !(matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()))
        .collect();
    let mut cut = fine.len().min(15);
    while !fine.is_char_boundary(cut) {
        cut -= 1;
    }
    let fix = match fine.get(..cut).unwrap_or_default() {
        "" | "." | ".." => "write a name such as net1".to_owned(),
        short => format!("write {short:?}"),
    };
    let why = if fine.len() != name.len() {
        "has a sign that no interface name may have".to_owned()
    } else {
        format!("has {} characters, 15 are the most", name.len())
    };
    Some((why, fix))
}

fn interface_name(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Interface | Takes::Master, Some(name)) = (takes, node.text()) else { continue };
        if let Some((why, fix)) = wrong_interface(name).filter(|_| !name.is_empty()) {
            found.add(node.at, format!("{key} of {what}: {name:?} {why}"), fix);
        }
    }
}

fn mtu(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let Some((known, node)) = plugin.known().zip(plugin.get("mtu")) else { continue };
        let takes_one = known.keys.iter().any(|(key, takes)| *key == "mtu" && matches!(takes, Takes::Mtu));
        let Value::Number(text) = &node.value else { continue };
        let number = node.number().unwrap_or(-1);
        // 0 is the default: the size of the interface below.
        if !takes_one || number == 0 {
            continue;
        }
        let six = ranges::subnets(network, plugin).iter().any(|subnet| subnet.address.is_ipv6());
        let least = if six { 1280 } else { 68 };
        if !(least..=65535).contains(&number) {
            let for_six = if six { " with IPv6" } else { "" };
            let message = format!("{text} is no MTU of an interface{for_six}");
            found.add(
                node.at,
                message,
                format!("choose {least} to 65535; 1500 is usual, 9000 for jumbo frames"),
            );
        }
    }
}

fn vlan_id(world: &World, found: &mut Found) {
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Vlan, Value::Number(text)) = (takes, &node.value) else { continue };
        if node.number().is_none_or(|number| !(0..=4094).contains(&number)) {
            found.add(
                node.at,
                format!("{key} of {what}: there is no VLAN {text}"),
                "choose a number from 1 to 4094",
            );
        }
    }
    for (_, plugin) in world.plugins().filter(|(_, plugin)| plugin.is("bridge")) {
        for trunk in plugin.get("vlanTrunk").map(Node::items).unwrap_or_default() {
            trunk_id(trunk, found);
        }
    }
}

/// One element of `vlanTrunk`: an `id`, or `minID` and `maxID`.
fn trunk_id(trunk: &Node, found: &mut Found) {
    let id = |key: &str| trunk.get_as_go(key).and_then(|node| Some((node.at, node.number()?)));
    for (at, number) in ["id", "minID", "maxID"].iter().filter_map(|key| id(key)) {
        if !(0..=4094).contains(&number) {
            found.add(at, format!("vlanTrunk: there is no VLAN {number}"), "choose a number from 1 to 4094");
        }
    }
    match (id("minID"), id("maxID")) {
        (Some((at, low)), Some((_, high))) if low > high => {
            found.add(at, format!("vlanTrunk: minID {low} is above maxID {high}"), "exchange the two");
        }
        (Some((at, _)), None) => found.add(at, "vlanTrunk: minID has no maxID", "add maxID"),
        (None, Some((at, _))) => found.add(at, "vlanTrunk: maxID has no minID", "add minID"),
        _ => {}
    }
}

fn master_here(world: &World, found: &mut Found) {
    let Some(interfaces) = &world.here.interfaces else { return };
    for (what, key, takes, node) in known_values(world) {
        let (Takes::Master, Some(name)) = (takes, node.text()) else { continue };
        let fits = name.is_empty()
            || wrong_interface(name).is_some()
            || interfaces.iter().any(|known| known == name);
        if !fits {
            let message = format!("{key} of {what}: the node has no interface {name:?}");
            found.add(node.at, message, format!("choose one of {}", interfaces.join(", ")));
        }
    }
}

fn sysctl(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins().filter(|(_, plugin)| plugin.is("tuning")) {
        for entry in plugin.get("sysctl").map(Node::entries).unwrap_or_default() {
            let key = entry.key.replace('/', ".");
            if !key.starts_with("net.") {
                let message = format!("tuning sets no parameter {:?}: it is not below net", entry.key);
                found.add(entry.at, message, "set it in the pod's securityContext.sysctls, or on the node");
            } else if entry.node.text().is_none() {
                let message = format!("the value of {} is {}, not a string", entry.key, entry.node.kind());
                found.add(entry.node.at, message, format!("put it in quotes: \"{}\"", entry.node.shown()));
            }
        }
    }
}
