//! The settings of the chart that change what stands on a node, as customers write them.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::{
    Cluster,
    cluster::{NODE, eventually},
    objects::Namespace,
};
use serde_json::{Value, json};

use crate::cilium::{Behaviour, Cilium};

fn conflist(cluster: &Cluster) -> Result<Value> {
    Ok(serde_json::from_str(&cluster.on_node("cat /etc/cni/net.d/00-multus.conflist")?)?)
}

/// Cilium with `cni.exclusive: false` and `cni.confPath: /etc/cni/net.d/cilium`; our chart with
/// `primaryCniConfigFile: cilium/05-cilium.conflist` and `readinessIndicatorEnabled: true`.
#[test]
fn cilium_in_a_folder_of_its_own_serves_pods_and_its_file_is_the_indicator() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "cilium-folder").unwrap();
    space.bridge("a", 81).unwrap();
    let behaviour = Behaviour { late: 0, file: "cilium/05-cilium.conflist", exclusive: false };
    let cilium = Cilium::install(cluster, &behaviour).unwrap();
    let customers = [
        "--set",
        "multus.primaryCniConfigFile=cilium/05-cilium.conflist",
        "--set",
        "multus.readinessIndicatorEnabled=true",
        // The imitated Cilium is on one node; another would await it for ever.
        "--set",
        &format!(r"nodeSelector.kubernetes\.io/hostname={NODE}"),
    ];
    cluster.helm("helm3", &customers).unwrap();
    let entry = conflist(cluster).unwrap()["plugins"][0].clone();
    assert_eq!(entry["clusterNetwork"], "/etc/cni/net.d/cilium/05-cilium.conflist");
    assert_eq!(entry["readinessindicatorfile"], "/etc/cni/net.d/cilium/05-cilium.conflist");
    space.pod("with", Some("a")).unwrap();
    space.pod("plain", None).unwrap();
    for pod in ["with", "plain"] {
        space.ready(pod, 60).unwrap();
    }
    // The agent is away and so is its file: whoever asks waits, and is told for what.
    cluster.on_node("rm /etc/cni/net.d/cilium/05-cilium.conflist").unwrap();
    space.pod("waits", Some("a")).unwrap();
    eventually(Duration::from_secs(60), || {
        let events = space.events("waits")?;
        let told = events.iter().any(|event| event.contains("cilium/05-cilium.conflist"));
        ensure!(told, "{events:?}");
        Ok(())
    })
    .unwrap();
    cluster.kubectl(&["-n", "kube-system", "delete", "pod", "-l", "app=cilium", "--timeout=60s"]).unwrap();
    space.ready("waits", 90).unwrap();
    drop(space);
    drop(cilium);
    cluster.helm("helm3", &[]).unwrap();
}

/// `multus.integrations.talos.enabled: true` on a node that lacks the reference plugins, as Talos does.
#[test]
fn the_talos_integration_brings_the_plugins_that_the_node_lacks() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "talos").unwrap();
    cluster.xtask(&["images", "--cni-plugins", "--load"]).unwrap();
    let aside = "/var/lib/talos-test";
    cluster.on_node(&format!("mkdir -p {aside}; cd /opt/cni/bin && mv macvlan ipvlan {aside}/")).unwrap();
    let settings = [
        "--set",
        "multus.integrations.talos.enabled=true,multus.integrations.talos.installCni.bridge=true,install.watch=true",
        "--set",
        "cniPlugins.image.tag=dev,cniPlugins.image.pullPolicy=Never",
    ];
    let bridge = cluster.on_node("sha256sum /opt/cni/bin/bridge").unwrap();
    let asks = json!({
        "cniVersion": "0.3.1", "name": "talos-macvlan", "type": "macvlan", "mode": "bridge",
        "ipam": {"type": "host-local", "subnet": "10.99.91.0/24"},
    });
    space.network("macvlan-network", &asks.to_string()).unwrap();
    let outcome = cluster.helm("helm3", &settings).and_then(|()| {
        ensure!(
            bridge == cluster.on_node("sha256sum /opt/cni/bin/bridge")?,
            "the host's own bridge was replaced"
        );
        let ledger: Value =
            serde_json::from_str(&cluster.on_node("cat /var/lib/cni/multus-rs/ledger/install.json")?)?;
        let entries = ledger["entries"].as_array().cloned().unwrap_or_default();
        let ours: Vec<&str> = entries.iter().filter_map(|entry| entry["path"].as_str()).collect();
        for plugin in ["multus-shim", "macvlan", "ipvlan"] {
            ensure!(ours.contains(&format!("/opt/cni/bin/{plugin}").as_str()), "the ledger has {ours:?}");
        }
        ensure!(!ours.contains(&"/opt/cni/bin/bridge"), "the ledger takes the host's bridge for ours");
        space.pod("pod", Some("macvlan-network"))?;
        space.ready("pod", 60)?;
        // Taken away by another installer, it comes back.
        cluster.on_node("rm /opt/cni/bin/macvlan")?;
        eventually(Duration::from_secs(90), || cluster.on_node("test -x /opt/cni/bin/macvlan").map(drop))
    });
    let back = cluster.helm("helm3", &[]);
    cluster.on_node(&format!("mv {aside}/* /opt/cni/bin/; rmdir {aside}")).unwrap();
    outcome.unwrap();
    back.unwrap();
}
