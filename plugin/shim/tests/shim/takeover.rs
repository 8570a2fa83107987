//! Pods that Go Multus attached: its files say what to undo, and nobody's address is lost.

use std::fs;

use cni::cache::{Cache, Entry};
use serde_json::json;

use crate::host::Host;

/// A host on which Go Multus attached `sandbox1` to the primary and one network, and is gone.
fn left_by_go() -> Host {
    let mut host = Host::new();
    host.options["cniVersion"] = json!("1.1.0");
    host.options["cniDir"] = json!(host.root("go"));
    for sandbox in ["sandbox1", "sandbox2"] {
        for (ifname, kind, capability) in
            [("eth0", "first", json!({})), ("net1", "second", json!({"mac": "02:00:00:00:00:07"}))]
        {
            let plugin = host.delegate(kind, &json!({"capabilities": {"mac": true}}));
            let config = json!({"cniVersion": "1.1.0", "name": kind, "plugins": [plugin]});
            let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "192.0.2.9/24"}]});
            let entry = Entry {
                network: kind.to_owned(),
                container_id: sandbox.to_owned(),
                ifname: ifname.to_owned(),
                netns: "/run/netns/pod".to_owned(),
                args: vec![
                    ("K8S_POD_NAMESPACE".to_owned(), "demo".to_owned()),
                    ("K8S_POD_NAME".to_owned(), "pod".to_owned()),
                ],
                capability_args: serde_json::from_value(capability).unwrap(),
                config: config.to_string(),
                result: Some(cni::result::CniResult::parse(result.to_string().as_bytes(), "1.1.0").unwrap()),
            };
            Cache::new(host.root("go")).write(&entry).unwrap();
        }
        fs::write(host.root("go").join(sandbox), "[{}]").unwrap();
    }
    host
}

// Holds: B3, B5, B6, P6
#[test]
fn a_pod_of_go_multus_is_detached_whole_as_its_files_say() {
    let host = left_by_go();
    assert!(host.call("DEL", None).ok);
    assert_eq!(host.calls(), ["DEL second net1", "DEL first eth0"]);
    let config = host.plugins.records().unwrap()[0].config();
    assert_eq!(config["runtimeConfig"], json!({"mac": "02:00:00:00:00:07"}));
    assert_eq!(config["prevResult"]["ips"][0]["address"], "192.0.2.9/24");
    assert_eq!(host.files("go"), ["results", "sandbox2"]);
    assert_eq!(host.files("go/results"), ["first-sandbox2-eth0", "second-sandbox2-net1"]);
    assert!(host.call("DEL", None).ok);
    host.assert_nothing_left();
}

#[test]
fn what_cannot_be_detached_of_such_a_pod_is_tried_again_without_its_files() {
    let host = left_by_go();
    fs::remove_file(host.plugins.bin().join("second")).unwrap();
    host.call("DEL", None).failure();
    assert_eq!(host.files("state/journal"), ["sandbox1.json"]);
    host.plugins.add("second").unwrap();
    assert!(host.call("DEL", None).ok);
    assert_eq!(host.calls(), ["DEL first eth0", "DEL second net1"]);
    host.assert_nothing_left();
}

#[test]
fn gc_releases_such_pods_that_are_gone_and_names_those_that_live() {
    let mut host = left_by_go();
    host.options["cni.dev/valid-attachments"] = json!([{"containerID": "sandbox2", "ifname": "eth0"}]);
    assert!(host.call_with("GC", &json!({})).ok);
    assert_eq!(host.calls(), ["DEL second net1", "DEL first eth0", "GC first ", "GC second "]);
    let valid = &host.plugins.records().unwrap()[3].config()["cni.dev/valid-attachments"];
    assert_eq!(*valid, json!([{"containerID": "sandbox2", "ifname": "net1"}]));
}

// Holds: B4, P4, P5
#[test]
fn broken_files_of_go_multus_neither_crash_a_del_nor_keep_a_pod() {
    for text in ["", "[]", "null", "{\"kind\":\"cniCacheV1\"", "[{\"Bytes\":\"!\"}]"] {
        let host = left_by_go();
        fs::write(host.root("go/sandbox1"), text).unwrap();
        fs::write(host.root("go/results/second-sandbox1-net1"), text).unwrap();
        assert!(host.call("DEL", None).ok, "{text}");
        assert_eq!(host.calls(), ["DEL first eth0"], "{text}");
    }
}
