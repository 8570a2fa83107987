//! Folders that come late, move or tell nothing, and the readiness indicator.

use std::fs;
use std::os::unix::fs::symlink;

use testkit::strace::{Fault, Point, under};

use crate::node::{Node, primary};

// Holds: FB11
#[test]
fn nothing_is_published_before_the_indicator_and_it_says_what_it_waits_for() {
    let mut node = Node::new();
    node.put("10-flannel.conflist", &primary("cbr0"));
    fs::create_dir(node.path("flannel")).unwrap();
    let mount = node.path("flannel").display().to_string();
    node.start(&["--readiness-indicator", "/run/flannel/subnet.env", "--readiness-indicator-dir", &mount]);
    node.until("it waits", |n| {
        n.probe()
            .is_err_and(|why| why.contains("waiting for the readiness indicator /run/flannel/subnet.env"))
    });
    symlink("nowhere", node.path("flannel/subnet.env")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(node.ours().is_none(), "published for a link that leads nowhere");
    fs::write(node.path("flannel/nowhere"), "").unwrap();
    node.until_serving("10-flannel.conflist");
    fs::remove_file(node.path("flannel/nowhere")).unwrap();
    node.until("it tells that it went", |n| n.probe().is_err());
    assert!(node.ours().is_some(), "the config was taken away");
    fs::write(node.path("flannel/nowhere"), "").unwrap();
    node.until_serving("10-flannel.conflist");
}

#[test]
fn the_primarys_own_file_may_be_the_indicator() {
    let mut node = Node::new();
    let file = "/etc/cni/net.d/cilium/05-cilium.conflist";
    node.start(&["--primary", "cilium/05-cilium.conflist", "--readiness-indicator", file]);
    fs::create_dir(node.conf("cilium")).unwrap();
    node.put("cilium/05-cilium.conflist", &primary("cilium"));
    node.until_serving("cilium/05-cilium.conflist");
}

/// A snap's folder: `current` is a relative link that a refresh moves, with all that is below it.
#[test]
fn a_config_folder_that_moves_is_followed() {
    let mut node = Node::new();
    let snap = node.path("snap");
    for revision in ["1", "2"] {
        fs::create_dir_all(snap.join(revision).join("args/cni-network")).unwrap();
    }
    let text = primary("calico");
    let put = |revision: &str| {
        fs::write(snap.join(revision).join("args/cni-network/10-calico.conflist"), &text).unwrap();
        symlink(revision, snap.join("new")).unwrap();
        fs::rename(snap.join("new"), snap.join("current")).unwrap();
    };
    put("1");
    let mut keeper = std::process::Command::new(env!("CARGO_BIN_EXE_config"));
    keeper.arg("--cni-conf-dir").arg(&snap).args(["--host-cni-conf-mount", "/var/snap/microk8s"]);
    keeper.args(["--host-cni-conf-dir", "/var/snap/microk8s/current/args/cni-network"]);
    keeper.arg("--state-dir").arg(node.path("state")).arg("--state-file").arg(node.path("state.json"));
    node.spawn(keeper);
    for revision in ["1", "2"] {
        put(revision);
        let ours = snap.join(revision).join("args/cni-network/00-multus.conflist");
        node.until("it is published there", |_| ours.exists());
        let ours = fs::read_to_string(ours).unwrap();
        assert!(ours.contains("/var/snap/microk8s/current/args/cni-network/10-calico.conflist"), "{ours}");
    }
}

// Holds: FB10
#[test]
fn a_config_folder_that_is_replaced_is_watched_anew() {
    let mut node = Node::new();
    node.start(&["--rescan-seconds", "1"]);
    node.until("it waits", |n| n.log().contains("waiting"));
    fs::rename(node.path("net.d"), node.path("net.d.old")).unwrap();
    fs::create_dir(node.path("net.d")).unwrap();
    node.put("10-net.conflist", &primary("pods"));
    node.until_serving("10-net.conflist");
    node.put("05-net.conflist", &primary("pods"));
    node.until_serving("05-net.conflist");
}

// Holds: FB10
#[test]
fn without_the_kernels_notices_the_next_look_finds_it_and_the_log_says_it_once() {
    if !testkit::strace::available() {
        return;
    }
    for (call, error) in [("inotify_init1", "EMFILE"), ("inotify_add_watch", "ENOSPC")] {
        let mut node = Node::new();
        let keeper = node.keeper(&["--rescan-seconds", "1"]);
        let nth = if call == "inotify_add_watch" { 2 } else { 1 };
        // Each of the calls fails from the first on.
        let mut point = Point { call: call.into(), nth, fault: Fault::Error(error) };
        point.nth = 1;
        node.spawn(under(&keeper, &node.path("calls"), Some(&point)));
        node.until("it waits", |n| n.log().contains("waiting"));
        node.put("10-net.conflist", &primary("pods"));
        node.until_serving("10-net.conflist");
        node.put("05-net.conflist", &primary("pods"));
        node.until_serving("05-net.conflist");
        assert_eq!(node.log().matches("cannot watch").count(), 1, "{}", node.log());
        let pid = testkit::strace::traced(node.pid()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        node.until("it ended", |n| n.log().contains("leaving"));
    }
}

// Holds: FB10
#[test]
fn a_flood_of_events_costs_neither_memory_nor_writes() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let before = crate::node::identity(&node.conf("00-multus.conflist"));
    for _ in 0..50_000 {
        let file = fs::File::create(node.conf("noise")).unwrap();
        drop(file);
    }
    node.put("05-net.conflist", &primary("pods"));
    node.until_serving("05-net.conflist");
    fs::remove_file(node.conf("05-net.conflist")).unwrap();
    node.until_serving("10-net.conflist");
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 32_000, "{peak} kB");
    assert_ne!(before, crate::node::identity(&node.conf("00-multus.conflist")));
    node.until("all is said", |n| n.log().matches("wrote ").count() >= 3);
    assert_eq!(node.log().matches("wrote ").count(), 3, "{}", node.log());
}
