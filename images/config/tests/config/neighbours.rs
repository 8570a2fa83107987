//! Other programs that write into the CNI config folder.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::node::{Node, identity, primary};

/// What Cilium's exclusive mode does on any event: every other config gets another name.
fn exclusive_cilium(node: &Node) -> bool {
    let here = node.conf("00-multus.conflist");
    fs::rename(&here, node.conf("00-multus.conflist.cilium_bak")).is_ok()
}

// Holds: FB7
#[test]
fn cilium_is_named_and_answered_at_most_once_in_the_time_that_was_set() {
    let mut node = Node::new();
    node.put("05-cilium.conflist", &primary("cilium"));
    node.start(&[]);
    node.until_serving("05-cilium.conflist");
    assert!(exclusive_cilium(&node));
    node.until("it is back", |n| n.ours().is_some());
    assert!(node.log().contains("set cni.exclusive=false in Cilium's values"), "{}", node.log());
    node.until("it is counted", |n| n.state()["restored"] == 1);
    assert!(exclusive_cilium(&node));
    node.until("it says so", |n| n.probe().is_err_and(|why| why.contains("cni.exclusive=false")));
    assert!(node.ours().is_none(), "put back twice within the minute");
    assert_eq!(node.state()["restored"], 1);
    assert_eq!(node.state()["ready"], false);
}

// Holds: FB7
#[test]
fn against_an_exclusive_cilium_our_writes_stay_few() {
    let mut node = Node::new();
    node.put("05-cilium.conflist", &primary("cilium"));
    node.start(&["--restore-seconds", "1", "--rescan-seconds", "1"]);
    node.until_serving("05-cilium.conflist");
    let end = std::time::Instant::now() + Duration::from_secs(5);
    let mut taken = 0;
    while std::time::Instant::now() < end {
        taken += usize::from(exclusive_cilium(&node));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!((2..=6).contains(&taken), "{taken} writes in 5 s, one a second was allowed");
    node.until("it converges once Cilium lets it", |n| n.probe().is_ok());
}

// Holds: FB7
#[test]
fn a_cilium_that_took_our_config_while_we_were_away_is_named_at_the_next_start() {
    let mut node = Node::new();
    node.put("05-cilium.conflist", &primary("cilium"));
    node.start(&[]);
    node.until_serving("05-cilium.conflist");
    assert!(node.terminate().success());
    assert!(exclusive_cilium(&node));
    node.start(&[]);
    node.until_serving("05-cilium.conflist");
    assert!(node.log().contains("renamed by Cilium"), "{}", node.log());
}

// Holds: FB7
#[test]
fn told_not_to_it_puts_nothing_back() {
    let mut node = Node::new();
    node.put("05-cilium.conflist", &primary("cilium"));
    node.start(&["--no-restore"]);
    node.until_serving("05-cilium.conflist");
    assert!(exclusive_cilium(&node));
    node.until("it says so", |n| n.log().contains("restoreConfig is false"));
    node.put("05-cilium.conflist", &primary("cilium"));
    std::thread::sleep(Duration::from_millis(600));
    assert!(node.ours().is_none());
}

// Holds: FB8
#[test]
fn a_plugin_that_others_chained_stays_when_the_primary_changes() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let mut ours = node.ours().unwrap();
    ours["plugins"].as_array_mut().unwrap().push(json!({"type": "istio-cni", "log_level": "info"}));
    node.put("00-multus.conflist", &ours.to_string());
    let theirs = identity(&node.conf("00-multus.conflist"));
    node.put("05-net.conflist", &primary("pods"));
    node.until_serving("05-net.conflist");
    assert_ne!(theirs, identity(&node.conf("00-multus.conflist")));
    assert_eq!(node.ours().unwrap()["plugins"][1], json!({"type": "istio-cni", "log_level": "info"}));
}

/// istio and linkerd add themselves to the first config, in their own format and with their own mode.
// Holds: FB8
#[test]
fn a_chain_editor_may_come_edit_and_go_without_being_answered() {
    use std::os::unix::fs::PermissionsExt;
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&["--rescan-seconds", "1"]);
    node.until_serving("10-net.conflist");
    let alone = node.ours().unwrap();
    let mut both = alone.clone();
    both["plugins"].as_array_mut().unwrap().push(json!({"type": "linkerd-cni", "kubernetes": {"big": 1}}));
    for edited in [&both, &alone, &both] {
        node.put("00-multus.conflist", &serde_json::to_string_pretty(edited).unwrap());
        let mode = if edited == &both { 0o644 } else { 0o600 };
        fs::set_permissions(node.conf("00-multus.conflist"), fs::Permissions::from_mode(mode)).unwrap();
        let theirs = identity(&node.conf("00-multus.conflist"));
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(theirs, identity(&node.conf("00-multus.conflist")), "written again: {}", node.log());
        assert!(node.probe().is_ok());
    }
    assert_eq!(node.log().matches("wrote ").count(), 1, "{}", node.log());
}

// Holds: FB6
#[test]
fn a_newcomer_that_sorts_before_us_is_named() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    node.put("00-a.conflist", &primary("other"));
    node.until("it says so", |n| n.probe().is_err_and(|why| why.contains("00-a.conflist sorts before")));
    node.until("the log says so", |n| n.log().contains("00-a.conflist sorts before"));
    fs::remove_file(node.conf("00-a.conflist")).unwrap();
    node.until_serving("10-net.conflist");
}

#[test]
fn the_config_of_a_go_multus_is_set_aside_only_once_ours_is_in_place() {
    let mut node = Node::new();
    let go = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim","clusterNetwork":"/host/etc/cni/net.d/10-net.conflist"}"#;
    node.put("00-multus.conf", go);
    node.start(&["--restore-seconds", "3600"]);
    node.until("it waits", |n| n.log().contains("waiting for the primary network"));
    assert!(node.conf("00-multus.conf").exists(), "taken away with nothing in its place");
    node.put("10-net.conflist", &primary("pods"));
    node.until_serving("10-net.conflist");
    assert!(!node.conf("00-multus.conf").exists());
    let ledger: Value =
        serde_json::from_slice(&fs::read(node.path("state/ledger/config.json")).unwrap()).unwrap();
    let entries = ledger["entries"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["path"] == "/etc/cni/net.d/00-multus.conf").unwrap();
    assert!(entry.get("sha256").is_none(), "{entry}");
    let copy = node.path("state/replaced").join(entry["replaced"]["copy"].as_str().unwrap());
    assert_eq!(fs::read_to_string(copy).unwrap(), go);
    // Its daemon still runs and writes the file again: that is not answered at once, and it is said.
    node.put("00-multus.conf", go);
    node.until("it says so", |n| n.probe().is_err_and(|why| why.contains("remove its DaemonSet")));
    assert!(node.conf("00-multus.conf").exists());
}

// Holds: FB12
#[test]
fn of_two_on_one_node_one_works_and_the_other_takes_over_when_it_ends() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_config"));
    second.arg("--cni-conf-dir").arg(node.path("net.d")).arg("--state-dir").arg(node.path("state"));
    second.arg("--state-file").arg(node.path("second.json")).args(["--rescan-seconds", "1"]);
    let mut second = second.stderr(std::process::Stdio::null()).spawn().unwrap();
    let says = |n: &Node| fs::read_to_string(n.path("second.json")).unwrap_or_default();
    node.until("the second waits", |n| says(n).contains("another config program"));
    node.kill();
    node.until("the second works", |n| says(n).contains("\"ready\":true"));
    second.kill().unwrap();
    second.wait().unwrap();
}
