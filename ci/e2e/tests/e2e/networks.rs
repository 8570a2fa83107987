//! Pods with networks, good and bad.

use std::{collections::BTreeSet, time::Duration};

use e2e::{
    Cluster,
    cluster::eventually,
    objects::{Namespace, pod},
    sight::addresses,
};
use serde_json::{Value, json};

use crate::invariants_hold;

// Holds: N36, N42, N45, D9, P6
#[test]
fn a_pod_has_the_networks_its_status_says_and_leaves_nothing_behind() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "two-networks").unwrap();
    space.bridge("a", 11).unwrap();
    space.bridge("b", 12).unwrap();
    space.start(&[pod("both", Some("a,b"))]).unwrap();
    let found = addresses(cluster, &space.name, "both").unwrap();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["eth0", "net1", "net2"]);
    for (interface, start) in [("net1", "10.99.11."), ("net2", "10.99.12.")] {
        let addresses = &found[interface];
        assert!(addresses.len() == 1 && addresses.iter().all(|ip| ip.starts_with(start)), "{found:?}");
    }
    // The host's ends of the pod's links, and the addresses that are kept for it.
    let traces = || {
        let ports = cluster.on_node("ip -o link show master br11; ip -o link show master br12")?;
        let networks = "/var/lib/cni/networks/two-networks-a /var/lib/cni/networks/two-networks-b";
        let reserved = cluster.on_node(&format!("ls {networks} | grep ^10 || true"))?;
        anyhow::Ok((ports.lines().count(), reserved.lines().count()))
    };
    assert_eq!(traces().unwrap(), (2, 2));
    invariants_hold(cluster);

    space.delete("both").unwrap();
    eventually(Duration::from_secs(30), || {
        let left = traces()?;
        anyhow::ensure!(left == (0, 0), "links and addresses that are left: {left:?}");
        Ok(())
    })
    .unwrap();
    invariants_hold(cluster);
}

// Holds: N9, N10
#[test]
fn every_form_of_the_annotation_attaches_on_a_real_node() {
    let cluster = Cluster::ready().unwrap();
    let (here, other) =
        (Namespace::new(cluster, "forms").unwrap(), Namespace::new(cluster, "forms-other").unwrap());
    here.bridge("a", 21).unwrap();
    other.bridge("b", 22).unwrap();
    let list = r#"{"cniVersion":"1.0.0","plugins":[{"type":"bridge","bridge":"br23","ipam":{"type":"host-local","ranges":[[{"subnet":"10.99.23.0/24"}]]}},{"type":"tuning"}]}"#;
    here.network("list", list).unwrap();
    let forms = [
        ("comma", "a,forms-other/b", ["eth0", "net1", "net2"]),
        ("named", "a@data0,forms-other/b@data1", ["data0", "data1", "eth0"]),
        (
            "json",
            r#"[{"name":"a"},{"name":"b","namespace":"forms-other","interface":"data1"}]"#,
            ["data1", "eth0", "net1"],
        ),
        ("list", "list,a", ["eth0", "net1", "net2"]),
    ];
    here.start(&forms.map(|(name, networks, _)| pod(name, Some(networks)))).unwrap();
    for (pod, _, interfaces) in &forms {
        let found: BTreeSet<String> = addresses(cluster, &here.name, pod).unwrap().into_keys().collect();
        assert_eq!(found, interfaces.iter().map(|name| (*name).to_owned()).collect(), "{pod}");
    }
    invariants_hold(cluster);
}

// Holds: N6
#[test]
fn a_bad_network_is_explained_by_the_pods_events_in_one_line() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "bad").unwrap();
    space.network("broken", "{ not json").unwrap();
    space.network("absent-plugin", r#"{"cniVersion":"1.0.0","type":"not-installed"}"#).unwrap();
    let cases = [
        ("broken", "broken", ["bad/broken", "kubectl -n bad edit"]),
        ("plugin", "absent-plugin", ["bad/absent-plugin", "not-installed"]),
        ("unknown", "nowhere", ["bad/nowhere", "create"]),
    ];
    space.create(&cases.map(|(name, network, _)| pod(name, Some(network)))).unwrap();
    for (pod, _, words) in &cases {
        let ours = eventually(Duration::from_secs(60), || {
            let events = space.events(pod)?;
            let ours = events.iter().find_map(|event| event.strip_prefix("NetworkFailed: "));
            let runtimes = events.iter().find(|event| event.starts_with("FailedCreatePodSandBox"));
            let (Some(ours), Some(runtimes)) = (ours, runtimes) else { anyhow::bail!("{events:?}") };
            anyhow::ensure!(
                runtimes.contains(words[0]),
                "the runtime's event does not name the network: {runtimes}"
            );
            Ok(ours.to_owned())
        })
        .unwrap();
        assert!(words.iter().all(|word| ours.contains(word)), "{ours}");
        assert!(ours.chars().count() < 300 && !ours.contains('\n'), "{ours}");
    }
    invariants_hold(cluster);
}

#[test]
fn the_chart_is_served_by_helm_3_and_helm_4_alike() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "helms").unwrap();
    space.bridge("a", 31).unwrap();
    space.pod("before", Some("a")).unwrap();
    space.ready("before", 60).unwrap();
    for helm in ["helm4", "helm3"] {
        cluster.helm(helm, &[]).unwrap();
        space.pod(helm, Some("a")).unwrap();
        space.ready(helm, 60).unwrap();
    }
    invariants_hold(cluster);
}

#[test]
fn while_the_api_server_hangs_a_plain_sandbox_starts_and_any_sandbox_ends() {
    let cluster = Cluster::ready().unwrap();
    let space = Namespace::new(cluster, "no-api").unwrap();
    space.bridge("a", 41).unwrap();
    space.pod("asks", Some("a")).unwrap();
    space.ready("asks", 60).unwrap();
    let sandbox = cluster.on_node("basename -s .json /var/lib/cni/multus-rs/journal/*").unwrap();
    let sandbox = sandbox
        .lines()
        .find(|id| {
            cluster.on_node(&format!("grep -l no-api /var/lib/cni/multus-rs/journal/{id}.json")).is_ok()
        })
        .unwrap()
        .to_owned();
    cluster.xtask(&["cluster", "signal", "kube-apiserver", "STOP"]).unwrap();
    let thaw = Thaw(cluster);
    let call = |verb: &str, id: &str, netns: &str, annotations: Value| {
        cluster.plugin(verb, id, netns, &annotations, &json!({}))
    };
    cluster.on_node("ip netns del no-api-plain 2>/dev/null; ip netns add no-api-plain").unwrap();
    let plain = call("ADD", "plain-by-hand", "/run/netns/no-api-plain", json!({})).unwrap();
    assert!(plain.contains("\"ips\""), "{plain}");
    call("DEL", "plain-by-hand", "/run/netns/no-api-plain", json!({})).unwrap();
    a_static_pod_comes_and_goes(cluster);
    call("DEL", &sandbox, "", json!({"k8s.v1.cni.cncf.io/networks": "a"})).unwrap();
    assert!(
        cluster.on_node(&format!("ls /var/lib/cni/multus-rs/journal/{sandbox}.json")).is_err(),
        "the DEL left its record"
    );
    assert_eq!(cluster.on_node("ls /var/lib/cni/networks/no-api-a | grep ^10 || true").unwrap(), "");
    cluster.on_node("ip netns del no-api-plain").unwrap();
    drop(thaw);
    space.delete("asks").unwrap();
    invariants_hold(cluster);
}

/// A static pod needs no API server: kubelet reads it from the node, and so do we what it asks for.
fn a_static_pod_comes_and_goes(cluster: &Cluster) {
    let manifest = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static-plain", "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": "main", "image": "localhost/multus-rs-test:dev", "imagePullPolicy": "Never", "command": ["sleep", "infinity"],
        }]},
    });
    let file = "/etc/kubernetes/manifests/static-plain.json";
    let records = "grep -l static-plain /run/multus-rs/plain/* || true";
    let recorded = |wanted: usize| {
        eventually(Duration::from_secs(60), || {
            let found = cluster.on_node(records)?;
            anyhow::ensure!(found.lines().count() == wanted, "records of the static pod: {found:?}");
            Ok(())
        })
        .unwrap();
    };
    cluster.on_node(&format!("mkdir -p /etc/kubernetes/manifests; echo '{manifest}' > {file}")).unwrap();
    recorded(1);
    cluster.on_node(&format!("rm {file}")).unwrap();
    recorded(0);
}

/// Lets the API server go on, also when the test fails.
struct Thaw<'a>(&'a Cluster);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.xtask(&["cluster", "signal", "kube-apiserver", "CONT"]) {
            eprintln!("the API server stays stopped: {error:#}");
        }
    }
}
