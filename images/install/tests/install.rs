//! The installer, through its binary, on folders of its own.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing has failed")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const PLUGIN: &str =
    "#!/bin/sh\necho '{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.0.0\",\"1.1.0\"]}'\n";

struct Node {
    root: TempDir,
}

impl Node {
    fn new() -> Node {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        let node = Node { root };
        node.ship(PLUGIN);
        node
    }

    fn ship(&self, plugin: &str) {
        fs::write(self.path("multus-shim"), plugin).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn installed(&self) -> PathBuf {
        self.path("bin/multus-shim")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_install"));
        command.arg("--source").arg(self.path("multus-shim"));
        command.arg("--bin-dir").arg(self.path("bin"));
        command.arg("--state-dir").arg(self.path("state"));
        command
    }

    fn install(&self) -> Output {
        self.command().output().unwrap()
    }

    fn ledger(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.path("state/ledger/install.json")).unwrap()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let dir = fs::read_dir(self.path("bin")).unwrap();
        dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn identity(path: &Path) -> (u64, i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

#[test]
fn installs_with_its_mode_and_writes_it_down() {
    let node = Node::new();
    let done = node.install();
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    assert_eq!(fs::metadata(node.installed()).unwrap().mode() & 0o7777, 0o755);
    let ledger = node.ledger();
    assert_eq!(ledger["formatVersion"], 1);
    assert_eq!(ledger["entries"][0]["path"], "/opt/cni/bin/multus-shim");
    assert!(ledger["entries"][0].get("replaced").is_none());
}

#[test]
fn a_second_run_writes_nothing() {
    let node = Node::new();
    assert!(node.install().status.success());
    let before = (identity(&node.installed()), identity(&node.path("state/ledger/install.json")));
    assert!(node.install().status.success());
    assert_eq!(before, (identity(&node.installed()), identity(&node.path("state/ledger/install.json"))));
}

#[test]
fn a_foreign_file_of_that_name_is_kept_for_the_way_back_and_an_upgrade_does_not_forget_it() {
    let node = Node::new();
    fs::write(node.installed(), "somebody else's").unwrap();
    assert!(node.install().status.success());
    node.ship(&format!("{PLUGIN}# newer\n"));
    assert!(node.install().status.success());
    let ledger = node.ledger();
    assert_eq!(ledger["entries"].as_array().unwrap().len(), 1);
    let replaced = &ledger["entries"][0]["replaced"];
    assert_eq!(replaced["kind"], "file");
    let copy = node.path("state/replaced").join(replaced["copy"].as_str().unwrap());
    assert_eq!(fs::read_to_string(copy).unwrap(), "somebody else's");
}

#[test]
fn a_symlink_is_replaced_and_not_followed() {
    let node = Node::new();
    let elsewhere = node.path("precious");
    fs::write(&elsewhere, "precious").unwrap();
    symlink(&elsewhere, node.installed()).unwrap();
    assert!(node.install().status.success());
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert!(fs::symlink_metadata(node.installed()).unwrap().is_file());
    assert_eq!(node.ledger()["entries"][0]["replaced"]["kind"], "link");
}

#[test]
fn what_a_killed_run_left_is_removed_and_other_dot_files_stay() {
    let node = Node::new();
    fs::write(node.path("bin/.multus-rs-abc.tmp"), "half").unwrap();
    fs::write(node.path("bin/.other.tmp"), "not ours").unwrap();
    assert!(node.install().status.success());
    let mut names = node.names();
    names.sort();
    assert_eq!(names, [".other.tmp", "multus-shim"]);
}

#[test]
fn a_plugin_that_does_not_run_here_fails_in_one_clear_line() {
    for (plugin, why) in [
        ("\x7fELF garbage", "cannot start it"),
        ("#!/bin/sh\necho hello\n", "not JSON"),
        ("#!/bin/sh\necho '{}'\n", "supportedVersions"),
        ("#!/bin/sh\nexit 3\n", "exit status: 3"),
    ] {
        let node = Node::new();
        node.ship(plugin);
        let done = node.install();
        assert_eq!(done.status.code(), Some(1), "{plugin:?}");
        let said = said(&done);
        let error = said.lines().last().unwrap();
        assert!(error.contains("/opt/cni/bin/multus-shim") && error.contains(why), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn a_folder_in_the_way_is_named_and_left_alone() {
    let node = Node::new();
    fs::create_dir(node.installed()).unwrap();
    let done = node.install();
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("multus-shim"), "{}", said(&done));
    assert!(node.installed().is_dir());
}

// Holds: P18
#[test]
fn many_at_once_all_succeed_and_leave_one_whole_file() {
    let node = Node::new();
    let mut children: Vec<_> = (0..20).map(|_| node.command().spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(fs::read_to_string(node.installed()).unwrap(), PLUGIN);
    assert_eq!(node.names(), ["multus-shim"]);
}

// Holds: P18, P13
#[test]
fn killed_at_any_moment_the_file_is_the_old_or_the_new_one_and_the_next_run_converges() {
    let node = Node::new();
    let text = |i: usize| format!("{PLUGIN}# {i} {}\n", "x".repeat(1 << 20));
    node.ship(&text(0));
    assert!(node.install().status.success());
    let mut old = text(0);
    for i in 1..40 {
        let new = text(i);
        node.ship(&new);
        let mut child = node.command().spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(400 * i as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let now = fs::read_to_string(node.installed()).unwrap();
        assert!(now == old || now == new, "half a file after {i}");
        assert_eq!(fs::metadata(node.installed()).unwrap().permissions().mode() & 0o7777, 0o755);
        old = now;
    }
    node.ship(PLUGIN);
    assert!(node.install().status.success());
    assert_eq!(node.names(), ["multus-shim"]);
}
