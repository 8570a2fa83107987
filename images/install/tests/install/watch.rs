//! `install --watch`: what is taken away comes back, and nobody is fought.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::node::{Node, OTHER, PLUGIN, identity};

// Holds: FA10
#[test]
fn what_is_taken_away_comes_back_once_and_not_again_within_the_minute() {
    let mut node = Node::new();
    let mut watch = node.command();
    watch.args(["--watch", "--restore-seconds", "3600", "--rescan-seconds", "1"]);
    node.start(watch);
    node.until("installed", |n| n.installed().exists());
    // The first look's work counts: what comes within the minute has to wait.
    fs::remove_file(node.installed()).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!node.installed().exists(), "put back twice within the minute");
    assert_eq!(node.log().matches("put back").count(), 1, "{}", node.log());
}

// Holds: FA10
#[test]
fn a_neighbour_that_keeps_removing_it_is_answered_at_the_pace_that_was_set() {
    let mut node = Node::new();
    assert!(node.install().status.success());
    let mut watch = node.command();
    watch.args(["--watch", "--restore-seconds", "1", "--rescan-seconds", "1"]);
    node.start(watch);
    for round in 1..=3 {
        fs::remove_file(node.installed()).unwrap();
        node.until("it is back and said so", |n| n.log().matches("put back").count() == round);
        assert!(node.installed().exists());
    }
    let at_rest = identity(&node.installed());
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(at_rest, identity(&node.installed()), "written with nobody taking it away");
}

#[test]
fn a_reference_plugin_that_its_owner_replaced_stays_replaced() {
    let mut node = Node::new();
    node.ship("macvlan", &format!("{OTHER}# from the image\n"));
    let mut watch = node.bare();
    watch.arg("--bin-dir").arg(node.path("bin")).args(["--plugin", "macvlan", "--reference", "--watch"]);
    watch.args(["--restore-seconds", "0", "--rescan-seconds", "1"]);
    node.start(watch);
    node.until("installed", |n| n.path("bin/macvlan").exists());
    node.plant("macvlan", OTHER);
    node.until("it says so", |n| n.log().contains("stays as it is"));
    assert_eq!(fs::read_to_string(node.path("bin/macvlan")).unwrap(), OTHER);
}

/// k3s before late 2024: the plugins' folder is below a link that each version moves, and the link is absolute.
// Holds: FA9
#[test]
fn a_plugin_folder_that_moves_gets_the_plugin_anew() {
    let mut node = Node::new();
    let data = node.path("var/lib/rancher/k3s/data");
    for version in ["aaaa", "bbbb"] {
        fs::create_dir_all(data.join(version).join("bin")).unwrap();
    }
    let point = |version: &str| {
        let (new, current) = (data.join("new"), data.join("current"));
        symlink(format!("/var/lib/rancher/k3s/data/{version}"), &new).unwrap();
        fs::rename(new, current).unwrap();
    };
    point("aaaa");
    let mut watch = node.bare();
    watch.args(["--plugin", "multus-shim", "--watch", "--restore-seconds", "0"]);
    watch.arg("--bin-dir").arg(&data).args(["--host-bin-mount", "/var/lib/rancher/k3s/data"]);
    watch.args(["--host-bin-dir", "/var/lib/rancher/k3s/data/current/bin"]);
    node.start(watch);
    node.until("installed", |_| data.join("aaaa/bin/multus-shim").exists());
    point("bbbb");
    node.until("installed anew", |_| data.join("bbbb/bin/multus-shim").exists());
    assert_eq!(fs::read_to_string(data.join("bbbb/bin/multus-shim")).unwrap(), PLUGIN);
    for version in ["aaaa", "bbbb"] {
        let path = format!("/var/lib/rancher/k3s/data/{version}/bin/multus-shim");
        assert!(node.entry(&path)["sha256"].is_string(), "the ledger does not know {path}");
    }
}
