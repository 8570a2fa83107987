//! The config as a whole: what it is, which version, which plugins.

use cni::{config::valid_network_name, version::SUPPORTED};

use crate::{
    lint::{
        Found, Rule, World,
        knowledge::{self, MULTUS, Role},
        near::nearest,
        world::{Network, Parsed},
    },
    node::{Entry, Node, Value},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "config-not-object",
        why: "a CNI config is a JSON object, so no pod that asks for the network starts",
        fix: "write one object: { \"cniVersion\": …, \"type\": … }",
        check: config_not_object,
    },
    Rule {
        name: "config-name",
        why: "CNI plugins refuse the name, so no pod that asks for the network starts",
        fix: "use letters, digits, '.', '_' and '-', a letter or digit first",
        check: config_name,
    },
    Rule {
        name: "cni-version",
        why: "no plugin speaks this version of CNI, so no pod that asks for the network starts",
        fix: "write a version that exists: 1.0.0 suits all plugins of today",
        check: cni_version,
    },
    Rule {
        name: "missing-version",
        why: "CNI then means 0.1.0, whose results name no interface: the pod's network-status stays half empty, and CHECK is impossible",
        fix: "add \"cniVersion\": \"1.0.0\"",
        check: missing_version,
    },
    Rule {
        name: "plugin-version",
        why: "plugins of a list get the list's version; the other is ignored",
        fix: "remove cniVersion from the plugin, or change the list's",
        check: plugin_version,
    },
    Rule {
        name: "runtime-key",
        why: "only a runtime may say this to a plugin; it is dropped from a network definition",
        fix: "remove it; what pods ask for goes into their annotation",
        check: runtime_key,
    },
    Rule {
        name: "missing-type",
        why: "without a type nobody knows which plugin to run, so no pod that asks for the network starts",
        fix: "add \"type\" with the plugin's name",
        check: missing_type,
    },
    Rule {
        name: "type-and-plugins",
        why: "a config is one plugin or a list of plugins; which of the two counts differs between readers",
        fix: "move the plugin into the list, or remove the list",
        check: type_and_plugins,
    },
    Rule {
        name: "plugins-not-list",
        why: "plugins is a list of objects, so no pod that asks for the network starts",
        fix: "write \"plugins\": [ { … } ]",
        check: plugins_not_list,
    },
    Rule {
        name: "plugin-path",
        why: "a type is the bare name of a file in the node's CNI folder; paths are refused",
        fix: "write the file name alone",
        check: plugin_path,
    },
    Rule {
        name: "multus-in-multus",
        why: "Multus would call itself; it is refused",
        fix: "name the plugin that does the work",
        check: multus_in_multus,
    },
    Rule {
        name: "unknown-plugin",
        why: "if no such plugin is installed on the node, no pod that asks for the network starts",
        fix: "correct the name; for a plugin of your own, allow this rule or give --plugin-dir",
        check: unknown_plugin,
    },
    Rule {
        name: "ipam-as-plugin",
        why: "the plugin only gives addresses: it makes no interface, and belongs into ipam",
        fix: "write it as \"ipam\": { \"type\": … } of the plugin that makes the interface",
        check: ipam_as_plugin,
    },
];

fn parsed(world: &World) -> impl Iterator<Item = (&Network, &Parsed)> {
    world.networks.iter().filter_map(|network| Some((network, network.parsed()?)))
}

fn config_not_object(world: &World, found: &mut Found) {
    for (network, parsed) in parsed(world) {
        if !matches!(parsed.root.value, Value::Map(_)) {
            let what = parsed.root.kind();
            let fix = match &parsed.root.value {
                Value::List(_) => "write one object; for several plugins { \"plugins\": [ … ] }",
                Value::Text(_) => "write the JSON itself, not JSON in a string",
                _ => "write one object: { \"cniVersion\": …, \"type\": … }",
            };
            found.add(
                parsed.root.at,
                format!("spec.config of {} is {what}, not an object", network.shown()),
                fix,
            );
        }
    }
}

fn config_name(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world) {
        let Some(node) = parsed.root.get_as_go("name") else { continue };
        if let Some(name) = node.text().filter(|name| !name.is_empty() && !valid_network_name(name)) {
            let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
            let name_fit: String = name.chars().map(plain).collect();
            let fix = format!("write {:?}", name_fit.trim_start_matches(['.', '_', '-']));
            found.add(node.at, format!("{name:?} is no name of a CNI network"), fix);
        }
    }
}

fn cni_version(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world) {
        let Some(node) = parsed.root.get_as_go("cniVersion") else { continue };
        let offered = parsed.root.get_as_go("cniVersions").map(Node::items).unwrap_or_default();
        let spoken = |version: &str| SUPPORTED.contains(&version);
        if offered.iter().filter_map(Node::text).any(spoken) {
            continue;
        }
        match node.text() {
            Some("") => {}
            Some(version) if spoken(version) => {}
            Some(version) => {
                let near = SUPPORTED
                    .iter()
                    .rev()
                    .find(|known| known.starts_with(version) || version.starts_with(*known));
                let fix = near.copied().unwrap_or(if version.starts_with("0.") { "0.4.0" } else { "1.0.0" });
                let message = format!("CNI has no version {version:?}: there are {}", SUPPORTED.join(", "));
                found.add(node.at, message, format!("write \"{fix}\""));
            }
            // `values` tells of the wrong type.
            None => {}
        }
    }
}

fn missing_version(world: &World, found: &mut Found) {
    for (network, parsed) in parsed(world) {
        let is_config = matches!(parsed.root.value, Value::Map(_));
        let key = |key: &str| parsed.root.get_as_go(key).filter(|node| node.text() != Some(""));
        if is_config && key("cniVersion").is_none() && key("cniVersions").is_none() {
            found.add(
                parsed.root.at,
                format!("the config of {} names no cniVersion", network.shown()),
                "add \"cniVersion\": \"1.0.0\"",
            );
        }
    }
}

fn plugin_version(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world).filter(|(_, parsed)| parsed.list) {
        let of_list = parsed.root.get_as_go("cniVersion").and_then(Node::text);
        for plugin in &parsed.plugins {
            let Some(node) = plugin.get("cniVersion") else { continue };
            let Some(version) = node.text().filter(|version| Some(*version) != of_list && of_list.is_some())
            else {
                continue;
            };
            let list = of_list.unwrap_or_default();
            let message = format!("this plugin says {version} and its list {list}, which is what it gets");
            found.add(node.at, message, "remove the key from the plugin");
        }
    }
}

fn runtime_key(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world) {
        let inside = parsed.plugins.iter().map(|plugin| &plugin.object).filter(|_| parsed.list);
        for object in std::iter::once(&parsed.root).chain(inside) {
            for key in ["prevResult", "runtimeConfig"] {
                if let Some(entry) = object.entries().iter().find(|entry| cni::raw::same_key(&entry.key, key))
                {
                    let message = format!("{key} is for runtimes and is dropped here");
                    let fix = match key {
                        "runtimeConfig" => "remove it; ask for ips, mac and the like in the pod's annotation",
                        _ => "remove it",
                    };
                    found.add(entry.at, message, fix);
                }
            }
        }
    }
}

fn missing_type(world: &World, found: &mut Found) {
    for (network, parsed) in parsed(world) {
        let empty = parsed.list && parsed.plugins.is_empty();
        let list = parsed.root.get_as_go("plugins");
        if let Some(list) = list.filter(|list| empty && matches!(list.value, Value::List(_))) {
            let message = format!("the list of {} has no plugin", network.shown());
            found.add(list.at, message, "add a plugin, such as { \"type\": \"macvlan\", … }");
        }
        if !parsed.list && parsed.plugins.is_empty() && matches!(parsed.root.value, Value::Map(_)) {
            let message = format!("the config of {} is empty", network.shown());
            found.add(parsed.root.at, message, "add \"type\" with the plugin's name");
        }
        for plugin in parsed.plugins.iter().filter(|plugin| plugin.kind.is_none()) {
            let written = plugin.get("type");
            if written.is_some_and(|node| node.text().is_none()) {
                continue;
            }
            let meant = |entry: &&Entry, key: &str| entry.key != key && nearest(&entry.key, [key]).is_some();
            let entries = || plugin.object.entries().iter();
            let slip = entries().find(|entry| meant(entry, "type") && entry.node.text().is_some());
            let list = entries().find(|entry| meant(entry, "plugins") && !entry.node.items().is_empty());
            let fix = match (slip, list) {
                (Some(entry), _) => format!("write \"type\" instead of {:?}", entry.key),
                (None, Some(entry)) => format!("write \"plugins\" instead of {:?}", entry.key),
                (None, None) => "add \"type\" with the plugin's name, such as \"macvlan\"".to_owned(),
            };
            let slip = slip.or(list);
            let at = slip.map(|entry| entry.at).or(written.map(|node| node.at)).unwrap_or(plugin.object.at);
            found.add(at, format!("this plugin of {} has no type", network.shown()), fix);
        }
    }
}

fn type_and_plugins(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world).filter(|(_, parsed)| parsed.list) {
        if let Some(entry) = parsed.root.entry("type") {
            let message = "this config is a list of plugins and has a type of its own";
            found.add(entry.at, message, "move the plugin into the list, or remove the list");
        }
    }
}

fn plugins_not_list(world: &World, found: &mut Found) {
    for (_, parsed) in parsed(world).filter(|(_, parsed)| parsed.list) {
        let Some(list) = parsed.root.get("plugins") else { continue };
        if !matches!(list.value, Value::List(_)) {
            found.add(
                list.at,
                format!("plugins is {}, not a list", list.kind()),
                "put it in brackets: [ { … } ]",
            );
        }
        for item in list.items().iter().filter(|item| !matches!(item.value, Value::Map(_))) {
            let fix = match item.text() {
                Some(name) => format!("write {{ \"type\": {name:?} }}"),
                None => "write an object with a type".to_owned(),
            };
            found.add(item.at, format!("this plugin is {}, not an object", item.kind()), fix);
        }
    }
}

/// `type` of every plugin and of its ipam, as written.
fn types(world: &World) -> impl Iterator<Item = (&Node, &str)> {
    world.plugins().flat_map(|(_, plugin)| {
        let own = plugin.get("type");
        let ipam = plugin.ipam().and_then(|ipam| ipam.get_as_go("type"));
        [own, ipam]
            .into_iter()
            .flatten()
            .filter_map(|node| Some((node, node.text().filter(|kind| !kind.is_empty())?)))
    })
}

fn plugin_path(world: &World, found: &mut Found) {
    for (node, kind) in types(world) {
        if !cni::config::valid_plugin_type(kind) {
            let name =
                kind.trim().rsplit(['/', '\\']).next().unwrap_or_default().trim_start_matches(['.', '-']);
            let message = format!("{kind:?} is no bare name of a plugin");
            found.add(node.at, message, format!("write {:?}", name.replace([' ', ':'], "-")));
        }
    }
}

fn multus_in_multus(world: &World, found: &mut Found) {
    for (node, kind) in types(world).filter(|(_, kind)| MULTUS.contains(kind)) {
        found.add(
            node.at,
            format!("{kind} would call Multus from Multus"),
            "name the plugin that does the work",
        );
    }
}

/// Types that the rules above have nothing to say about.
fn plain<'a>(world: &'a World, kind: &str) -> bool {
    let installed: &'a [String] = &world.here.plugins;
    cni::config::valid_plugin_type(kind)
        && !MULTUS.contains(&kind)
        && !installed.iter().any(|name| name == kind)
}

fn unknown_plugin(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let Some(node) = plugin.get("type") else { continue };
        let Some(kind) = node.text().filter(|kind| !kind.is_empty() && plain(world, kind)) else { continue };
        if knowledge::names().any(|name| name == kind) {
            continue;
        }
        let fix = match nearest(kind, knowledge::names()) {
            Some(name) => format!("write {name:?}"),
            None => {
                "correct the name; for a plugin of your own: # multus-try: allow unknown-plugin".to_owned()
            }
        };
        found.add(node.at, format!("no CNI plugin is known by the name {kind:?}"), fix);
    }
}

fn ipam_as_plugin(world: &World, found: &mut Found) {
    for (_, plugin) in world.plugins() {
        let Some(known) = plugin.known().filter(|known| known.role == Role::Ipam) else { continue };
        if let Some(node) = plugin.get("type") {
            let message = format!("{} gives addresses and makes no interface", known.name);
            let fix =
                format!("name a plugin that makes one, with \"ipam\": {{ \"type\": {:?}, … }}", known.name);
            found.add(node.at, message, fix);
        }
    }
}
