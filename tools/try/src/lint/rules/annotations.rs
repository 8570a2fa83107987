//! The annotations by which pods ask.

use crate::{
    lint::{
        Found, Rule, World,
        near::nearest,
        pods::{self, DEFAULT_NETWORK, NETWORKS, Selection, Wish},
    },
    node::{Entry, Node, Value},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "annotation-key",
        why: "nobody reads this annotation, so the pod starts without the networks",
        fix: "write k8s.v1.cni.cncf.io/networks or v1.multus-cni.io/default-network",
        check: annotation_key,
    },
    Rule {
        name: "annotation-place",
        why: "annotations of a workload do not reach its pods, so they start without the networks",
        fix: "move the annotation to spec.template.metadata.annotations",
        check: annotation_place,
    },
    Rule {
        name: "annotation-not-text",
        why: "annotations are strings; the API server refuses the object",
        fix: "put the value in quotes, or write it as a block with `|`",
        check: annotation_not_text,
    },
    Rule {
        name: "annotation-not-list",
        why: "networks in JSON are a list of objects, so the pod does not start",
        fix: "put it in brackets: [ { \"name\": … } ]",
        check: annotation_not_list,
    },
    Rule {
        name: "host-network",
        why: "a pod of the host's network has no network of its own: the runtime calls no CNI plugin for it",
        fix: "remove hostNetwork, or the annotation",
        check: host_network,
    },
    Rule {
        name: "default-network",
        why: "a pod has one default network, on the runtime's own interface; anything else is refused",
        fix: "name exactly one network without an interface, or remove the annotation",
        check: default_network,
    },
    Rule {
        name: "too-many-networks",
        why: "at most 64 networks are attached to one pod; more are refused",
        fix: "ask for fewer",
        check: too_many_networks,
    },
];

/// Written by Multus, never by people, but found in objects that were exported.
const STATUS: [&str; 2] = ["k8s.v1.cni.cncf.io/network-status", "k8s.v1.cni.cncf.io/networks-status"];

fn annotation_key(world: &World, found: &mut Found) {
    for pod in &world.pods {
        for entry in pod.annotations() {
            let read = [NETWORKS, DEFAULT_NETWORK].contains(&entry.key.as_str());
            if read || STATUS.contains(&entry.key.as_str()) {
                continue;
            }
            let (domain, name) = entry.key.rsplit_once('/').unwrap_or(("", &entry.key));
            let meant = if name == "networks" && (domain.is_empty() || domain.contains("cni")) {
                Some(NETWORKS)
            } else if name == "default-network" && domain.contains("cni") {
                Some(DEFAULT_NETWORK)
            } else {
                nearest(&entry.key, [NETWORKS, DEFAULT_NETWORK])
            };
            if let Some(key) = meant {
                let message = format!("{:?} is no annotation that anybody reads", entry.key);
                found.add(entry.at, message, format!("write {key}"));
            }
        }
    }
}

fn annotations(node: &Node) -> impl Iterator<Item = &Entry> {
    let entries = node.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default();
    entries.iter().filter(|entry| [NETWORKS, DEFAULT_NETWORK].contains(&entry.key.as_str()))
}

fn annotation_place(world: &World, found: &mut Found) {
    for pod in world.pods.iter().filter(|pod| pod.kind != "Pod") {
        for entry in annotations(&pod.object) {
            if pod.annotations().iter().any(|known| known.key == entry.key) {
                continue;
            }
            let place = match pod.kind.as_str() {
                "CronJob" => "spec.jobTemplate.spec.template.metadata.annotations",
                "PodTemplate" => "template.metadata.annotations",
                _ => "spec.template.metadata.annotations",
            };
            let message = format!("{} is an annotation of the {}, not of its pods", entry.key, pod.kind);
            found.add(entry.at, message, format!("move it to {place}"));
        }
    }
}

fn annotation_not_text(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks) {
        let Wish::NotText(node) = &asks.wish else { continue };
        let fix = match &node.value {
            Value::List(_) | Value::Map(_) => "write `|` behind the key and the JSON below it".to_owned(),
            Value::Null => "name a network, or remove the annotation".to_owned(),
            _ => format!("put it in quotes: \"{}\"", node.shown()),
        };
        found.add(node.at, format!("{} is {}, not a string", asks.key, node.kind()), fix);
    }
}

fn annotation_not_list(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks) {
        if let Wish::NotList(node) = &asks.wish {
            let fix = match &node.value {
                Value::Map(_) => "put it in brackets: [ { … } ]",
                _ => "write a list of objects: [ { \"name\": … } ]",
            };
            found.add(node.at, format!("{} is {}, not a list", asks.key, node.kind()), fix);
        }
        for selection in asks.selections() {
            let Some(object) = &selection.object else { continue };
            if !matches!(object.value, Value::Map(_)) {
                let fix = match object.text() {
                    Some(name) => format!("write {{ \"name\": {name:?} }}"),
                    None => "write { \"name\": … }".to_owned(),
                };
                found.add(object.at, format!("this element is {}, not an object", object.kind()), fix);
            }
        }
    }
}

fn host_network(world: &World, found: &mut Found) {
    for pod in &world.pods {
        let host = pod.template.path(&["spec", "hostNetwork"]).is_some_and(Node::is_true);
        let first = pod.asks.iter().find(|asks| !asks.selections().is_empty());
        if let Some(asks) = first.filter(|_| host) {
            let message = format!("{} asks for networks and has hostNetwork: true", pod.shown());
            found.add(asks.at, message, "remove hostNetwork, or the annotation");
        }
    }
}

fn default_network(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks).filter(|asks| asks.key == pods::DEFAULT_NETWORK) {
        let Wish::Selections(selections) = &asks.wish else { continue };
        match selections.as_slice() {
            [Selection { interface: Some((name, at)), .. }] => {
                let message =
                    format!("the default network cannot be {name}: it keeps the runtime's interface");
                found.add(*at, message, "remove the interface");
            }
            [_] => {}
            [] => found.add(asks.at, "no default network is named", "name one, or remove the annotation"),
            [_, second, ..] => {
                let message = format!("{} default networks are named", selections.len());
                let fix = format!("name one here, and the others in {NETWORKS}");
                found.add(second.at, message, fix);
            }
        }
    }
}

fn too_many_networks(world: &World, found: &mut Found) {
    for asks in world.pods.iter().flat_map(|pod| &pod.asks) {
        let most = meta::selection::MAX_NETWORKS;
        if let Some(first) = asks.selections().get(most) {
            let message = format!("{} networks are asked for, {most} are the most", asks.selections().len());
            found.add(first.at, message, "ask for fewer");
        }
    }
}
