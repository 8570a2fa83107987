//! GC: what the runtime no longer has is released, what lives is named to every network.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use testkit::{Record, answer::Answer};

use crate::host::Host;

/// GC with the runtime's list of containers that live, each as `eth0`.
fn gc(host: &mut Host, living: &[&str]) -> Answer {
    let list: Vec<Value> = living.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    host.options["cni.dev/valid-attachments"] = json!(list);
    host.call_with("GC", &json!({}))
}

/// A pod with the network `a`, whose record is older than any list of the runtime.
fn settled() -> Host {
    let mut host = Host::new();
    host.options["cniVersion"] = json!("1.1.0");
    host.options["cniDir"] = json!(host.root("go"));
    let primary =
        json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [host.delegate("first", &json!({}))]});
    fs::write(host.root("net.d/10-primary.conflist"), primary.to_string()).unwrap();
    let mut nad: Value = serde_json::from_str(&host.nad("second", &json!({}))).unwrap();
    nad["cniVersion"] = json!("1.1.0");
    host.honest_daemon(&[("demo/a", nad.to_string())]);
    host.call("ADD", Some("a")).result();
    age(&host.root("state/journal/sandbox1.json"));
    host
}

/// Makes a record older than any list of the runtime.
fn age(record: &Path) {
    let record = fs::File::open(record).unwrap();
    record.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
}

/// What a delegate's GC was told to leave.
fn valid(call: &Record) -> Value {
    call.config()["cni.dev/valid-attachments"].clone()
}

// Holds: C24, C25, C26, P12, B16
#[test]
fn a_sandbox_that_the_runtime_no_longer_has_is_released_with_all_its_networks() {
    let mut host = settled();
    assert!(gc(&mut host, &["another"]).ok);
    assert_eq!(host.calls()[2..4], ["DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: C26
#[test]
fn every_network_in_use_is_told_of_all_that_lives_under_its_own_interfaces() {
    let mut host = settled();
    assert!(gc(&mut host, &["sandbox1"]).ok);
    assert_eq!(host.calls()[2..], ["GC first ", "GC second "]);
    let records = host.plugins.records().unwrap();
    let one = |ifname: &str| json!([{"containerID": "sandbox1", "ifname": ifname}]);
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        assert_eq!(records[2].config()[key], one("eth0"));
        assert_eq!(records[3].config()[key], one("net1"));
    }
    assert_eq!(host.files("state/journal"), ["sandbox1.json"]);
}

#[test]
fn a_sandbox_too_young_for_the_list_is_left_alone() {
    let mut host = settled();
    fs::File::open(host.root("state/journal/sandbox1.json"))
        .unwrap()
        .set_modified(SystemTime::now())
        .unwrap();
    assert!(gc(&mut host, &[]).ok);
    assert_eq!(host.calls()[2..], ["GC first ", "GC second "]);
    let records = host.plugins.records().unwrap();
    assert_eq!(valid(&records[2]), json!([{"containerID": "sandbox1", "ifname": "eth0"}]), "its primary too");
    assert_eq!(valid(&records[3]), json!([{"containerID": "sandbox1", "ifname": "net1"}]));
}

// Holds: C26
#[test]
fn a_pods_own_primary_is_among_what_lives_in_its_network() {
    let mut host = settled();
    host.container = "sandbox2".to_owned();
    let chosen = json!({"v1.multus-cni.io/default-network": "demo/a"});
    host.call_with("ADD", &json!({"io.kubernetes.cri.pod-annotations": chosen})).result();
    assert!(gc(&mut host, &["sandbox1", "sandbox2"]).ok);
    let records = host.plugins.records().unwrap();
    let second = records.iter().find(|call| call.command() == "GC" && call.config()["network"] == "second");
    let expected = json!([
        {"containerID": "sandbox1", "ifname": "eth0"}, {"containerID": "sandbox1", "ifname": "net1"},
        {"containerID": "sandbox2", "ifname": "eth0"},
    ]);
    assert_eq!(valid(second.unwrap()), expected);
}

#[test]
fn networks_of_pods_are_not_collected_while_the_record_of_a_living_sandbox_is_torn() {
    let mut host = settled();
    fs::write(host.root("state/journal/sandbox2.json"), "{ half").unwrap();
    let (_, line) = gc(&mut host, &["sandbox1", "sandbox2"]).failure();
    assert!(line.contains("sandbox2.json"), "{line}");
    assert_eq!(host.calls()[2..], ["GC first "], "what sandbox2 has of the network is unknown");
}

#[test]
fn a_torn_record_of_a_sandbox_that_is_gone_is_set_aside() {
    let mut host = settled();
    let torn = host.root("state/journal/sandbox2.json");
    fs::write(&torn, "{ half").unwrap();
    age(&torn);
    assert!(gc(&mut host, &["sandbox1"]).ok);
    assert_eq!(host.files("state/given-up"), ["sandbox2.json"]);
    assert_eq!(host.calls()[2..], ["GC first ", "GC second "]);
}

#[test]
fn what_was_given_up_is_tried_again_until_it_is_detached() {
    let mut host = settled();
    fs::create_dir_all(host.root("state/given-up")).unwrap();
    fs::rename(host.root("state/journal/sandbox1.json"), host.root("state/given-up/sandbox1.json")).unwrap();
    let plugin = host.plugins.bin().join("second");
    fs::rename(&plugin, host.root("second")).unwrap();
    assert!(gc(&mut host, &["another"]).ok, "what has failed for long fails no GC");
    assert_eq!(host.files("state/given-up"), ["sandbox1.json"]);
    fs::rename(host.root("second"), &plugin).unwrap();
    assert!(gc(&mut host, &["another"]).ok);
    assert!(host.calls().contains(&"DEL second net1".to_owned()), "{:?}", host.calls());
    host.assert_nothing_left();
}

#[test]
fn a_sandbox_that_is_being_worked_on_is_left_to_whoever_does_so() {
    let mut host = settled();
    let nad = host.nad("second", &json!({"behaviour": {"DEL": "slow"}, "milliseconds": 1500}));
    fs::remove_dir_all(host.root("run/daemon")).unwrap();
    host.honest_daemon(&[("demo/a", nad)]);
    host.container = "sandbox2".to_owned();
    host.call("ADD", Some("a")).result();
    age(&host.root("state/journal/sandbox2.json"));
    let del = host.start("DEL", &json!({}));
    host.await_call("DEL second net1");
    let answer = gc(&mut host, &["sandbox1"]);
    assert!(answer.ok, "{answer:?}");
    assert!(Answer::of(del.wait_with_output().unwrap()).ok);
    let detached = host.calls().into_iter().filter(|call| call.starts_with("DEL")).count();
    assert_eq!(detached, 2, "each network once: {:?}", host.calls());
}

#[test]
fn networks_of_pods_are_not_collected_while_a_pod_of_go_multus_is_unknown() {
    let mut host = settled();
    fs::create_dir_all(host.root("go")).unwrap();
    fs::write(host.root("go/another"), "[]").unwrap();
    assert!(gc(&mut host, &["sandbox1", "another"]).ok);
    assert_eq!(host.calls()[2..], ["GC first "]);
}

#[test]
fn without_a_list_nothing_is_removed() {
    let host = settled();
    let (code, line) = host.call_with("GC", &json!({})).failure();
    assert!(code == 7 && line.starts_with("GC_LIST"), "{line}");
    assert_eq!(host.calls().len(), 2);
}

// Holds: D15
#[test]
fn a_failing_network_does_not_stop_the_others_and_is_reported() {
    let mut host = settled();
    let primary = json!({"cniVersion": "1.1.0", "name": "cluster",
        "plugins": [host.delegate("first", &json!({"behaviour": {"GC": "fail"}, "code": 123}))]});
    fs::write(host.root("net.d/10-primary.conflist"), primary.to_string()).unwrap();
    let (code, line) = gc(&mut host, &["sandbox1"]).failure();
    assert!(code == 123 && line.contains("cluster"), "{line}");
    assert_eq!(host.calls()[2..], ["GC first ", "GC second "]);
}
