//! Keys that nobody reads.

use crate::{
    lint::{
        Found, Rule, World,
        knowledge::{ADDRESS, COMMON, LIST, RANGE, ROUTE, Takes, known},
        near::nearest,
    },
    node::Node,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "unknown-key",
        why: "the plugin ignores keys it does not know, so the setting has no effect",
        fix: "correct the key, or remove it",
        check: unknown_key,
    },
    Rule {
        name: "misplaced-key",
        why: "the plugin looks for the key elsewhere, so the setting has no effect here",
        fix: "move the key to where it is read",
        check: misplaced_key,
    },
];

/// One object whose keys are known.
pub(super) struct Keyed<'a> {
    /// What it is, for people.
    pub(super) what: String,
    /// The object.
    pub(super) object: &'a Node,
    /// What it may have.
    pub(super) tables: Vec<&'static [(&'static str, Takes)]>,
    /// These are all.
    pub(super) complete: bool,
}

impl Keyed<'_> {
    /// The names of its keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tables.iter().flat_map(|table| table.iter().map(|(name, _)| *name))
    }

    /// What a key takes, as Go's decoder finds it.
    pub(super) fn takes(&self, key: &str) -> Option<(&'static str, &'static Takes)> {
        let mut all = self.tables.iter().flat_map(|table| table.iter());
        all.find(|(name, _)| cni::raw::same_key(name, key)).map(|(name, takes)| (*name, takes))
    }
}

/// Every object of every network whose keys are known.
pub(super) fn keyed(world: &World) -> Vec<Keyed<'_>> {
    let mut all = Vec::new();
    for parsed in world.networks.iter().filter_map(|network| network.parsed()).filter(|parsed| parsed.list) {
        all.push(Keyed { what: "a list".into(), object: &parsed.root, tables: vec![LIST], complete: false });
    }
    for (_, plugin) in world.plugins() {
        let known_plugin = plugin.known();
        let what = plugin.kind.clone().unwrap_or_else(|| "a plugin".to_owned());
        let own = known_plugin.map_or(&[] as &[_], |known| known.keys);
        let complete = known_plugin.is_some_and(|known| known.complete);
        all.push(Keyed { what, object: &plugin.object, tables: vec![COMMON, own], complete });
        let (Some(ipam), Some(kind)) = (plugin.ipam(), plugin.ipam_kind()) else { continue };
        let Some(known_ipam) = known(kind) else { continue };
        let complete = known_ipam.complete;
        // static and host-local read a name too, and use it for nothing.
        const NAMES: &[(&str, Takes)] = &[("type", Takes::Text), ("name", Takes::Text)];
        all.push(Keyed {
            what: kind.to_owned(),
            object: ipam,
            tables: vec![NAMES, known_ipam.keys],
            complete,
        });
        let inner = |key: &str| ipam.get_as_go(key).map(Node::items).unwrap_or_default();
        for route in inner("routes") {
            all.push(Keyed { what: "a route".into(), object: route, tables: vec![ROUTE], complete: true });
        }
        if kind == "static" {
            for address in inner("addresses") {
                all.push(Keyed {
                    what: "an address".into(),
                    object: address,
                    tables: vec![ADDRESS],
                    complete: true,
                });
            }
        }
        if kind == "host-local" {
            for set in inner("ranges") {
                let ranges = if set.entries().is_empty() { set.items() } else { std::slice::from_ref(set) };
                for range in ranges {
                    all.push(Keyed {
                        what: "a range".into(),
                        object: range,
                        tables: vec![RANGE],
                        complete: true,
                    });
                }
            }
        }
    }
    all
}

/// Where a key belongs that people often put a level too high or too low.
fn belongs(what: &str, key: &str) -> Option<&'static str> {
    const IPAM: &[&str] = &[
        "subnet",
        "rangeStart",
        "rangeEnd",
        "ranges",
        "routes",
        "addresses",
        "range",
        "range_start",
        "range_end",
    ];
    const PLUGIN: &[&str] =
        &["master", "mode", "mtu", "bridge", "isGateway", "isDefaultGateway", "ipMasq", "vlan"];
    let ipam = ["host-local", "static", "dhcp", "whereabouts"].contains(&what);
    if what == "a range" && key == "routes" {
        Some("ipam, beside ranges")
    } else if !ipam && known(what).is_some() && (IPAM.contains(&key) || key == "gateway") {
        Some("ipam")
    } else if ipam && PLUGIN.contains(&key) {
        Some("the plugin, beside ipam")
    } else {
        None
    }
}

/// Keys that people use for notes, or that belong to a tool of their own.
fn is_note(key: &str) -> bool {
    key.contains(['.', '/']) || key.starts_with(['_', '$', '#']) || key.eq_ignore_ascii_case("comment")
}

fn misplaced_key(world: &World, found: &mut Found) {
    for keyed in keyed(world).iter().filter(|keyed| keyed.complete) {
        for entry in keyed.object.entries().iter().filter(|entry| keyed.takes(&entry.key).is_none()) {
            if let Some(place) = belongs(&keyed.what, &entry.key) {
                let message = format!("{} does not read {:?} here", keyed.what, entry.key);
                found.add(entry.at, message, format!("move it into {place}"));
            }
        }
    }
}

fn unknown_key(world: &World, found: &mut Found) {
    for keyed in keyed(world) {
        for entry in keyed.object.entries() {
            if keyed.takes(&entry.key).is_some()
                || is_note(&entry.key)
                || belongs(&keyed.what, &entry.key).is_some()
            {
                continue;
            }
            // `missing-type` tells of a type that is misspelt.
            if keyed.object.get_as_go("type").is_none() && nearest(&entry.key, ["type"]).is_some() {
                continue;
            }
            let near = nearest(&entry.key, keyed.names());
            let fix = match near {
                Some(name) => format!("write {name:?}"),
                None if keyed.complete => {
                    "remove it, or correct it to a key of the plugin's manual".to_owned()
                }
                None => continue,
            };
            found.add(entry.at, format!("{} has no key {:?}", keyed.what, entry.key), fix);
        }
    }
}
