//! Which networks a pod asks for, and as which interfaces.

use std::collections::HashMap;

use cni::raw::same_key;

use crate::{
    lint::{
        Found, Rule, World,
        near::nearest,
        pods::{NETWORKS, Selection},
    },
    node::{Node, Value},
};

use super::{
    manifests::{as_label, is_label, is_name},
    values::wrong_interface,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "selection-form",
        why: "the annotation cannot be read, so the pod does not start",
        fix: "write NAME, NAMESPACE/NAME or NAME@INTERFACE, with commas between",
        check: selection_form,
    },
    Rule {
        name: "selection-name",
        why: "no network can have this name, so the pod does not start",
        fix: "use lower case letters, digits and '-'",
        check: selection_name,
    },
    Rule {
        name: "selection-key",
        why: "nobody reads the key, so the pod starts without what it asks for, or not at all",
        fix: "write a key of the list in docs/lint",
        check: selection_key,
    },
    Rule {
        name: "selection-type",
        why: "the annotation cannot be read, so the pod does not start",
        fix: "write the value as the type that the key wants",
        check: selection_type,
    },
    Rule {
        name: "unknown-network",
        why: "no pod starts that asks for a network that does not exist",
        fix: "correct the name or the namespace, or give the file that defines the network too",
        check: unknown_network,
    },
    Rule {
        name: "pod-interface-name",
        why: "the kernel refuses the name, so the pod does not start",
        fix: "use 1 to 15 characters without '/', ':', '%' and blanks",
        check: pod_interface_name,
    },
    Rule {
        name: "interface-taken",
        why: "an interface of a pod has one owner, so the pod does not start",
        fix: "choose another name, or none: then it is net1, net2, … by position",
        check: interface_taken,
    },
];

/// Keys of an element, and what they take.
const KEYS: &[(&str, &str)] = &[
    ("name", "a string"),
    ("namespace", "a string"),
    ("interface", "a string"),
    ("interfaceRequest", "a string"),
    ("ips", "a list"),
    ("mac", "a string"),
    ("infiniband-guid", "a string"),
    ("portMappings", "a list"),
    ("bandwidth", "an object"),
    ("default-route", "a list"),
    ("deviceID", "a string"),
    ("cni-args", "an object"),
    ("ipam-claim-reference", "a string"),
];

fn selection_form(world: &World, found: &mut Found) {
    for (_, selection, _) in world.selections() {
        let example = "write NAME, NAMESPACE/NAME or NAME@INTERFACE, with commas between";
        match (selection.malformed, &selection.object) {
            (Some("there is nothing between the commas"), _) => {
                found.add(
                    selection.at,
                    "there is nothing between two commas or behind the last",
                    "remove the comma",
                );
            }
            (Some(why), _) => found.add(selection.at, format!("this is no network: {why}"), example),
            (None, None) if selection.name.is_none() => {
                found.add(selection.at, "this network has no name", example);
            }
            (None, Some(object)) if !object.entries().is_empty() || matches!(object.value, Value::Map(_)) => {
                let misspelt = object.entries().iter().any(|entry| nearest(&entry.key, ["name"]).is_some());
                if selection.name.is_none() && !misspelt {
                    found.add(selection.at, "this element names no network", "add \"name\"");
                }
            }
            _ => {}
        }
    }
}

fn selection_name(world: &World, found: &mut Found) {
    for (_, selection, _) in world.selections().filter(|(_, selection, _)| selection.malformed.is_none()) {
        let name = selection.name.as_deref().map(|name| ("name", name, Some(selection.name_at)));
        let space = selection.namespace.as_deref().map(|name| ("namespace", name, selection.namespace_at));
        for (what, text, at) in [name, space].into_iter().flatten() {
            let fits = if what == "name" { is_name } else { is_label };
            let Some(at) = at.filter(|_| !fits(text)) else { continue };
            let fix = match as_label(text).as_str() {
                "" => "write a name".to_owned(),
                label => format!("write {label}"),
            };
            found.add(at, format!("{text:?} is no {what} of a network"), fix);
        }
    }
}

fn selection_key(world: &World, found: &mut Found) {
    for object in world.selections().filter_map(|(_, selection, _)| selection.object.as_ref()) {
        for entry in object.entries() {
            if KEYS.iter().any(|(key, _)| same_key(key, &entry.key)) {
                continue;
            }
            let alias = match entry.key.as_str() {
                "macAddress" | "macaddress" | "mac-address" => Some("mac"),
                "ipAddress" | "ipAddresses" | "addresses" => Some("ips"),
                "gateway" | "defaultRoute" | "default_route" => Some("default-route"),
                "interfaceName" | "ifname" => Some("interface"),
                key => nearest(key, KEYS.iter().map(|(key, _)| *key)),
            };
            let fix = match alias {
                Some(key) => format!("write {key:?}"),
                // Keys with a dot are somebody's own, as the standard allows.
                None if entry.key.contains('.') => continue,
                None => "remove it; what plugins read themselves goes into \"cni-args\"".to_owned(),
            };
            found.add(entry.at, format!("a selection has no key {:?}", entry.key), fix);
        }
    }
}

fn selection_type(world: &World, found: &mut Found) {
    for object in world.selections().filter_map(|(_, selection, _)| selection.object.as_ref()) {
        for entry in object.entries().iter().filter(|entry| !entry.node.is_null()) {
            let Some((key, wanted)) = KEYS.iter().find(|(key, _)| same_key(key, &entry.key)) else {
                continue;
            };
            if entry.node.kind() == *wanted {
                continue;
            }
            let fix = match (*wanted, entry.node.text()) {
                ("a list", Some(text)) if !text.contains(',') => format!("put it in brackets: [\"{text}\"]"),
                ("a list", _) => "put it in brackets: [ … ]".to_owned(),
                _ => format!("write {wanted}"),
            };
            found.add(entry.node.at, format!("{key} is {}, not {wanted}", entry.node.kind()), fix);
        }
    }
}

/// Whether a selection is sound enough to look its network up.
fn sound(selection: &Selection) -> bool {
    selection.malformed.is_none()
        && selection.name.as_deref().is_some_and(is_name)
        && selection.namespace.as_deref().is_some_and(is_label)
}

fn unknown_network(world: &World, found: &mut Found) {
    // Without any definition the files are pods alone, and nothing is known of networks.
    if world.networks.is_empty() {
        return;
    }
    for (_, selection, network) in world.selections() {
        let (None, true, Some(name)) = (network, sound(selection), selection.name.as_deref()) else {
            continue;
        };
        let space = selection.namespace.as_deref().unwrap_or_default();
        let names = || {
            world.networks.iter().filter(|known| known.namespace == space).filter_map(|n| n.name.as_deref())
        };
        let elsewhere = world.networks.iter().find(|known| known.name.as_deref() == Some(name));
        let fix = match (elsewhere, nearest(name, names())) {
            (Some(network), _) if selection.object.is_some() => {
                format!("add \"namespace\": {:?}", network.namespace)
            }
            (Some(network), _) => format!("write {}", network.shown()),
            (None, Some(near)) => format!("write {near}"),
            (None, None) => "correct the name, or give the file that defines it too".to_owned(),
        };
        found.add(selection.name_at, format!("no network {space}/{name} is defined in these files"), fix);
    }
}

fn pod_interface_name(world: &World, found: &mut Found) {
    for (_, selection, _) in world.selections().filter(|(_, selection, _)| selection.malformed.is_none()) {
        let Some((name, at)) = &selection.interface else { continue };
        if let Some((why, fix)) = wrong_interface(name) {
            let why = if name.is_empty() { "is empty".to_owned() } else { why };
            found.add(*at, format!("the interface {name:?} {why}"), fix);
        }
    }
}

fn interface_taken(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks).filter(|asks| asks.key == NETWORKS) {
        let mut owners: HashMap<String, String> = HashMap::new();
        owners.insert("eth0".to_owned(), "the primary network".to_owned());
        owners.insert("lo".to_owned(), "the loopback".to_owned());
        for (position, selection) in asks.selections().iter().enumerate() {
            let own = format!("net{}", position + 1);
            let (name, at) = match &selection.interface {
                Some((name, at)) => (name.clone(), *at),
                None => (own, selection.at),
            };
            match owners.get(&name) {
                Some(owner) => {
                    let message = format!("{owner} has the interface {name} already");
                    found.add(at, message, "choose another interface name");
                }
                None => {
                    owners.insert(name, selection.shown());
                }
            }
        }
    }
}

/// The elements of a list of an element, such as `ips`, that are strings.
pub(super) fn texts<'a>(selection: &'a Selection, key: &str) -> Vec<(&'a Node, &'a str)> {
    let items = selection.get(key).map(Node::items).unwrap_or_default();
    items.iter().filter_map(|node| Some((node, node.text()?))).collect()
}
