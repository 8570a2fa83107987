//! Which config is taken for the primary network's.

use std::fs;

use testkit::random::Random;

use crate::node::{Node, primary};

// Holds: FB9, B25
#[test]
fn a_multus_config_is_never_the_primary() {
    let mut node = Node::new();
    for (file, kind) in [("01-a.conf", "multus"), ("02-b.conf", "multus-shim"), ("03-c.json", "multus-cni")] {
        node.put(file, &format!(r#"{{"cniVersion":"1.0.0","name":"m","type":"{kind}"}}"#));
    }
    node.put("04-lo.conf", r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#);
    node.put("99-net.conf", r#"{"cniVersion":"0.4.0","name":"pods","type":"bridge"}"#);
    node.start(&[]);
    node.until_serving("99-net.conf");
    assert_eq!(node.ours().unwrap()["cniVersion"], "0.4.0");
}

const SAMPLES: [(&str, &str); 3] = [
    (
        "11-crio-ipv4-bridge.conflist",
        r#"{"cniVersion":"1.0.0","name":"crio","plugins":[{"type":"bridge","bridge":"cni0"}]}"#,
    ),
    (
        "87-podman-bridge.conflist",
        r#"{"cniVersion":"0.4.0","name":"podman","plugins":[{"type":"bridge","bridge":"cni-podman0"},{"type":"portmap"}]}"#,
    ),
    (
        "05-nerdctl.conflist",
        r#"{"cniVersion":"1.0.0","name":"bridge","nerdctlID":"17f29b","plugins":[{"type":"bridge"}]}"#,
    ),
];

#[test]
fn a_sample_of_a_runtime_is_taken_only_when_it_is_named() {
    for (file, text) in SAMPLES {
        let mut node = Node::new();
        node.put(file, text);
        node.start(&[]);
        node.until("it waits", |n| n.log().contains(&format!("set multus.primaryCniConfigFile={file}")));
        assert!(node.ours().is_none());
        node.kill();
        node.start(&["--primary", file]);
        node.until_serving(file);
    }
}

/// Configs come in any order while a node boots: pods must never get the network of another one.
#[test]
fn in_every_order_of_arrival_only_the_wanted_network_is_ever_named() {
    let mut random = Random::seeded("FAULT_SEED");
    let wanted = primary("pods");
    for round in 0..8 {
        let mut files = vec![("20-net.conflist", wanted.as_str())];
        files.extend(SAMPLES);
        files.push(("01-half.conflist", r#"{"cniVersion":"1.0.0","name":"half","plugins":[{"type":"#));
        files.push(("02-empty.conflist", ""));
        let mut node = Node::new();
        let args =
            if round % 2 == 0 { ["--primary", "20-net.conflist"] } else { ["--primary-network", "pods"] };
        node.start(&args);
        while !files.is_empty() {
            let (file, text) = files.swap_remove(random.below(files.len()));
            node.put(file, text);
            std::thread::sleep(std::time::Duration::from_millis(random.below(120) as u64));
            assert!(["", "/etc/cni/net.d/20-net.conflist"].contains(&node.cluster_network().as_str()));
        }
        node.until("ours names it", |n| n.cluster_network() == "/etc/cni/net.d/20-net.conflist");
    }
}

#[test]
fn a_named_primary_may_stand_in_a_sub_folder_and_nowhere_else() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("other"));
    node.start(&["--primary", "cilium/05-cilium.conflist", "--cni-version", "0.4.0"]);
    node.until("it waits", |n| n.log().contains("cilium/05-cilium.conflist is not there yet"));
    fs::create_dir(node.conf("cilium")).unwrap();
    node.put("cilium/05-cilium.conflist", &primary("cilium"));
    node.until_serving("cilium/05-cilium.conflist");
    assert_eq!(node.ours().unwrap()["cniVersion"], "0.4.0");
    for outside in ["../shadow", "/etc/shadow"] {
        let done = node.command().args(["--primary", outside]).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{outside}");
    }
}

#[test]
fn a_network_is_found_by_its_name_also_in_a_folder() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("other"));
    node.start(&["--primary-network", "cilium"]);
    node.until("it waits", |n| n.log().contains("no config of network \"cilium\""));
    fs::create_dir(node.conf("cilium")).unwrap();
    node.put("cilium/05-cilium.conflist", &primary("cilium"));
    node.until_serving("cilium/05-cilium.conflist");
}

// Holds: FB6
#[test]
fn a_named_primary_is_followed_when_its_new_version_writes_a_list() {
    let mut node = Node::new();
    node.put("10-calico.conf", r#"{"cniVersion":"0.3.1","name":"pods","type":"calico"}"#);
    node.start(&["--primary", "10-calico.conf"]);
    node.until_serving("10-calico.conf");
    node.put("10-calico.conflist", &primary("pods"));
    fs::remove_file(node.conf("10-calico.conf")).unwrap();
    node.until_serving("10-calico.conflist");
}

#[test]
fn a_primary_that_cilium_set_aside_is_named_as_that() {
    let mut node = Node::new();
    node.put("10-calico.conflist.cilium_bak", &primary("pods"));
    node.start(&["--primary", "10-calico.conflist"]);
    node.until("it says so", |n| n.log().contains("set cni.exclusive=false"));
}

/// A config of ours under any name, whole or nested, is never taken: it would call itself for ever.
// Holds: FB9
#[test]
fn whatever_stands_there_restarts_change_nothing_after_the_first() {
    let mut node = Node::new();
    let ours = r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"multus-shim","clusterNetwork":"/etc/cni/net.d/00-multus.conflist"}]}"#;
    let nested =
        r#"{"cniVersion":"0.3.1","name":"m","type":"multus","delegates":[{"type":"multus","delegates":[]}]}"#;
    let chained =
        r#"{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"multus-shim"},{"type":"istio-cni"}]}"#;
    let nameless = r#"{"type":"multus","kubeconfig":"/x"}"#;
    for (i, text) in [ours, nested, chained, nameless].iter().enumerate() {
        for extension in ["conf", "conflist", "json"] {
            node.put(&format!("0{i}-any.{extension}"), text);
        }
    }
    node.put("20-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until("ours names the other", |n| n.cluster_network() == "/etc/cni/net.d/20-net.conflist");
    node.until("it has looked", |n| !n.state().is_null());
    let first = fs::read(node.conf("00-multus.conflist")).unwrap();
    for _ in 0..5 {
        node.kill();
        fs::remove_file(node.path("state.json")).unwrap();
        node.start(&[]);
        node.until("it has looked", |n| !n.state().is_null());
        assert_eq!(first, fs::read(node.conf("00-multus.conflist")).unwrap());
    }
}
