//! Files of the same name that are somebody else's.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::node::{Node, OTHER, PLUGIN, error, identity, said};

const SHIM: &str = "/opt/cni/bin/multus-shim";
const MACVLAN: &str = "/opt/cni/bin/macvlan";

#[test]
fn a_foreign_file_stays_unless_told_and_then_a_copy_survives_upgrades() {
    let node = Node::new();
    node.plant("multus-shim", OTHER);
    let before = identity(&node.installed());
    assert!(error(&node.install()).contains("install.overwrite=true"));
    assert_eq!(before, identity(&node.installed()));
    assert!(node.install_with(&["--overwrite"]).status.success());
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    node.ship("multus-shim", &format!("{PLUGIN}# newer\n"));
    assert!(node.install().status.success(), "ours is ours without being told");
    assert_eq!(node.copy(SHIM), OTHER);
    assert_eq!(node.entry(SHIM)["replaced"]["mode"], 0o755);
}

#[test]
fn a_go_multus_is_taken_over_and_kept_for_the_way_back() {
    let node = Node::new();
    let go = format!("{OTHER}# gopkg.in/k8snetworkplumbingwg/multus-cni.v4\n");
    node.plant("multus-shim", &go);
    let done = node.install();
    assert!(done.status.success() && said(&done).contains("taking over"), "{}", said(&done));
    assert_eq!(node.copy(SHIM), go);
}

#[test]
fn a_version_of_ours_that_no_ledger_knows_is_ours_all_the_same() {
    let node = Node::new();
    node.plant("multus-shim", &format!("{PLUGIN}# older\n"));
    assert!(node.install().status.success());
    assert!(node.entry(SHIM).get("replaced").is_none());
}

#[test]
fn a_reference_plugin_of_the_host_stays_and_is_not_ours_to_remove() {
    let node = Node::new();
    node.ship("macvlan", &format!("{OTHER}# from the image\n"));
    node.plant("macvlan", OTHER);
    let reference = |args: &[&str]| {
        let mut command = node.bare();
        command.arg("--bin-dir").arg(node.path("bin")).args(["--plugin", "macvlan", "--reference"]);
        command.args(args).output().unwrap()
    };
    let done = reference(&[]);
    assert!(done.status.success() && said(&done).contains("stays as it is"), "{}", said(&done));
    assert_eq!(fs::read_to_string(node.path("bin/macvlan")).unwrap(), OTHER);
    assert!(!node.path("state/ledger/install.json").exists());
    assert!(reference(&["--overwrite"]).status.success());
    assert_eq!(node.copy(MACVLAN), OTHER);
    node.ship("macvlan", &format!("{OTHER}# the image's next version\n"));
    assert!(reference(&[]).status.success());
    assert!(
        fs::read_to_string(node.path("bin/macvlan")).unwrap().contains("next version"),
        "ours is upgraded"
    );
}

#[test]
fn a_passthru_of_somebody_else_is_as_good_as_ours() {
    let node = Node::new();
    node.ship("passthru", PLUGIN);
    node.plant("passthru", OTHER);
    let done = node.install_with(&["--plugin", "passthru"]);
    assert!(done.status.success() && said(&done).contains("stays as it is"), "{}", said(&done));
    assert_eq!(fs::read_to_string(node.path("bin/passthru")).unwrap(), OTHER);
}

// Holds: FA5
#[test]
fn a_symlink_is_never_followed() {
    let node = Node::new();
    fs::write(node.path("precious"), "precious").unwrap();
    symlink(node.path("precious"), node.installed()).unwrap();
    assert!(error(&node.install()).contains("somebody else's"));
    assert!(node.install_with(&["--overwrite"]).status.success());
    assert_eq!(fs::read_to_string(node.path("precious")).unwrap(), "precious");
    assert!(fs::symlink_metadata(node.installed()).unwrap().is_file());
    assert_eq!(node.entry(SHIM)["replaced"]["kind"], "link");
}

// Holds: FA5
#[test]
fn what_is_no_file_is_named_not_opened_and_left_alone() {
    let node = Node::new();
    fs::create_dir(node.installed()).unwrap();
    for overwrite in [&[][..], &["--overwrite"]] {
        assert!(error(&node.install_with(overwrite)).contains("neither a file nor a link"));
    }
    assert!(node.installed().is_dir());
    fs::remove_dir(node.installed()).unwrap();
    assert!(Command::new("mkfifo").arg(node.installed()).status().unwrap().success());
    assert!(error(&node.install()).contains("neither a file nor a link"));
}

// Holds: FA5
#[test]
fn an_immutable_file_is_an_error_that_names_it() {
    let node = Node::new();
    assert!(node.install().status.success());
    let chattr = |flag: &str| Command::new("chattr").arg(flag).arg(node.installed()).output();
    if !chattr("+i").is_ok_and(|done| done.status.success()) {
        testkit::skip("files cannot be made immutable here; use a file system that knows chattr +i");
        return;
    }
    node.ship("multus-shim", &format!("{PLUGIN}# newer\n"));
    let done = node.install();
    assert!(chattr("-i").unwrap().status.success());
    let why = error(&done);
    assert!(why.contains("multus-shim") && why.contains("Operation not permitted"), "{why}");
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
}

#[test]
fn what_a_killed_run_left_is_removed_and_other_dot_files_stay() {
    let node = Node::new();
    fs::write(node.path("bin/.multus-rs-abc.tmp"), "half").unwrap();
    fs::write(node.path("bin/.other.tmp"), "not ours").unwrap();
    assert!(node.install().status.success());
    assert_eq!(node.names("bin"), [".other.tmp", "multus-shim"]);
}
