//! The promises that every test checks at its end (`docs/architecture.md`, "Invariants").
//!
//! INV-5 joins with uninstall.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    Cluster,
    cluster::eventually,
    objects::{NETWORKS, STATUS},
    sight::{self, Interfaces, Sight},
};

/// How long a node may take to clean up after its last pod.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Checks INV-1 to INV-4 now.
///
/// # Errors
/// Which promise is broken, and how.
pub fn hold(cluster: &Cluster) -> Result<()> {
    every_pod_has_what_it_asked_for(cluster).context("INV-1")?;
    eventually(SETTLED_WITHIN, || nothing_outlives_its_sandbox(cluster)).context("INV-2")?;
    a_plain_sandbox_needs_plugin_and_conflist_alone(cluster).context("INV-3")?;
    the_cni_folder_is_at_rest(cluster).context("INV-4")
}

/// INV-3: with no socket and no state where ours would be, and more patience for the daemon than the call may take,
/// a sandbox that asks for nothing is attached and detached.
fn a_plain_sandbox_needs_plugin_and_conflist_alone(cluster: &Cluster) -> Result<()> {
    let (sandbox, netns) = ("inv3", "/run/netns/inv3");
    let nothing = json!({"runDir": "/run/inv3", "stateDir": "/run/inv3/state", "daemonWaitSeconds": 3600});
    cluster.on_node("ip netns del inv3 2>/dev/null; ip netns add inv3")?;
    let added = cluster.plugin("ADD", sandbox, netns, &json!({}), &nothing);
    let deleted = cluster.plugin("DEL", sandbox, netns, &json!({}), &nothing);
    cluster.on_node("ip netns del inv3; rm -rf /run/inv3")?;
    ensure!(added?.contains("\"ips\""), "ADD of a plain sandbox gave no address");
    deleted.map(drop)
}

/// INV-1: interfaces in the pod = requested = `network-status`, addresses included.
///
/// # Errors
/// Names the pod and the difference.
pub fn every_pod_has_what_it_asked_for(cluster: &Cluster) -> Result<()> {
    let before = running_pods_that_ask(cluster)?;
    let mut sights = BTreeMap::new();
    for node in cluster.nodes()? {
        sights.insert(node.clone(), Sight::of(cluster, &node)?);
    }
    // What left, restarted or was stopped between the looks says nothing.
    let after = running_pods_that_ask(cluster)?;
    for (container, pod) in before.iter().filter(|(container, _)| after.contains_key(*container)) {
        let sight = pod["spec"]["nodeName"].as_str().and_then(|node| sights.get(node));
        let Some(sight) = sight.filter(|sight| sight.containers.contains(container)) else { continue };
        let (name, uid) = (&pod["metadata"]["name"], sight::uid(pod).unwrap_or_default());
        let found = sight.pods.get(&uid).with_context(|| format!("{name} runs and has no sandbox"))?;
        has_what_it_asked_for(pod, found).with_context(|| name.to_string())?;
    }
    Ok(())
}

/// By the id of the container, which is a new one after a restart.
fn running_pods_that_ask(cluster: &Cluster) -> Result<BTreeMap<String, Value>> {
    let pods = cluster.json(&["get", "pods", "--all-namespaces"])?;
    let pods = pods["items"].as_array().cloned().context("no list of pods")?;
    let running = pods.into_iter().filter_map(|pod| {
        let running = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
        let asks = pod["metadata"]["annotations"][NETWORKS].as_str().is_some_and(|asks| !asks.is_empty());
        let leaving = pod["metadata"]["deletionTimestamp"].is_string();
        if !asks || leaving || !running {
            return None;
        }
        Some((sight::container(&pod)?.to_owned(), pod))
    });
    Ok(running.collect())
}

fn has_what_it_asked_for(pod: &Value, found: &Interfaces) -> Result<()> {
    let asks = pod["metadata"]["annotations"][NETWORKS].as_str().unwrap_or_default();
    let requested = if asks.starts_with('[') {
        serde_json::from_str::<Vec<Value>>(asks)?.len()
    } else {
        asks.split(',').count()
    };
    let status = pod["metadata"]["annotations"][STATUS].as_str().context("Running without network-status")?;
    let status: Vec<Value> = serde_json::from_str(status)?;
    ensure!(
        status.len() == requested + 1,
        "asked for {requested} networks, network-status has {}",
        status.len()
    );
    let said: Interfaces = status
        .iter()
        .map(|entry| {
            let ips = entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (entry["interface"].as_str().unwrap_or_default().to_owned(), ips.map(str::to_owned).collect())
        })
        .collect();
    ensure!(said == *found, "network-status says {said:?}, the pod has {found:?}");
    Ok(())
}

/// INV-2: each record, lock and reserved address belongs to a sandbox that the node's runtime has.
///
/// # Errors
/// Names what is left over.
pub fn nothing_outlives_its_sandbox(cluster: &Cluster) -> Result<()> {
    for node in cluster.nodes()? {
        let said = cluster.on(&node, WHAT_BELONGS_TO_WHOM)?;
        let (live, owned): (Vec<&str>, Vec<&str>) =
            said.lines().partition(|line| line.starts_with("sandbox "));
        let live: BTreeSet<&str> = live.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        let is_orphan = |line: &&str| !line.rsplit(' ').next().is_some_and(|id| live.contains(id));
        let orphans: Vec<&str> = owned.into_iter().filter(is_orphan).collect();
        ensure!(
            orphans.is_empty(),
            "left on {node}, where {} sandboxes live:\n{}",
            live.len(),
            orphans.join("\n")
        );
    }
    Ok(())
}

/// Prints `sandbox ID` for those that the runtime has, then what there is of ours and of the address plugin, with the id
/// of its sandbox last. The sandboxes are listed last: one that comes meanwhile is no orphan's owner too late.
const WHAT_BELONGS_TO_WHOM: &str = r#"
cd /var/lib/cni || exit 1
for f in multus-rs/journal/* /run/multus-rs/plain/*; do
  [ -f "$f" ] && echo "record $f $(basename "$f" .json)"
done
for f in $(find networks -type f ! -name lock ! -name 'last_reserved_ip*' 2>/dev/null); do
  id=$(head -n 1 "$f" 2>/dev/null | tr -d '\r') && [ -n "$id" ] && echo "address $f $id"
done
for f in /run/multus-rs/lock/* multus-rs/given-up/*; do
  [ -f "$f" ] && echo "leftover $f -"
done
ctr --namespace k8s.io containers list --quiet 'labels."io.cri-containerd.kind"==sandbox' | sed 's/^/sandbox /'"#;

/// INV-4: our conflist is whole, nothing half-written lies beside it, and nothing there is written when it does not
/// change.
fn the_cni_folder_is_at_rest(cluster: &Cluster) -> Result<()> {
    /// What the last look at each node found: the contents, and when they were written.
    static LAST: Mutex<BTreeMap<String, (String, String)>> = Mutex::new(BTreeMap::new());
    for node in cluster.nodes()? {
        let conflist = cluster.on(&node, "cat /etc/cni/net.d/00-multus.conflist")?;
        let conflist: Value = serde_json::from_str(&conflist).context("00-multus.conflist is not whole")?;
        ensure!(
            conflist["plugins"][0]["type"] == "multus-shim",
            "00-multus.conflist is not ours: {conflist}"
        );
        let hidden = cluster.on(&node, "find /etc/cni/net.d -name '.*' -type f")?;
        ensure!(hidden.trim().is_empty(), "half-written in the CNI folder of {node}: {hidden}");
        let contents = cluster.on(&node, "head -n -0 /etc/cni/net.d/*")?;
        let written = cluster.on(&node, "stat -c '%n inode %i written %y' /etc/cni/net.d/*")?;
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, then)) = last.insert(node.clone(), (contents.clone(), written.clone())) {
            ensure!(
                before != contents || then == written,
                "on {node}, written without a change:\n{then}now:\n{written}"
            );
        }
    }
    Ok(())
}
