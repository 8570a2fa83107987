//! What a run is to do: the part of the files that matters, and what the user decided. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use meta::cluster::Network;
use serde::{Deserialize, Serialize};

use crate::{
    lint::{
        World,
        pods::{NETWORKS, Pod},
        world,
    },
    node::Node,
};

/// Everything that the host has to know.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Task {
    /// Use the machine itself.
    pub machine: bool,
    /// Folder of the run on its host.
    pub base: PathBuf,
    /// The definitions, as the cluster would hand them over.
    pub networks: Vec<Network>,
    /// The pods to attach.
    pub pods: Vec<PodTask>,
    /// Interfaces that the networks name and a throw-away host needs.
    pub masters: Vec<String>,
    /// Bridges that the networks name; the plugin makes them, and leaves them.
    pub bridges: Vec<String>,
    /// Folders outside of the usual ones in which IPAM plugins keep addresses.
    pub data_dirs: Vec<PathBuf>,
    /// Folders of plugins, in the order they are searched.
    pub plugin_dirs: Vec<PathBuf>,
    /// Networks that cannot be tried, with the reason.
    pub obstacles: BTreeMap<String, Vec<String>>,
    /// Types of links that each network needs of the kernel.
    pub link_kinds: BTreeMap<String, Vec<String>>,
    /// Networks whose pods must not reach each other.
    pub isolated: BTreeSet<String>,
}

/// One pod to attach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodTask {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its annotations, as the runtime would hand them over.
    pub annotations: BTreeMap<String, String>,
    /// The networks it asks for, as `NAMESPACE/NAME`.
    pub networks: Vec<String>,
    /// Why it cannot be tried, whatever its networks are.
    pub obstacle: Option<String>,
}

impl Task {
    /// The task of these files: their pods, else for each network a pod that asks for it; with `annotation`, one pod
    /// with that networks annotation. Each so many times.
    pub fn new(world: &World, annotation: Option<&str>, copies: usize) -> Self {
        let networks: Vec<Network> = world.networks.iter().filter_map(definition).collect();
        let mut task = Self { pods: pods(world, annotation, copies), networks, ..Self::default() };
        for (network, plugin) in world.plugins() {
            let text = |key: &str| plugin.get(key).and_then(Node::text).filter(|text| !text.is_empty());
            let kind = plugin.kind.clone().unwrap_or_default();
            let inside = plugin.get("linkInContainer").is_some_and(Node::is_true);
            let named = text("master").or_else(|| text("device").filter(|_| kind == "host-device"));
            task.masters
                .extend(named.filter(|name| !inside && cni::env::valid_ifname(name)).map(str::to_owned));
            if kind == "bridge" {
                task.bridges.push(text("bridge").unwrap_or("cni0").to_owned());
            }
            if plugin.get("mode").and_then(Node::text) == Some("private")
                || plugin.get("portIsolation").is_some_and(Node::is_true)
            {
                task.isolated.insert(network.shown());
            }
            let folder = plugin.ipam().and_then(|ipam| ipam.get_as_go("dataDir")).and_then(Node::text);
            task.data_dirs.extend(folder.or_else(|| text("dataDir")).map(PathBuf::from));
            let kinds = task.link_kinds.entry(network.shown()).or_default();
            kinds.extend(link_kind(&kind).map(str::to_owned));
        }
        for names in [&mut task.masters, &mut task.bridges] {
            names.sort();
            names.dedup();
        }
        task
    }
}

/// The kernel's link type that a reference plugin makes.
fn link_kind(plugin: &str) -> Option<&'static str> {
    match plugin {
        "bridge" => Some("bridge"),
        "macvlan" => Some("macvlan"),
        "ipvlan" => Some("ipvlan"),
        "vlan" => Some("vlan"),
        "dummy" => Some("dummy"),
        "vrf" => Some("vrf"),
        "bandwidth" => Some("ifb"),
        _ => None,
    }
}

fn definition(network: &world::Network) -> Option<Network> {
    let annotations =
        network.object.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default();
    let ours = annotations.iter().filter(|entry| entry.key.starts_with("k8s.v1.cni.cncf.io/"));
    Some(Network {
        namespace: network.namespace.clone(),
        name: network.name.clone()?,
        // A config that is broken is handed over as it is: what becomes of it is for the plugin to tell.
        config: network.object.path(&["spec", "config"]).and_then(Node::text).unwrap_or_default().to_owned(),
        annotations: ours
            .filter_map(|entry| Some((entry.key.clone(), entry.node.text()?.to_owned())))
            .collect(),
    })
}

fn pods(world: &World, annotation: Option<&str>, copies: usize) -> Vec<PodTask> {
    let asking = world.pods.iter().filter(|pod| pod.selections().next().is_some());
    let mut pods: Vec<PodTask> = match annotation {
        Some(text) => vec![PodTask {
            namespace: world
                .networks
                .first()
                .map_or("default".to_owned(), |network| network.namespace.clone()),
            name: "pod".to_owned(),
            annotations: BTreeMap::from([(NETWORKS.to_owned(), text.to_owned())]),
            ..PodTask::default()
        }],
        None => asking.map(given).collect(),
    };
    if let (Some(text), Some(pod)) = (annotation, pods.first_mut()) {
        let chosen = meta::selection::parse(text, &pod.namespace, false).unwrap_or_default();
        pod.networks = chosen.iter().map(|selection| selection.network.to_string()).collect();
    }
    if pods.is_empty() {
        pods = world.networks.iter().filter_map(alone).collect();
    }
    let numbered = |pod: &PodTask, number: usize| match copies {
        1 => pod.clone(),
        _ => PodTask { name: format!("{}-{number}", pod.name), ..pod.clone() },
    };
    pods.iter().flat_map(|pod| (1..=copies).map(move |number| numbered(pod, number))).collect()
}

/// A pod of the files.
fn given(pod: &Pod) -> PodTask {
    let annotations = pod.annotations().iter();
    let networks = pod.selections().filter_map(|selection| {
        Some(format!("{}/{}", selection.namespace.as_ref()?, selection.name.as_ref()?))
    });
    PodTask {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        annotations: annotations
            .filter_map(|entry| Some((entry.key.clone(), entry.node.text()?.to_owned())))
            .collect(),
        networks: networks.collect(),
        obstacle: pod
            .template
            .path(&["spec", "hostNetwork"])
            .is_some_and(Node::is_true)
            .then(|| "it has hostNetwork: true, so a runtime calls no CNI plugin for it".to_owned()),
    }
}

/// A pod that asks for this network alone.
fn alone(network: &world::Network) -> Option<PodTask> {
    let name = network.name.clone()?;
    Some(PodTask {
        namespace: network.namespace.clone(),
        annotations: BTreeMap::from([(NETWORKS.to_owned(), network.shown())]),
        networks: vec![network.shown()],
        name,
        obstacle: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lint::Here, source::Source};

    const NETWORKS_TEXT: &str = r#"
kind: NetworkAttachmentDefinition
apiVersion: k8s.cni.cncf.io/v1
metadata: { name: a, namespace: apps, annotations: { k8s.v1.cni.cncf.io/resourceName: x/y, other: z } }
spec: { config: '{"cniVersion":"1.0.0","type":"macvlan","master":"eth7","mode":"private","ipam":{"type":"host-local","dataDir":"/data"}}' }
---
kind: NetworkAttachmentDefinition
apiVersion: k8s.cni.cncf.io/v1
metadata: { name: b }
spec: { config: '{"cniVersion":"1.0.0","plugins":[{"type":"bridge"},{"type":"bandwidth"},{"type":"macvlan","master":"in0","linkInContainer":true}]}' }
"#;

    fn task(text: &str, annotation: Option<&str>, copies: usize) -> Task {
        let sources = vec![Source { name: "a".to_owned(), text: text.to_owned() }];
        Task::new(&World::new(sources, Here::default()), annotation, copies)
    }

    fn names(task: &Task) -> Vec<String> {
        task.pods
            .iter()
            .map(|pod| format!("{}/{} {}", pod.namespace, pod.name, pod.networks.join(",")))
            .collect()
    }

    #[test]
    fn without_pods_each_network_gets_one_of_its_own() {
        let task = task(NETWORKS_TEXT, None, 2);
        assert_eq!(
            names(&task),
            ["apps/a-1 apps/a", "apps/a-2 apps/a", "default/b-1 default/b", "default/b-2 default/b"]
        );
        assert_eq!(task.pods[0].annotations[NETWORKS], "apps/a");
    }

    #[test]
    fn pods_of_the_files_count_and_an_annotation_counts_instead() {
        let pods = "---\nkind: Pod\nmetadata: { name: p, namespace: apps, annotations: { k8s.v1.cni.cncf.io/networks: 'a, default/b@x', q: r } }\n\
            ---\nkind: Pod\nmetadata: { name: plain }\n\
            ---\nkind: Deployment\nmetadata: { name: d }\nspec: { template: { metadata: { annotations: { k8s.v1.cni.cncf.io/networks: b } }, spec: { hostNetwork: true } } }\n";
        let text = format!("{NETWORKS_TEXT}{pods}");
        let given = task(&text, None, 1);
        assert_eq!(names(&given), ["apps/p apps/a,default/b", "default/d default/b"]);
        assert_eq!(given.pods[0].annotations["q"], "r");
        assert!(given.pods[0].obstacle.is_none() && given.pods[1].obstacle.is_some());
        let chosen = task(&text, Some(r#"[{"name":"a","namespace":"apps"}]"#), 1);
        assert_eq!(names(&chosen), ["apps/pod apps/a"]);
    }

    #[test]
    fn the_host_learns_what_the_networks_name() {
        let task = task(NETWORKS_TEXT, None, 1);
        // A master inside of the pod is the pod's own affair.
        assert_eq!((task.masters, task.bridges), (vec!["eth7".to_owned()], vec!["cni0".to_owned()]));
        assert_eq!(task.data_dirs, [PathBuf::from("/data")]);
        assert_eq!(task.isolated, BTreeSet::from(["apps/a".to_owned()]));
        assert_eq!(task.link_kinds["default/b"], ["bridge", "ifb", "macvlan"]);
        let annotations: Vec<_> = task.networks[0].annotations.keys().collect();
        assert_eq!(annotations, ["k8s.v1.cni.cncf.io/resourceName"]);
        assert!(task.networks[0].config.starts_with('{'));
    }
}
