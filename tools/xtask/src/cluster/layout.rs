//! Where everything of the cluster lives, and which addresses it has.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

/// The bridge in the machine's own network namespace; all that is seen of the cluster there.
pub(super) const BRIDGE: &str = "mrs0";
/// Address of the bridge, for commands that are typed on the machine.
pub(super) const BRIDGE_ADDRESS: &str = "10.213.0.1";
/// Address of the API server.
pub(super) const CONTROL_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 213, 0, 2);
/// Address of the `kubernetes` service.
pub(super) const SERVICE_ADDRESS: &str = "10.97.0.1";
/// Addresses of services.
pub(super) const SERVICE_CIDR: &str = "10.97.0.0/16";
/// Name of the group of processes that is no node.
pub(super) const CONTROL: &str = "control";
/// Group above the groups of all nodes.
pub(super) const CGROUP: &str = "multus-rs";
/// More nodes than this never helped a test.
pub(super) const MAX_NODES: u8 = 9;

/// Folder of the caches: `$MULTUS_CACHE`, else `~/.cache/multus-rs`.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = match (std::env::var_os("MULTUS_CACHE"), std::env::var_os("HOME")) {
        (Some(folder), _) if !folder.is_empty() => PathBuf::from(folder),
        (_, Some(home)) => PathBuf::from(home).join(".cache/multus-rs"),
        _ => return Err(anyhow!("no cache folder: neither MULTUS_CACHE nor HOME is set; set MULTUS_CACHE")),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot create the cache {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("cannot resolve {}", folder.display()))
}

/// Folder of the checkout.
pub(crate) fn workspace() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().with_context(|| format!("the checkout that built xtask is gone: {}", root.display()))
}

/// Folders and files of the cluster below the cache.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Programs: the components, kubectl, helm, cnitool; the CNI plugins in `cni/`.
    pub(crate) bin: PathBuf,
    /// State of the running cluster.
    pub(crate) cluster: PathBuf,
    cache: PathBuf,
}

impl Layout {
    /// The layout in the cache folder, which is created if needed.
    pub(crate) fn new() -> Result<Self> {
        let cache = cache()?;
        Ok(Self { bin: cache.join("bin"), cluster: cache.join("cluster"), cache })
    }
    /// Admin's kubeconfig, outside of any node.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.cluster.join("kubeconfig")
    }
    /// Logs of all components; they outlive `down`.
    pub(crate) fn logs(&self) -> PathBuf {
        self.cluster.join("logs")
    }
    /// File system of a node: `etc/cni`, `opt/cni`, `var/lib/cni`, `var/log` and more.
    pub(crate) fn node_files(&self, node: &str) -> PathBuf {
        self.node(node).join("fs")
    }
    pub(super) fn cache(&self) -> &Path {
        &self.cache
    }
    pub(super) fn node(&self, node: &str) -> PathBuf {
        self.cluster.join("nodes").join(node)
    }
    pub(super) fn pki(&self) -> PathBuf {
        self.cluster.join("pki")
    }
    pub(super) fn records(&self) -> PathBuf {
        self.cluster.join("processes")
    }
    pub(super) fn tool(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
    /// Names of the nodes that exist, running or not, in order.
    pub(crate) fn nodes(&self) -> Result<Vec<String>> {
        let folder = self.cluster.join("nodes");
        let mut names = Vec::new();
        if folder.exists() {
            for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// What is known of a node from its number.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) index: u8,
}

impl Node {
    pub(super) fn new(index: u8) -> Self {
        Self { name: format!("node{index}"), index }
    }
    /// The node of that name, as `node1`.
    pub(super) fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("node").and_then(|digits| digits.parse().ok()) {
            Some(index) if (1..=MAX_NODES).contains(&index) => Ok(Self::new(index)),
            _ => Err(anyhow!("no node is called {name:?}; nodes are called node1, node2, …")),
        }
    }
    pub(super) fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, 0, 10 + self.index)
    }
    pub(super) fn pod_cidr(&self) -> String {
        format!("10.244.{}.0/24", self.index)
    }
}

/// Name of the network namespace of a group of processes.
pub(super) fn netns(group: &str) -> String {
    format!("mrs-{group}")
}
