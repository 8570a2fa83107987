//! The object around the config: kind, name, spec.

use std::collections::HashMap;

use crate::{
    lint::{
        Found, Rule, World,
        near::nearest,
        world::{Config, GROUP, KIND},
    },
    node::Node,
    source::At,
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "api-version",
        why: "the API server knows the kind in the version k8s.cni.cncf.io/v1 only, and refuses the object",
        fix: "write apiVersion: k8s.cni.cncf.io/v1",
        check: api_version,
    },
    Rule {
        name: "kind",
        why: "the API server knows no such kind and refuses the object",
        fix: "write kind: NetworkAttachmentDefinition",
        check: kind,
    },
    Rule {
        name: "missing-name",
        why: "a network without a name cannot be created, and no pod could ask for it",
        fix: "add metadata.name",
        check: missing_name,
    },
    Rule {
        name: "network-name",
        why: "the API server refuses it, and no pod could ask for it",
        fix: "use lower case letters, digits and '-', beginning and ending with a letter or digit",
        check: network_name,
    },
    Rule {
        name: "duplicate-network",
        why: "the one applied last replaces the other",
        fix: "give one of them another name or namespace",
        check: duplicate_network,
    },
    Rule {
        name: "spec-key",
        why: "spec has the one key config; the API server drops all others",
        fix: "put it into the JSON of spec.config, or remove it",
        check: spec_key,
    },
    Rule {
        name: "config-not-text",
        why: "the API server refuses the object: spec.config is a string that holds JSON",
        fix: "write `config: |` and the JSON below it, indented",
        check: config_not_text,
    },
    Rule {
        name: "config-empty",
        why: "there is nothing to attach, so no pod that asks for the network starts",
        fix: "write the JSON of a CNI config, or remove the key if the config is a file on the nodes",
        check: config_empty,
    },
    Rule {
        name: "resource-name",
        why: "no pod has a resource of that name, so none gets a device for this network",
        fix: "write DOMAIN/NAME as the device plugin announces it, under k8s.v1.cni.cncf.io/resourceName",
        check: resource_name,
    },
    Rule {
        name: "missing-resource-name",
        why: "the plugin needs the device that the kubelet gave the pod, and learns it by this annotation alone",
        fix: "add the annotation k8s.v1.cni.cncf.io/resourceName with the name the device plugin announces",
        check: missing_resource_name,
    },
];

const VERSION: &str = "k8s.cni.cncf.io/v1";
const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// Where a key stands, else where the object begins.
fn place(object: &Node, path: &[&str]) -> At {
    object.path(path).map_or(object.at, |node| node.at)
}

fn api_version(world: &World, found: &mut Found) {
    for network in &world.networks {
        let version = network.object.get("apiVersion").map(Node::shown).unwrap_or_default();
        if version != VERSION {
            found.add(
                place(&network.object, &["apiVersion"]),
                format!("{KIND} is no kind of apiVersion {version:?}"),
                format!("write {VERSION}"),
            );
        }
    }
}

fn kind(world: &World, found: &mut Found) {
    for object in world.objects() {
        let text = |key: &str| object.get(key).and_then(Node::text).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let short = ["net-attach-def", "NetAttachDef", "network-attachment-definition", "NetworkAttachment"];
        let meant = kind != KIND && (nearest(kind, [KIND]).is_some() || short.contains(&kind));
        if version.starts_with(GROUP) && meant {
            let message = format!("{kind} is no kind of {VERSION}");
            found.add(place(&object, &["kind"]), message, format!("write {KIND}"));
        }
    }
}

fn missing_name(world: &World, found: &mut Found) {
    for network in &world.networks {
        let generated = network.object.path(&["metadata", "generateName"]).is_some();
        match network.object.path(&["metadata", "name"]) {
            None if generated => {}
            None => found.add(
                place(&network.object, &["metadata"]),
                "this network has no name",
                "add metadata.name",
            ),
            Some(name) if name.text().is_none() => found.add(
                name.at,
                format!("metadata.name is {}, not a string", name.kind()),
                format!("put it in quotes: \"{}\"", name.shown()),
            ),
            Some(_) => {}
        }
    }
}

/// A DNS-1123 label.
pub(super) fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 63
        && name.bytes().all(|b| plain(b) || b == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

/// A name of an object: labels with dots between.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

/// The label that comes nearest to a name.
pub(super) fn as_label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(plain).take(63).collect();
    label.trim_matches('-').to_owned()
}

fn network_name(world: &World, found: &mut Found) {
    for network in &world.networks {
        for key in ["name", "namespace"] {
            let Some(node) = network.object.path(&["metadata", key]) else { continue };
            let fits = if key == "name" { is_name } else { is_label };
            let Some(name) = node.text().filter(|name| !fits(name)) else { continue };
            found.add(
                node.at,
                format!("metadata.{key} {name:?} is no name that Kubernetes has"),
                format!("write {}", as_label(name)),
            );
        }
    }
}

fn duplicate_network(world: &World, found: &mut Found) {
    let mut first: HashMap<(&str, &str), At> = HashMap::new();
    for network in &world.networks {
        let Some(name) = network.name.as_deref() else { continue };
        let at = place(&network.object, &["metadata", "name"]);
        if let Some(earlier) = first.insert((&network.namespace, name), at) {
            let source = world.sources.get(earlier.file);
            let line = source.map_or(0, |source| source.line_column(earlier.offset).0);
            let file = source.map_or("", |source| source.name.as_str());
            found.add(
                at,
                format!("network {} is also defined in {file}:{line}", network.shown()),
                "give one of them another name or namespace",
            );
        }
    }
}

fn spec_key(world: &World, found: &mut Found) {
    for network in &world.networks {
        for entry in network.object.get("spec").map(Node::entries).unwrap_or_default() {
            if entry.key == "config" {
                continue;
            }
            let fix = match nearest(&entry.key, ["config"]) {
                Some(name) => format!("write {name}"),
                None => "move it into the JSON of spec.config".to_owned(),
            };
            found.add(entry.at, format!("spec has no key {:?}", entry.key), fix);
        }
    }
}

fn config_not_text(world: &World, found: &mut Found) {
    for network in &world.networks {
        if let Config::NotText(node) = &network.config {
            found.add(
                node.at,
                format!("spec.config of {} is {}, not a string", network.shown(), node.kind()),
                "write `config: |` and the JSON below it, indented",
            );
        }
    }
}

fn config_empty(world: &World, found: &mut Found) {
    for network in &world.networks {
        if let Config::Empty(at) = network.config {
            found.add(
                at,
                format!("spec.config of {} is empty", network.shown()),
                "write the JSON of a CNI config, or remove the key if the config is a file on the nodes",
            );
        }
    }
}

fn resource_name(world: &World, found: &mut Found) {
    for network in &world.networks {
        for entry in network.object.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default()
        {
            let value = entry.node.shown();
            if entry.key == RESOURCE_NAME {
                let parts: Vec<&str> = value.split('/').collect();
                let sound = matches!(parts.as_slice(), [domain, name]
                    if domain.contains('.') && !name.is_empty() && !value.contains(char::is_whitespace));
                if !sound {
                    let message = format!("{value:?} is no resource name");
                    found.add(entry.node.at, message, "write DOMAIN/NAME, such as intel.com/sriov");
                }
            } else if is_nearly_resource_name(&entry.key) {
                let message = format!("{:?} is no annotation that anybody reads", entry.key);
                found.add(entry.at, message, format!("write {RESOURCE_NAME}"));
            }
        }
    }
}

fn is_nearly_resource_name(key: &str) -> bool {
    let domain = key.strip_suffix("/resourceName");
    key == "resourceName"
        || domain.is_some_and(|domain| domain.contains("cni"))
        || nearest(key, [RESOURCE_NAME]).is_some()
}

fn missing_resource_name(world: &World, found: &mut Found) {
    for (network, plugin) in world.plugins() {
        let needs = ["sriov", "ib-sriov", "accelerated-bridge"].iter().any(|kind| plugin.is(kind));
        let annotations = network.object.path(&["metadata", "annotations"]);
        let given = annotations.is_some_and(|map| {
            map.entries().iter().any(|entry| entry.key.to_ascii_lowercase().contains("resourcename"))
        });
        let fixed = plugin.get("deviceID").or(plugin.get("pciBusID")).is_some();
        if needs && !given && !fixed {
            let kind = plugin.get("type").map_or(plugin.object.at, |node| node.at);
            found.add(
                kind,
                format!(
                    "{} needs a device, and the network has no resource name",
                    plugin.kind.as_deref().unwrap_or("")
                ),
                format!("add the annotation {RESOURCE_NAME} to the network"),
            );
        }
    }
}
