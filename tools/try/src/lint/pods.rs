//! Pods and what they ask for, with the place of every word of it.

use crate::{
    json::{self, Placed, Problem},
    node::{Entry, Node, Value},
    source::{At, Source},
    yaml,
};

/// The annotation that names a pod's networks.
pub const NETWORKS: &str = meta::pod::NETWORKS;
/// The annotation that replaces its primary network.
pub const DEFAULT_NETWORK: &str = meta::pod::DEFAULT_NETWORK;
/// Where a name without namespace is looked up in [`DEFAULT_NETWORK`].
const DEFAULT_NETWORK_NAMESPACE: &str = "kube-system";

/// A pod, or the template of pods in another object.
#[derive(Debug)]
pub struct Pod {
    /// The kind of the object.
    pub kind: String,
    /// `metadata.name` of the object.
    pub name: String,
    /// `metadata.namespace` of the object, or `default`.
    pub namespace: String,
    /// The object.
    pub object: Node,
    /// The pod, or the template: where `metadata` and `spec` are.
    pub template: Node,
    /// The annotations that ask for networks.
    pub asks: Vec<Asks>,
}

/// One annotation that asks for networks.
#[derive(Debug)]
pub struct Asks {
    /// Which annotation.
    pub key: &'static str,
    /// Where its value begins.
    pub at: At,
    /// What its value is.
    pub wish: Wish,
}

/// What such an annotation's value is.
#[derive(Debug)]
pub enum Wish {
    /// No string.
    NotText(Node),
    /// It looks like JSON and is none.
    Broken(Problem),
    /// JSON, but no list.
    NotList(Node),
    /// Networks.
    Selections(Vec<Selection>),
}

/// One network that is asked for.
#[derive(Debug)]
pub struct Selection {
    /// Where it begins.
    pub at: At,
    /// The network's name; none where it is missing or no string.
    pub name: Option<String>,
    /// Where the name stands.
    pub name_at: At,
    /// The network's namespace; none where it is no string.
    pub namespace: Option<String>,
    /// Where the namespace stands, if it was written.
    pub namespace_at: Option<At>,
    /// The interface that is asked for.
    pub interface: Option<(String, At)>,
    /// The element of the list; none in the short form.
    pub object: Option<Node>,
    /// What is wrong with the short form.
    pub malformed: Option<&'static str>,
    /// The network, as an index into those that were given.
    pub network: Option<usize>,
}

impl Pod {
    /// What the pod asks for, whole.
    pub fn selections(&self) -> impl Iterator<Item = &Selection> {
        self.asks.iter().flat_map(|asks| asks.selections())
    }

    /// The same, to be completed.
    pub fn selections_mut(&mut self) -> impl Iterator<Item = &mut Selection> {
        self.asks.iter_mut().flat_map(|asks| match &mut asks.wish {
            Wish::Selections(selections) => selections.iter_mut(),
            _ => [].iter_mut(),
        })
    }

    /// Annotations of the pod itself.
    pub fn annotations(&self) -> &[Entry] {
        self.template.path(&["metadata", "annotations"]).map(Node::entries).unwrap_or_default()
    }

    /// How people know it.
    pub fn shown(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }

    /// It is a template from which several pods are made.
    pub fn many(&self) -> bool {
        let replicas = self.object.path(&["spec", "replicas"]).and_then(Node::number);
        self.kind == "DaemonSet" || (self.kind != "Pod" && replicas.is_some_and(|replicas| replicas > 1))
    }
}

impl Asks {
    /// The networks, where it could be read.
    pub fn selections(&self) -> &[Selection] {
        match &self.wish {
            Wish::Selections(selections) => selections,
            _ => &[],
        }
    }
}

impl Selection {
    /// A key of the JSON form that is there and not `null`, in any spelling that the plugin accepts.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.object.as_ref()?.get_as_go(key)
    }

    /// The network's name, for people.
    pub fn shown(&self) -> String {
        self.name.clone().unwrap_or_else(|| "?".to_owned())
    }
}

/// The pod in an object of any kind that has one.
pub fn pod(sources: &[Source], object: Node) -> Option<Pod> {
    let kind = object.get("kind").and_then(Node::text)?.to_owned();
    let template = template(&kind, &object)?.clone();
    let metadata = |key: &str| object.path(&["metadata", key]).and_then(Node::text).map(str::to_owned);
    let namespace = metadata("namespace").unwrap_or_else(|| "default".to_owned());
    let mut pod = Pod {
        kind,
        name: metadata("name").or_else(|| metadata("generateName")).unwrap_or_else(|| "?".to_owned()),
        asks: Vec::new(),
        namespace,
        object,
        template,
    };
    for (key, namespace) in [(NETWORKS, pod.namespace.as_str()), (DEFAULT_NETWORK, DEFAULT_NETWORK_NAMESPACE)]
    {
        let Some(entry) = pod.annotations().iter().rev().find(|entry| entry.key == key) else { continue };
        let wish = wish(sources, &entry.node, namespace);
        let asks = Asks { key, at: entry.node.at, wish };
        pod.asks.push(asks);
    }
    Some(pod)
}

/// Where in an object of this kind a pod is described.
pub fn template<'a>(kind: &str, object: &'a Node) -> Option<&'a Node> {
    match kind {
        "Pod" => Some(object),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            object.path(&["spec", "template"])
        }
        "CronJob" => object.path(&["spec", "jobTemplate", "spec", "template"]),
        "PodTemplate" => object.get("template"),
        _ => None,
    }
}

fn wish(sources: &[Source], node: &Node, namespace: &str) -> Wish {
    let Value::Text(text) = &node.value else { return Wish::NotText(node.clone()) };
    let Some(source) = sources.get(node.at.file) else { return Wish::NotText(node.clone()) };
    let placed = yaml::placed(source, node.at.file, text);
    if !text.said.contains(['[', '{', '"']) {
        return Wish::Selections(short(&placed, namespace));
    }
    match json::parse(&placed) {
        Err(problem) => Wish::Broken(problem),
        Ok(root) if matches!(root.value, Value::List(_)) => {
            Wish::Selections(root.items().iter().map(|element| long(element, namespace)).collect())
        }
        Ok(root) => Wish::NotList(root),
    }
}

/// `NAME`, `NAMESPACE/NAME`, `NAME@INTERFACE`, with commas between.
fn short(placed: &Placed, namespace: &str) -> Vec<Selection> {
    if placed.text.trim().is_empty() {
        return Vec::new();
    }
    let mut start = 0;
    let mut selections = Vec::new();
    for item in placed.text.split(',') {
        // Positions of parts: they are slices of the text, so their distance from its start is their place.
        let place = |part: &str| placed.at(start + (part.as_ptr() as usize - item.as_ptr() as usize));
        let trimmed = item.trim();
        let (path, interface) = match trimmed.split_once('@') {
            Some((path, interface)) => (path, Some(interface)),
            None => (trimmed, None),
        };
        let (space, name) = match path.split_once('/') {
            Some((space, name)) => (Some(space), name),
            None => (None, path),
        };
        let malformed = if trimmed.is_empty() {
            Some("there is nothing between the commas")
        } else if interface.is_some_and(|interface| interface.contains('@')) {
            Some("it has more than one '@'")
        } else if name.contains('/') {
            Some("it has more than one '/'")
        } else {
            None
        };
        selections.push(Selection {
            at: place(trimmed),
            name: Some(name.trim().to_owned()).filter(|name| !name.is_empty()),
            name_at: place(name),
            namespace: Some(space.map_or(namespace, str::trim).to_owned()),
            namespace_at: space.map(place),
            interface: interface.map(|interface| (interface.trim().to_owned(), place(interface))),
            object: None,
            malformed,
            network: None,
        });
        start += item.len() + 1;
    }
    selections
}

fn long(element: &Node, namespace: &str) -> Selection {
    let given = |key: &str| element.get_as_go(key);
    let (name, space) = (given("name"), given("namespace"));
    let empty = |node: &Node| node.text() == Some("");
    Selection {
        at: element.at,
        name: name.and_then(Node::text).filter(|name| !name.is_empty()).map(str::to_owned),
        name_at: name.map_or(element.at, |name| name.at),
        namespace: match space {
            Some(space) if !empty(space) => space.text().map(str::to_owned),
            _ => Some(namespace.to_owned()),
        },
        namespace_at: space.map(|space| space.at),
        interface: given("interface")
            .or(given("interfaceRequest"))
            .and_then(|node| Some((node.text()?.to_owned(), node.at)))
            .filter(|(interface, _)| !interface.is_empty()),
        object: Some(element.clone()),
        malformed: None,
        network: None,
    }
}
