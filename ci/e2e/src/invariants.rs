//! The promises that every test checks at its end (`docs/architecture.md`, "Invariants").
//!
//! INV-5 joins with uninstall.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    Cluster,
    cluster::eventually,
    objects::{NETWORKS, STATUS},
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
    let pods = cluster.json(&["get", "pods", "--all-namespaces"])?;
    for pod in pods["items"].as_array().context("no list of pods")? {
        let asks = pod["metadata"]["annotations"][NETWORKS].as_str().unwrap_or_default();
        let running = pod["status"]["containerStatuses"][0]["state"]["running"].is_object();
        let leaving = pod["metadata"]["deletionTimestamp"].is_string();
        if running && !leaving && !asks.is_empty() {
            has_what_it_asked_for(cluster, pod).with_context(|| pod["metadata"]["name"].to_string())?;
        }
    }
    Ok(())
}

fn has_what_it_asked_for(cluster: &Cluster, pod: &Value) -> Result<()> {
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
    let said: BTreeMap<String, BTreeSet<String>> = status
        .iter()
        .map(|entry| {
            let ips = entry["ips"].as_array().into_iter().flatten().filter_map(Value::as_str);
            (entry["interface"].as_str().unwrap_or_default().to_owned(), ips.map(str::to_owned).collect())
        })
        .collect();
    let (namespace, name) = (
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default(),
    );
    let found = addresses(cluster, namespace, name)?;
    ensure!(said == found, "network-status says {said:?}, the pod has {found:?}");
    Ok(())
}

/// IPv4 addresses by interface, as the pod itself sees them; without loopback.
///
/// # Errors
/// kubectl's own words.
pub fn addresses(
    cluster: &Cluster,
    namespace: &str,
    pod: &str,
) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let text =
        cluster.kubectl(&["--namespace", namespace, "exec", pod, "--", "ip", "-o", "-4", "addr", "show"])?;
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(interface), Some(address)) = (words.get(1), words.get(3)) else {
            bail!("not understood: {line}")
        };
        if *interface != "lo" {
            let address = address.split('/').next().unwrap_or_default();
            found.entry((*interface).to_owned()).or_default().insert(address.to_owned());
        }
    }
    Ok(found)
}

/// INV-2: each record, lock and reserved address belongs to a sandbox that the runtime has.
///
/// # Errors
/// Names what is left over.
pub fn nothing_outlives_its_sandbox(cluster: &Cluster) -> Result<()> {
    let live = sandboxes(cluster)?;
    let left = cluster.on_node(
        "cd /var/lib/cni; for f in multus-rs/journal/* /run/multus-rs/plain/*; do [ -f \"$f\" ] && echo \"record $f $(basename \"$f\" .json)\"; done; \
         for f in $(find networks -type f ! -name lock ! -name 'last_reserved_ip*'); do [ -f \"$f\" ] && echo \"address $f $(head -n1 \"$f\" | tr -d '\\r')\"; done; \
         for f in /run/multus-rs/lock/* multus-rs/given-up/*; do [ -f \"$f\" ] && echo \"leftover $f -\"; done; true",
    )?;
    let orphans: Vec<&str> =
        left.lines().filter(|line| !line.rsplit(' ').next().is_some_and(|id| live.contains(id))).collect();
    ensure!(orphans.is_empty(), "left behind, while {} sandboxes live:\n{}", live.len(), orphans.join("\n"));
    Ok(())
}

/// Ids of the sandboxes that the node's runtime has.
fn sandboxes(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let text = cluster.on_node(
        "ctr --namespace k8s.io containers list --quiet 'labels.\"io.cri-containerd.kind\"==sandbox'",
    )?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// INV-4: our conflist is whole, nothing half-written lies beside it, and nothing there is ever written again.
fn the_cni_folder_is_at_rest(cluster: &Cluster) -> Result<()> {
    let conflist = cluster.on_node("cat /etc/cni/net.d/00-multus.conflist")?;
    let conflist: Value = serde_json::from_str(&conflist).context("00-multus.conflist is not whole")?;
    ensure!(conflist["plugins"][0]["type"] == "multus-shim", "00-multus.conflist is not ours: {conflist}");
    let hidden = cluster.on_node("find /etc/cni/net.d -name '.*' -type f")?;
    ensure!(hidden.trim().is_empty(), "half-written in the CNI folder: {hidden}");
    static FIRST: OnceLock<String> = OnceLock::new();
    let now = cluster.on_node("stat -c '%n inode %i written %y' /etc/cni/net.d/*")?;
    let first = FIRST.get_or_init(|| now.clone());
    ensure!(*first == now, "written since the first look:\n{first}now:\n{now}");
    Ok(())
}
