//! GC: what the runtime no longer has is released, what lives is named to every network.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::host::{Answer, Host};

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
    age(&host);
    host
}

fn age(host: &Host) {
    let record = fs::File::open(host.root("state/journal/sandbox1.json")).unwrap();
    record.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
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
}

#[test]
fn networks_of_pods_are_not_collected_while_records_of_go_multus_remain() {
    let mut host = settled();
    fs::create_dir_all(host.root("go")).unwrap();
    fs::write(host.root("go/0123"), "[]").unwrap();
    assert!(gc(&mut host, &["sandbox1"]).ok);
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
