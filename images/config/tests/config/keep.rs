//! What is published, and that it stays.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use serde_json::{Value, json};

use crate::node::{Node, identity, primary};

// Holds: FB16, N47
#[test]
fn waits_for_the_primary_says_so_once_and_then_names_it() {
    let mut node = Node::new();
    node.start(&[]);
    node.until("it says what it awaits", |n| n.log().contains("waiting for the primary network"));
    assert!(node.ours().is_none());
    assert!(node.probe().unwrap_err().contains("waiting for the primary network"));
    // Not configs, whatever they hold.
    for name in
        ["10-a.conflist.bak", ".hidden.conflist", "10-a.conflist.cilium_bak", "README", "10.conf.sample"]
    {
        node.put(name, &primary("nobody"));
    }
    fs::create_dir(node.conf("05-dir.conflist")).unwrap();
    node.put("10-net.conflist", &primary("pods"));
    node.until_serving("10-net.conflist");
    assert_eq!(node.log().matches("waiting for the primary network").count(), 1, "{}", node.log());

    let ours = node.ours().unwrap();
    assert_eq!(
        ours,
        json!({
            "cniVersion": "1.0.0", "name": "pods", "loadOnlyInlinedPlugins": true,
            "plugins": [{
                "type": "multus-shim",
                "capabilities": {"io.kubernetes.cri.pod-annotations": true, "ips": true, "portMappings": true},
                "clusterNetwork": "/etc/cni/net.d/10-net.conflist",
                "stateDir": "/var/lib/cni/multus-rs", "runDir": "/run/multus-rs", "formatVersion": 1,
            }],
        })
    );
    assert_eq!(fs::metadata(node.conf("00-multus.conflist")).unwrap().mode() & 0o7777, 0o600);
    let snapshot: Value =
        serde_json::from_slice(&fs::read(node.path("state/primary/file.json")).unwrap()).unwrap();
    assert_eq!(
        snapshot,
        json!({"formatVersion": 1, "path": "/etc/cni/net.d/10-net.conflist", "config": primary("pods")})
    );
}

// Holds: FB5, FB6
#[test]
fn follows_the_primary_from_file_to_file_and_keeps_ours_when_it_goes() {
    let mut node = Node::new();
    node.put("20-net.conf", r#"{"cniVersion":"1.0.0","name":"pods","type":"bridge"}"#);
    node.start(&[]);
    node.until_serving("20-net.conf");
    node.put("20-net.conflist", &primary("pods"));
    fs::remove_file(node.conf("20-net.conf")).unwrap();
    node.until_serving("20-net.conflist");
    node.put("10-first.conflist", &primary("pods"));
    node.until_serving("10-first.conflist");
    fs::remove_file(node.conf("10-first.conflist")).unwrap();
    fs::remove_file(node.conf("20-net.conflist")).unwrap();
    node.until("it is not ready", |n| n.probe().is_err());
    assert!(node.ours().is_some());
    node.put("20-net.conflist", &primary("pods"));
    node.until_serving("20-net.conflist");
}

// Holds: FB3, B9, P7
#[test]
fn a_broken_primary_changes_nothing_and_is_said_once() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let snapshot = node.path("state/primary/file.json");
    let before = (identity(&node.conf("00-multus.conflist")), identity(&snapshot));
    let deep = "[".repeat(10_000);
    for broken in [
        "",
        "{",
        "[]",
        "{\"name\":\"x\",\"plugins\":{}}",
        "{\"name\":\"x\",\"plugins\":[]}",
        "\u{feff}{}",
        "{}",
        "{\"name\":1,\"type\":\"bridge\"}",
        "{\"type\":\"bridge\"}",
        &deep,
        "{\"name\":\"x\",\"type\":\"bridge\",\"capabilities\":{\"ips\":\"yes\"}}",
    ] {
        let said = node.log().matches("cannot be used").count();
        node.put("10-net.conflist", broken);
        node.until("it says that it is broken", |n| n.log().matches("cannot be used").count() > said);
        assert!(node.probe().is_ok(), "{broken:?}");
        node.put("10-net.conflist", &primary("pods"));
        node.until("it is well again", |n| n.log().lines().last().is_some_and(|l| l.contains("is in place")));
    }
    assert_eq!(before, (identity(&node.conf("00-multus.conflist")), identity(&snapshot)));
}

// Holds: FB13
#[test]
fn nothing_changed_means_nothing_written_also_across_restarts() {
    let mut node = Node::new();
    fs::write(node.path("options.json"), r#"{"namespaceIsolation":true,"globalNamespaces":"a,b"}"#).unwrap();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    assert_eq!(node.ours().unwrap()["plugins"][0]["globalNamespaces"], "a,b");
    let files = ["net.d/00-multus.conflist", "state/primary/file.json", "state/ledger/config.json", "net.d"];
    let before = files.map(|f| identity(&node.path(f)));
    for _ in 0..3 {
        // Told of a change that is none.
        fs::File::options()
            .append(true)
            .open(node.conf("10-net.conflist"))
            .unwrap()
            .set_modified(std::time::SystemTime::now())
            .unwrap();
        assert!(node.terminate().success());
        fs::remove_file(node.path("state.json")).unwrap();
        node.start(&[]);
        node.until("ready again", |n| n.probe().is_ok());
    }
    assert_eq!(before, files.map(|f| identity(&node.path(f))));
}

// Holds: FB14, B7, P8
#[test]
fn sigterm_leaves_everything_in_place() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    assert!(node.terminate().success());
    assert!(node.ours().is_some());
}

#[test]
fn a_symlink_in_our_place_is_replaced_and_not_followed() {
    let mut node = Node::new();
    fs::write(node.path("precious"), "precious").unwrap();
    symlink(node.path("precious"), node.conf("00-multus.conflist")).unwrap();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until("it is a file", |n| fs::symlink_metadata(n.conf("00-multus.conflist")).unwrap().is_file());
    assert_eq!(fs::read_to_string(node.path("precious")).unwrap(), "precious");
}

#[test]
fn options_may_not_set_what_is_decided_here() {
    let node = Node::new();
    for (text, why) in [("[]", "not a JSON object"), (r#"{"clusterNetwork":"/x"}"#, "clusterNetwork")] {
        fs::write(node.path("options.json"), text).unwrap();
        let mut command = node.command();
        command.arg("--state-dir").arg(node.path("state")).arg("--options").arg(node.path("options.json"));
        let done = command.output().unwrap();
        assert_eq!(done.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&done.stderr).contains(why));
    }
}

// Holds: FB4
#[test]
fn a_primary_that_is_written_in_pieces_is_published_once() {
    use std::io::Write;
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("net-0"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let wrote = |n: &Node| n.log().matches("wrote ").count();
    let before = wrote(&node);
    let text = primary("net-1");
    let mut file = fs::File::create(node.conf("10-net.conflist")).unwrap();
    for piece in text.as_bytes().chunks(text.len() / 6) {
        file.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    node.until("the new name is published", |n| n.ours().unwrap()["name"] == "net-1");
    node.until("it is said", |n| wrote(n) > before);
    assert_eq!(wrote(&node), before + 1, "{}", node.log());
    assert!(!node.log().contains("cannot be used"), "{}", node.log());
}

/// In steady state not one call that writes reaches the host's folders, whatever happens in them.
// Holds: FB13
#[test]
fn at_rest_no_system_call_writes_to_the_host() {
    if !testkit::strace::available() {
        return;
    }
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    assert!(node.terminate().success());
    fs::remove_file(node.path("state.json")).unwrap();
    let calls = node.path("calls");
    let keeper = node.keeper(&["--rescan-seconds", "1"]);
    node.spawn(testkit::strace::under(&keeper, &calls, None));
    node.until("it is ready", |n| n.state()["ready"] == true);
    let lines = |n: &Node| fs::read_to_string(n.path("calls")).unwrap_or_default().lines().count();
    let at_rest = lines(&node);
    for i in 0..5 {
        node.put("README", &format!("{i}"));
        node.put("10-net.conflist", &primary("pods"));
        let before = lines(&node);
        node.until("it looked", |n| lines(n) > before + 20);
    }
    let text = fs::read_to_string(&calls).unwrap();
    let writes: Vec<&str> = text
        .lines()
        .skip(at_rest)
        .filter(|line| {
            let opens = line.contains("openat(")
                && ["O_WRONLY", "O_RDWR", "O_CREAT"].iter().any(|f| line.contains(f));
            let changes = ["rename", "unlink", "mkdir", "fchmod", "link(", "symlink", "fsync"];
            opens || changes.iter().any(|call| line.contains(call) && line.contains('('))
        })
        .collect();
    assert!(writes.is_empty(), "{writes:#?}");
    let pid = testkit::strace::traced(node.pid()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    node.until("it ended", |n| n.log().contains("leaving"));
}

// Holds: FB2
#[test]
fn a_folder_that_cannot_be_written_keeps_its_config_and_is_served_once_it_can() {
    let mut node = Node::new();
    let mount = |args: &[&str], dir: &std::path::Path| {
        std::process::Command::new("mount").args(args).arg(dir).output().unwrap().status.success()
    };
    let dir = node.path("net.d");
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], &dir) {
        testkit::skip("a tmpfs cannot be mounted here; run as root");
        return;
    }
    let _mounted = Unmount(dir.clone());
    node.put("10-net.conflist", &primary("net-0"));
    node.start(&["--rescan-seconds", "1"]);
    node.until_serving("10-net.conflist");
    node.put("10-net.conflist", &primary("net-0"));
    assert!(mount(&["-o", "remount,ro"], &dir));
    node.kill();
    assert!(mount(&["-o", "remount,rw"], &dir));
    node.put("10-net.conflist", &primary("net-1"));
    assert!(mount(&["-o", "remount,ro"], &dir));
    fs::remove_file(node.path("state.json")).unwrap();
    node.start(&["--rescan-seconds", "1"]);
    node.until("it says why not", |n| n.state()["message"].as_str().is_some_and(|m| m.contains("Read-only")));
    assert_eq!(node.ours().unwrap()["name"], "net-0");
    assert!(node.probe().is_err());
    assert!(mount(&["-o", "remount,rw"], &dir));
    node.until("it converges", |n| n.ours().unwrap()["name"] == "net-1" && n.probe().is_ok());
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        assert!(std::process::Command::new("umount").arg("-l").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn options_and_capabilities_reach_the_plugin_as_they_were_written() {
    let mut node = Node::new();
    let options = r#"{"strict":true,"clusterCIDRs":["10.244.0.0/16"],"big":123456789012345678901234567890,"capabilities":{"mac":true,"ips":false,"io.kubernetes.cri.pod-annotations":false}}"#;
    fs::write(node.path("options.json"), options).unwrap();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    let text = fs::read_to_string(node.conf("00-multus.conflist")).unwrap();
    assert!(text.contains("123456789012345678901234567890"), "{text}");
    let entry = &node.ours().unwrap()["plugins"][0];
    assert_eq!(entry["strict"], true);
    assert_eq!(
        entry["capabilities"],
        json!({"io.kubernetes.cri.pod-annotations": true, "mac": true, "portMappings": true})
    );
}
