//! All that was given, as the rules look at it: files, networks with their plugins, pods with their selections.

use crate::{
    json::{self, Problem},
    lint::{
        knowledge::{self, Known},
        pods::{self, Pod, Selection},
    },
    node::{Node, Value},
    source::{At, Source},
    yaml::{self, Document, Unreadable},
};

/// What the machine has, as far as the rules may ask.
#[derive(Debug, Clone, Default)]
pub struct Here {
    /// Interfaces of the node that the networks are for; `None` where nobody said.
    pub interfaces: Option<Vec<String>>,
    /// Plugins that are installed: they are known, whatever their name.
    pub plugins: Vec<String>,
}

/// Everything.
#[derive(Debug)]
pub struct World {
    /// The files' texts.
    pub sources: Vec<Source>,
    /// What was read of them, in the same order.
    pub files: Vec<File>,
    /// NetworkAttachmentDefinitions of all files.
    pub networks: Vec<Network>,
    /// Pods, and templates of pods, of all files.
    pub pods: Vec<Pod>,
    /// The machine.
    pub here: Here,
}

/// One file.
#[derive(Debug)]
pub struct File {
    /// Its documents; a `List` is taken apart.
    pub documents: Vec<Document>,
    /// Why it was not read to its end.
    pub broken: Option<Unreadable>,
}

/// One NetworkAttachmentDefinition.
#[derive(Debug)]
pub struct Network {
    /// The whole object.
    pub object: Node,
    /// `metadata.name`.
    pub name: Option<String>,
    /// `metadata.namespace`, or `default`.
    pub namespace: String,
    /// `spec.config`.
    pub config: Config,
}

/// What `spec.config` is.
#[derive(Debug)]
pub enum Config {
    /// Not given: the network is one that the node knows by its name.
    Absent,
    /// A string without anything in it.
    Empty(At),
    /// No string.
    NotText(Node),
    /// A string that is no JSON.
    Broken(Problem),
    /// JSON.
    Read(Parsed),
}

/// A `spec.config` that is JSON.
#[derive(Debug)]
pub struct Parsed {
    /// The text, as a plugin gets it.
    pub text: String,
    /// Its value.
    pub root: Node,
    /// It is a list of plugins, not one.
    pub list: bool,
    /// Its plugins, in order.
    pub plugins: Vec<Plugin>,
}

/// One plugin of a network.
#[derive(Debug)]
pub struct Plugin {
    /// Its configuration.
    pub object: Node,
    /// Its place in the list.
    pub index: usize,
    /// `type`, if it is a string with something in it.
    pub kind: Option<String>,
}

impl World {
    /// Reads everything that can be read; what cannot is for the rules to tell.
    pub fn new(sources: Vec<Source>, here: Here) -> Self {
        let files: Vec<File> = sources
            .iter()
            .enumerate()
            .map(|(file, source)| {
                let (documents, broken) = yaml::read(source, file);
                File { documents, broken }
            })
            .collect();
        let mut world = Self { sources, files, networks: Vec::new(), pods: Vec::new(), here };
        let mut pods = Vec::new();
        for object in world.objects() {
            if is_network(&object) {
                world.networks.push(network(&world.sources, object));
            } else if let Some(pod) = pods::pod(&world.sources, object) {
                pods.push(pod);
            }
        }
        for selection in pods.iter_mut().flat_map(Pod::selections_mut) {
            selection.network = world.find(selection);
        }
        world.pods = pods;
        world
    }

    /// Every object of every file, those in a `List` too.
    pub fn objects(&self) -> Vec<Node> {
        let mut objects = Vec::new();
        for document in self.files.iter().flat_map(|file| &file.documents) {
            collect(&document.root, &mut objects);
        }
        objects
    }

    /// Every plugin of every network.
    pub fn plugins(&self) -> impl Iterator<Item = (&Network, &Plugin)> {
        self.networks.iter().flat_map(|network| {
            network.parsed().into_iter().flat_map(|parsed| &parsed.plugins).map(move |p| (network, p))
        })
    }

    /// Every selection of every pod, with the network that it names, if that was given.
    pub fn selections(&self) -> impl Iterator<Item = (&Pod, &Selection, Option<&Network>)> {
        self.pods.iter().flat_map(move |pod| {
            pod.selections().map(move |selection| {
                (pod, selection, selection.network.and_then(|index| self.networks.get(index)))
            })
        })
    }

    fn find(&self, selection: &Selection) -> Option<usize> {
        let same = |network: &Network| {
            network.name == selection.name && Some(&network.namespace) == selection.namespace.as_ref()
        };
        self.networks.iter().position(same)
    }
}

impl Network {
    /// Its config, where it is JSON.
    pub fn parsed(&self) -> Option<&Parsed> {
        match &self.config {
            Config::Read(parsed) => Some(parsed),
            _ => None,
        }
    }

    /// `NAMESPACE/NAME`, for people.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name.as_deref().unwrap_or("?"))
    }

    /// The network's name as plugins get it.
    pub fn cni_name(&self) -> Option<&str> {
        let own = self.parsed().and_then(|parsed| parsed.root.get("name")).and_then(Node::text);
        own.filter(|name| !name.is_empty()).or(self.name.as_deref())
    }

    /// The version its plugins are called with, where it says one.
    pub fn version(&self) -> Option<&Node> {
        self.parsed()?.root.get("cniVersion")
    }

    /// Whether any plugin declares this capability.
    pub fn declares(&self, capability: &str) -> bool {
        let declares = |plugin: &Plugin| {
            plugin
                .object
                .get("capabilities")
                .and_then(|declared| declared.get(capability))
                .is_some_and(Node::is_true)
        };
        self.parsed().is_some_and(|parsed| parsed.plugins.iter().any(declares))
    }

    /// Whether one of its plugins is of this type.
    pub fn has(&self, kind: &str) -> bool {
        self.parsed()
            .is_some_and(|parsed| parsed.plugins.iter().any(|plugin| plugin.kind.as_deref() == Some(kind)))
    }
}

impl Plugin {
    /// What is known of it.
    pub fn known(&self) -> Option<&'static Known> {
        self.kind.as_deref().and_then(knowledge::known)
    }

    /// Whether it is of this type.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// A key that is there and not `null`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.object.get_as_go(key)
    }

    /// Its `ipam`, where that is an object with something in it.
    pub fn ipam(&self) -> Option<&Node> {
        self.get("ipam").filter(|ipam| !ipam.entries().is_empty())
    }

    /// The type of its `ipam`; none where that is empty, which means no addresses.
    pub fn ipam_kind(&self) -> Option<&str> {
        self.ipam()?.get_as_go("type")?.text().filter(|kind| !kind.is_empty())
    }

    /// Its `ipam`, if it is of this type.
    pub fn ipam_of(&self, kind: &str) -> Option<&Node> {
        self.ipam().filter(|_| self.ipam_kind() == Some(kind))
    }
}

fn collect(node: &Node, objects: &mut Vec<Node>) {
    if node.get("kind").and_then(Node::text).is_some_and(|kind| kind == "List") {
        node.get("items").into_iter().flat_map(Node::items).for_each(|item| collect(item, objects));
    } else {
        objects.push(node.clone());
    }
}

/// The group of the kind, in whatever version.
pub const GROUP: &str = "k8s.cni.cncf.io";
/// The kind.
pub const KIND: &str = "NetworkAttachmentDefinition";

/// By kind, so that a wrong group can be told as such.
fn is_network(object: &Node) -> bool {
    object.get("kind").and_then(Node::text) == Some(KIND)
}

fn network(sources: &[Source], object: Node) -> Network {
    let metadata = |key: &str| object.path(&["metadata", key]).and_then(Node::text).map(str::to_owned);
    Network {
        name: metadata("name"),
        namespace: metadata("namespace").unwrap_or_else(|| "default".to_owned()),
        config: config(sources, object.path(&["spec", "config"])),
        object,
    }
}

fn config(sources: &[Source], node: Option<&Node>) -> Config {
    let Some(node) = node else { return Config::Absent };
    let text = match &node.value {
        Value::Null => return Config::Absent,
        Value::Text(text) if text.said.trim().is_empty() => return Config::Empty(node.at),
        Value::Text(text) => text,
        _ => return Config::NotText(node.clone()),
    };
    let Some(source) = sources.get(node.at.file) else { return Config::Absent };
    match json::parse(&yaml::placed(source, node.at.file, text)) {
        Ok(root) => Config::Read(parsed(text.said.clone(), root)),
        Err(problem) => Config::Broken(problem),
    }
}

fn parsed(text: String, root: Node) -> Parsed {
    let elements = root.get("plugins").filter(|plugins| !plugins.is_null());
    let list = elements.is_some();
    let objects = match elements {
        Some(elements) => elements.items().to_vec(),
        None if root.entries().is_empty() => Vec::new(),
        None => vec![root.clone()],
    };
    let plugin = |(index, object): (usize, Node)| {
        let kind = object.get_as_go("type").and_then(Node::text).filter(|kind| !kind.is_empty());
        Plugin { kind: kind.map(str::to_owned), index, object }
    };
    let plugins = objects.into_iter().enumerate().map(plugin).collect();
    Parsed { text, root, list, plugins }
}
