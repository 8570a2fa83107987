//! The config program, through its binary, on folders of its own.

mod node;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use node::{Node, identity, primary};
use serde_json::{Value, json};

// Holds: N47
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

// Holds: B25
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

// Holds: B9, P7
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
        fs::remove_file(node.path("readiness")).unwrap();
        node.start(&[]);
        node.until("ready again", |n| n.probe().is_ok());
    }
    assert_eq!(before, files.map(|f| identity(&node.path(f))));
}

// Holds: B7, P8
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
fn ours_is_put_back_once_and_then_it_says_who_to_look_for() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("pods"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    fs::rename(node.conf("00-multus.conflist"), node.conf("00-multus.conflist.cilium_bak")).unwrap();
    node.until("it is back", |n| n.ours().is_some());
    fs::remove_file(node.conf("00-multus.conflist")).unwrap();
    node.until("it says so", |n| n.log().contains("removed or changed again"));
    assert!(node.ours().is_none());
    assert!(node.probe().unwrap_err().contains("cni.exclusive=false"));
}

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

/// A runtime reads the folder at any moment, while the program is killed again and again and its input changes.
// Holds: P13, B9
#[test]
fn a_reader_never_sees_half_a_file_whenever_it_is_killed() {
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("net-0"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    node.kill();
    let over = AtomicBool::new(false);
    let dir = node.path("net.d");
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0_u64;
            while !over.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&dir).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    let config = [".conf", ".conflist", ".json"].iter().any(|e| name.ends_with(e));
                    if let (true, Ok(text)) = (config, fs::read(&path)) {
                        serde_json::from_slice::<Value>(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
                    }
                }
                // Ours is there at every moment.
                serde_json::from_slice::<Value>(&fs::read(dir.join("00-multus.conflist")).unwrap()).unwrap();
                reads += 1;
            }
            reads
        });
        for i in 1..60_u64 {
            node.put("10-net.conflist", &primary(&format!("net-{i}")));
            node.start(&[]);
            std::thread::sleep(Duration::from_micros(300 * i));
            node.kill();
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 10);
    });
    node.put("10-net.conflist", &primary("last"));
    node.start(&[]);
    node.until("it converges", |n| n.ours().unwrap()["name"] == "last" && n.probe().is_ok());
    let litter = fs::read_dir(&dir)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".multus-rs-"));
    assert_eq!(litter.count(), 0);
}
