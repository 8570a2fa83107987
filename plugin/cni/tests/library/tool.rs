//! The example `cnitool`: a runtime by itself, through its command line.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::bench::Bench;

/// Built by `cargo test` for the whole crate, but not for one test file alone.
fn example() -> Option<PathBuf> {
    let deps = std::env::current_exe().unwrap();
    let file = deps.parent().unwrap().parent().unwrap().join("examples/cnitool");
    if !file.exists() {
        testkit::skip("the example cnitool is not built: run `cargo build -p cni --examples` first");
        return None;
    }
    Some(file)
}

// Holds: D9, D10, D18
#[test]
fn a_network_is_attached_checked_and_detached_by_its_name() {
    let Some(tool) = example() else { return };
    let bench = Bench::new(&["one", "two"]);
    let root = bench.plugins.root();
    let plugin = |kind: &str| json!({"type": kind, "record": bench.plugins.record_file()});
    let mut failing = plugin("two");
    failing["behaviour"] = json!({"ADD": "fail"});
    for (name, last) in [("lan", plugin("two")), ("bad", failing)] {
        let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [plugin("one"), last]});
        fs::write(root.join(format!("{name}.conflist")), list.to_string()).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&tool);
        command.args(arguments).env("NETCONFPATH", root).env("CNI_PATH", bench.plugins.bin());
        let output = command.env("CNI_CACHE", root.join("cache")).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let remembered = || fs::read_dir(root.join("cache/results")).map_or(0, Iterator::count);

    assert_eq!(run(&["status", "lan"]), (true, String::new()));
    let (ok, printed) = run(&["add", "lan", "/run/netns/x"]);
    assert!(ok);
    let result: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(result["ips"][0]["address"], "192.0.2.10/24");
    assert_eq!(remembered(), 1);
    assert!(run(&["check", "lan", "/run/netns/x"]).0 && run(&["del", "lan", "/run/netns/x"]).0);
    assert_eq!(remembered(), 0);
    // A second one has nothing to do, and does it.
    assert!(run(&["del", "lan", "/run/netns/x"]).0);
    let verbs: Vec<String> =
        bench.records().iter().map(|r| format!("{} {}", r.command(), r.plugin)).collect();
    let expected =
        "STATUS one,STATUS two,ADD one,ADD two,CHECK one,CHECK two,DEL two,DEL one,DEL two,DEL one";
    assert_eq!(verbs.join(","), expected);

    // What fails is undone.
    assert!(!run(&["add", "bad", "/run/netns/x"]).0);
    let last = bench.records().split_off(verbs.len());
    let verbs: Vec<String> = last.iter().map(|r| format!("{} {}", r.command(), r.plugin)).collect();
    assert_eq!(verbs.join(","), "ADD one,ADD two,DEL two,DEL one");

    assert!(run(&["add", "lan", "/run/netns/x"]).0 && run(&["gc", "lan"]).0);
    assert_eq!(remembered(), 0);
    for wrong in [&["add", "absent", "/run/netns/x"][..], &["what", "lan"], &[]] {
        assert!(!run(wrong).0, "{wrong:?}");
    }
}
