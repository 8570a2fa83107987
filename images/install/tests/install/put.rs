//! What is put on the host, and what a disk or a mount can do against it.

use std::fs;
use std::process::{Command, Stdio};

use crate::node::{Mounted, Node, PLUGIN, error, identity, mode, said};

const SHIM: &str = "/opt/cni/bin/multus-shim";

#[test]
fn installs_with_its_mode_and_writes_it_down() {
    let node = Node::new();
    let done = node.install();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    assert_eq!(mode(&node.installed()), 0o755);
    assert_eq!(node.ledger()["formatVersion"], 1);
    assert!(node.entry(SHIM)["sha256"].is_string() && node.entry(SHIM).get("replaced").is_none());
}

#[test]
fn a_second_run_writes_nothing() {
    let node = Node::new();
    assert!(node.install().status.success());
    let files = ["bin/multus-shim", "bin", "state/ledger/install.json", "state/ledger"];
    let before = files.map(|f| identity(&node.path(f)));
    assert!(node.install().status.success());
    assert_eq!(before, files.map(|f| identity(&node.path(f))));
}

#[test]
fn an_unknown_plugin_is_answered_with_those_that_there_are() {
    let node = Node::new();
    node.ship("macvlan", PLUGIN);
    let why = error(&node.install_with(&["--plugin", "macvlann"]));
    assert!(why.contains("macvlann") && why.contains("macvlan, multus-shim"), "{why}");
    for name in ["../multus-shim", ".hidden", ""] {
        assert!(error(&node.install_with(&["--plugin", name])).contains("no name of a plugin"));
    }
}

// Holds: FA2
#[test]
fn a_plugin_that_is_being_executed_is_replaced_and_the_running_one_keeps_its_own() {
    let node = Node::new();
    let delegate = testkit::recording_delegate().unwrap();
    fs::copy(&delegate, node.path("image/multus-shim")).unwrap();
    assert!(node.install().status.success());
    let mut running = Command::new(node.installed())
        .env("CNI_COMMAND", "VERSION")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    node.ship("multus-shim", PLUGIN);
    let done = node.install();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    assert!(running.try_wait().unwrap().is_none(), "it was not running any more");
    drop(running.stdin.take());
    assert!(running.wait().unwrap().success());
}

// Holds: FA3
#[test]
fn a_full_disk_leaves_the_old_plugin_whole_and_says_where() {
    for options in ["size=64k", "size=1m,nr_inodes=4"] {
        let node = Node::new();
        let Some(_disk) = Mounted::tmpfs(&node.path("bin"), options) else { return };
        assert!(node.install().status.success());
        if options.contains("nr_inodes") {
            (0..2).for_each(|i| fs::write(node.path(&format!("bin/other-{i}")), "").unwrap());
        }
        node.ship("multus-shim", &format!("{PLUGIN}# {}\n", "x".repeat(256 << 10)));
        let why = error(&node.install());
        assert!(why.contains("No space left on device") && why.contains("/bin"), "{why}");
        assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
        assert!(!node.names("bin").iter().any(|n| n.starts_with(".multus-rs")), "{:?}", node.names("bin"));
    }
}

// Holds: FA4
#[test]
fn a_read_only_folder_will_do_when_the_same_bytes_are_there_and_only_then() {
    let node = Node::new();
    let Some(bin) = Mounted::tmpfs(&node.path("bin"), "size=1m") else { return };
    node.plant("multus-shim", PLUGIN);
    let Some(state) = Mounted::tmpfs(&node.path("state"), "size=1m") else { return };
    bin.again("ro");
    state.again("ro");
    for mode in ["the same bytes", "again"] {
        let done = node.install();
        assert!(done.status.success(), "{mode}: {}", said(&done));
        assert!(said(&done).contains("up to date"), "{}", said(&done));
    }
    node.ship("multus-shim", &format!("{PLUGIN}# newer\n"));
    assert!(error(&node.install()).contains("Read-only file system"));
    state.again("rw");
    assert!(error(&node.install()).contains("Read-only file system"));
}

// Holds: FA5
#[test]
fn neither_umask_nor_the_image_decides_the_mode() {
    for umask in ["0000", "0777"] {
        let node = Node::new();
        let install = node.command();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(install.get_program());
        // Folders that it makes itself would be closed to it as well.
        fs::create_dir_all(node.path("state/ledger")).unwrap();
        let done = shell.args(install.get_args()).output().unwrap();
        assert!(done.status.success(), "{umask}: {}", said(&done));
        assert_eq!(mode(&node.installed()), 0o755, "{umask}");
    }
}

// Holds: FA5
#[test]
fn special_bits_go_away() {
    use std::os::unix::fs::PermissionsExt;
    let node = Node::new();
    node.plant("multus-shim", PLUGIN);
    fs::set_permissions(node.installed(), fs::Permissions::from_mode(0o6755)).unwrap();
    assert!(node.install().status.success());
    assert_eq!(mode(&node.installed()), 0o755);
}

// Holds: FA6, P18
#[test]
fn many_at_once_all_succeed_and_leave_one_whole_file() {
    let node = Node::new();
    let mut children: Vec<_> = (0..20).map(|_| node.command().spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    assert_eq!(node.names("bin"), ["multus-shim"]);
}

// Holds: FA7
#[test]
fn a_plugin_that_does_not_run_here_fails_in_one_clear_line_and_the_old_one_stays() {
    for (plugin, why) in [
        ("\x7fELF garbage", "cannot start it"),
        ("#!/bin/sh\necho hello\n", "not JSON"),
        ("#!/bin/sh\necho '{}'\n", "supportedVersions"),
        ("#!/bin/sh\nexit 3\n", "exit status: 3"),
    ] {
        let node = Node::new();
        assert!(node.install().status.success());
        node.ship("multus-shim", plugin);
        let error = error(&node.install());
        assert!(error.contains("/opt/cni/bin/multus-shim") && error.contains(why), "{error}");
        assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
        assert_eq!(node.names("bin"), ["multus-shim"]);
    }
}

// Holds: FA7
#[test]
fn a_folder_that_executes_nothing_is_found_before_any_config() {
    let node = Node::new();
    let Some(_disk) = Mounted::tmpfs(&node.path("bin"), "size=1m,noexec") else { return };
    assert!(error(&node.install()).contains("noexec mount?"));
    assert!(node.names("bin").is_empty());
    node.plant("multus-shim", PLUGIN);
    assert!(error(&node.install()).contains("noexec mount?"), "it stood there before");
}

#[test]
fn a_broken_ledger_is_set_aside_and_does_not_stop_the_node() {
    let node = Node::new();
    assert!(node.install().status.success());
    let ledger = node.path("state/ledger/install.json");
    fs::write(&ledger, "{\"formatVersion\": 1, \"entr").unwrap();
    node.ship("multus-shim", &format!("{PLUGIN}# newer\n"));
    let done = node.install();
    assert!(done.status.success() && said(&done).contains("install.json is broken"), "{}", said(&done));
    assert!(node.entry(SHIM)["sha256"].is_string());
    assert!(node.path("state/ledger/install.json.broken").exists());
    fs::write(&ledger, "{\"formatVersion\": 99, \"entries\": []}").unwrap();
    node.ship("multus-shim", &format!("{PLUGIN}# newest\n"));
    assert!(error(&node.install()).contains("install the version that wrote it"));
}
