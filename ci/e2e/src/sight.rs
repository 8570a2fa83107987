//! What pods really have, seen from their node: the interfaces and addresses of their network namespaces.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Cluster;

/// Addresses by interface, without loopback. An interface without an address has an empty set.
pub type Interfaces = BTreeMap<String, BTreeSet<String>>;

/// One look at a node.
#[derive(Debug, Default)]
pub struct Sight {
    /// Ids of the containers that run, as the runtime has them.
    pub containers: BTreeSet<String>,
    /// What each pod's sandbox has, by the pod's [`uid`].
    pub pods: BTreeMap<String, Interfaces>,
}

/// Prints `container ID` for whatever runs, and `pod UID JSON` for each sandbox, of which the cgroup names the pod.
const LOOK: &str = r#"
sandboxes=" $(ctr -n k8s.io containers list -q 'labels."io.cri-containerd.kind"==sandbox' | tr '\n' ' ')"
ctr -n k8s.io tasks list | while read -r id pid status; do
  [ "$status" = RUNNING ] && echo "container $id"
  case "$sandboxes" in *" $id "*) ;; *) continue ;; esac
  uid=$(sed -n 's|.*/pod\([^/]*\)/.*|\1|p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
  interfaces=$(nsenter --net="/proc/$pid/ns/net" ip -j address 2>/dev/null | tr -d '\n')
  [ -n "$uid" ] && [ -n "$interfaces" ] && echo "pod $uid $interfaces"
done
true"#;

impl Sight {
    /// Looks at a node, once for all its pods.
    ///
    /// # Errors
    /// When the node cannot be looked at.
    pub fn of(cluster: &Cluster, node: &str) -> Result<Self> {
        let mut sight = Self::default();
        for line in cluster.on(node, LOOK)?.lines() {
            if let Some(id) = line.strip_prefix("container ") {
                sight.containers.insert(id.to_owned());
            } else if let Some((uid, json)) = line.strip_prefix("pod ").and_then(|rest| rest.split_once(' '))
            {
                sight.pods.insert(uid.to_owned(), interfaces(json)?);
            }
        }
        Ok(sight)
    }
}

/// Addresses by interface of one pod.
///
/// # Errors
/// When there is no such pod, or its node has no sandbox for it.
pub fn addresses(cluster: &Cluster, namespace: &str, pod: &str) -> Result<Interfaces> {
    let pod = cluster.json(&["--namespace", namespace, "get", "pod", pod])?;
    let node = pod["spec"]["nodeName"].as_str().context("the pod is on no node")?;
    let uid = uid(&pod).context("the pod has no uid")?;
    Sight::of(cluster, node)?.pods.remove(&uid).context("the pod has no sandbox")
}

/// Whether the container that the API calls the pod's is one that runs on the pod's node. After a power cut the API says
/// Running for a while of what is long gone.
///
/// # Errors
/// When there is no such pod, or its node cannot be looked at.
pub fn runs(cluster: &Cluster, namespace: &str, pod: &str) -> Result<bool> {
    let pod = cluster.json(&["--namespace", namespace, "get", "pod", pod])?;
    let node = pod["spec"]["nodeName"].as_str().context("the pod is on no node")?;
    let Some(id) = container(&pod) else { return Ok(false) };
    Ok(Sight::of(cluster, node)?.containers.contains(id))
}

/// Id of the pod's first container, by which the runtime knows it.
pub fn container(pod: &Value) -> Option<&str> {
    pod["status"]["containerStatuses"][0]["containerID"].as_str()?.strip_prefix("containerd://")
}

/// The uid by which kubelet and runtime know a pod. A static pod's is not that of its mirror in the API.
pub fn uid(pod: &Value) -> Option<String> {
    let mirrored = pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].as_str();
    mirrored.or(pod["metadata"]["uid"].as_str()).map(str::to_owned)
}

/// Reads what `ip -j address` prints. Devices that are down and bare are those that the kernel puts everywhere.
fn interfaces(json: &str) -> Result<Interfaces> {
    let links: Vec<Value> = serde_json::from_str(json).context("ip prints no list of interfaces")?;
    let mut found = Interfaces::new();
    for link in &links {
        let name = link["ifname"].as_str().context("an interface has no name")?;
        let addresses = link["addr_info"].as_array().into_iter().flatten();
        let addresses: BTreeSet<String> = addresses
            .filter(|address| address["scope"] == "global")
            .filter_map(|address| address["local"].as_str().map(str::to_owned))
            .collect();
        let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
        if name != "lo" && (up || !addresses.is_empty()) {
            found.insert(name.to_owned(), addresses);
        }
    }
    Ok(found)
}
