//! What the daemon does for its node: the startup taint, and pods that started without their networks.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    Cluster,
    cluster::{NODE, eventually},
    objects::Namespace,
};

const TAINT: &str = "multus/not-ready";
/// Two looks of the daemon, and what a loaded machine adds.
const FOUND_WITHIN: Duration = Duration::from_secs(90);

fn taints(cluster: &Cluster) -> Result<String> {
    cluster.kubectl(&["get", "node", NODE, "-o", "jsonpath={.spec.taints[*].key}"])
}

#[test]
fn the_startup_taint_stays_until_networks_can_be_served() {
    let cluster = Cluster::ready().unwrap();
    let (own, aside) = ("/etc/cni/net.d/10-bridge.conflist", "/etc/cni/net.d/.10-bridge.aside");
    cluster.helm("helm3", &["--set", &format!("multus.startupTaint={TAINT}")]).unwrap();
    // As a node that has just registered and whose primary network is not there yet.
    cluster.on_node(&format!("mv {own} {aside}")).unwrap();
    eventually(Duration::from_secs(60), || {
        let ready = cluster.kubectl(&[
            "-n",
            "multus-system",
            "get",
            "pods",
            "--field-selector",
            &format!("spec.nodeName={NODE}"),
            "-o",
            "jsonpath={.items[0].status.containerStatuses[?(@.name=='config')].ready}",
        ])?;
        ensure!(ready == "false", "config says ready={ready} without a primary");
        Ok(())
    })
    .unwrap();
    cluster.kubectl(&["taint", "node", NODE, &format!("{TAINT}=:NoSchedule")]).unwrap();
    // Longer than the daemon takes between two looks, both before and after it took a taint off.
    std::thread::sleep(Duration::from_secs(13));
    let meanwhile = taints(cluster);
    cluster.on_node(&format!("mv {aside} {own}")).unwrap();
    assert!(meanwhile.unwrap().contains(TAINT), "taken off while no network could be served");
    eventually(Duration::from_secs(60), || {
        let left = taints(cluster)?;
        ensure!(!left.contains(TAINT), "{left}");
        Ok(())
    })
    .unwrap();
    cluster.helm("helm3", &[]).unwrap();
}

/// Our config was not there when a pod started, so it has the primary network alone.
#[test]
fn a_pod_that_started_without_its_networks_is_told_labelled_or_deleted_as_set() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "repair").unwrap();
    space.bridge("a", 95).unwrap();
    cluster.helm("helm3", &["--set", "multus.repair=label,multus.restoreConfig=false"]).unwrap();
    space.pod("fine", Some("a")).unwrap();
    space.ready("fine", 60).unwrap();
    let (ours, aside) = ("/etc/cni/net.d/00-multus.conflist", "/etc/cni/net.d/.00-multus.aside");
    cluster.on_node(&format!("mv {ours} {aside}")).unwrap();
    space.pod("late", Some("a")).unwrap();
    let started = space.ready("late", 60);
    cluster.on_node(&format!("mv {aside} {ours}")).unwrap();
    started.unwrap();
    let labelled = || space.kubectl(&["get", "pods", "-l", "multus/networks=missing", "-o", "name"]);
    eventually(FOUND_WITHIN, || {
        let found = labelled()?;
        ensure!(found.trim() == "pod/late", "labelled: {found:?}");
        let events = space.events("late")?;
        ensure!(events.iter().any(|event| event.starts_with("NetworksMissing")), "{events:?}");
        Ok(())
    })
    .unwrap();
    cluster.helm("helm3", &["--set", "multus.repair=delete"]).unwrap();
    eventually(FOUND_WITHIN, || {
        let left = space.kubectl(&["get", "pods", "-o", "name"])?;
        ensure!(left.trim() == "pod/fine", "left: {left:?}");
        Ok(())
    })
    .unwrap();
    cluster.helm("helm3", &[]).unwrap();
}
