//! A node loses its power and gets it back: its disk stays, every process and its `/run` are gone.

use std::time::Duration;

use anyhow::ensure;
use e2e::{
    Cluster,
    cluster::eventually,
    objects::{Namespace, pod},
    sight::{addresses, runs},
};
use serde_json::json;

use crate::invariants_hold;

/// Not the one that other tests look at.
const NODE: &str = "node2";

/// Switches the node on again, also when the test fails.
struct Off<'a>(&'a Cluster);

impl Drop for Off<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.xtask(&["cluster", "node", "start", NODE]) {
            eprintln!("{NODE} stays off: {error:#}");
        }
    }
}

#[test]
fn after_a_power_cut_a_node_brings_its_pods_back_with_all_networks_and_nothing_of_the_old_ones() {
    let cluster = Cluster::ready().unwrap();
    if !cluster.nodes().unwrap().contains(&NODE.to_owned()) {
        testkit::skip("there is one node only; start the cluster with: cargo xtask cluster up --nodes 2");
        return;
    }
    let space = Namespace::new(cluster, "power").unwrap();
    space.bridge("a", 71).unwrap();
    space.bridge("b", 72).unwrap();
    let pods = [("asks", Some("a,b")), ("plain", None), ("leaves", Some("a"))].map(|(name, networks)| {
        let mut pod = pod(name, networks);
        pod["spec"]["nodeName"] = json!(NODE);
        pod
    });
    space.start(&pods).unwrap();
    let boot = ["get", "node", NODE, "-o", "jsonpath={.status.nodeInfo.bootID}"];
    let before = cluster.kubectl(&boot).unwrap();

    cluster.xtask(&["cluster", "node", "stop", NODE]).unwrap();
    let off = Off(cluster);
    assert!(cluster.on(NODE, "true").is_err(), "{NODE} has no power and runs a command");
    space.kubectl(&["delete", "pod", "leaves", "--wait=false"]).unwrap();
    space.start(&[pod("elsewhere", Some("a"))]).unwrap();

    drop(off);
    assert_ne!(cluster.kubectl(&boot).unwrap(), before, "the node came back with the boot id that it had");
    for name in ["asks", "plain"] {
        eventually(Duration::from_secs(120), || {
            ensure!(
                runs(cluster, &space.name, name)?,
                "{name} does not run again: {:?}",
                space.events(name)?
            );
            Ok(())
        })
        .unwrap();
    }
    let found = addresses(cluster, &space.name, "asks").unwrap();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["eth0", "net1", "net2"]);
    space.kubectl(&["wait", "--for=delete", "pod/leaves", "--timeout=120s"]).unwrap();
    cluster.rolled_out().unwrap();
    invariants_hold(cluster);
}
