//! What the plugin does for a pod when everything works.

use std::{fs, time::Duration};

use serde_json::json;

use crate::host::{Host, ended, http};

// Holds: N45
#[test]
fn a_plain_pod_gets_its_primary_alone_and_the_socket_is_not_touched() {
    let host = Host::new();
    host.honest_daemon(&[]);
    let result = host.call("ADD", None).result();
    assert_eq!(result["cniVersion"], "1.0.0");
    assert_eq!(result["ips"][0]["address"], "192.0.2.10/24");
    assert_eq!(host.calls(), ["ADD first eth0"]);
    assert_eq!(host.files("run/plain"), ["sandbox1.json"]);
    assert!(host.call("DEL", None).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "DEL first eth0"]);
    assert!(host.asked.lock().unwrap().is_empty());
    host.assert_nothing_left();
}

// Holds: N45, P17
#[test]
fn a_plain_pod_starts_and_ends_without_any_daemon() {
    let host = Host::new();
    assert!(host.call("ADD", None).ok);
    assert!(host.call("DEL", None).ok);
    host.assert_nothing_left();
}

#[test]
fn a_plain_pod_starts_when_nothing_can_be_recorded_for_it() {
    let host = Host::new();
    fs::create_dir_all(host.root("run")).unwrap();
    fs::write(host.root("run/plain"), "a file where a folder should be").unwrap();
    assert!(host.call("ADD", None).ok);
    assert!(host.call("DEL", None).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "DEL first eth0"]);
}

// Holds: N46, N35, D7, D12, D13, P17
#[test]
fn networks_are_attached_in_order_after_the_primary_and_detached_in_reverse() {
    let host = Host::new();
    host.honest_daemon(&[
        ("demo/a", host.nad("second", &json!({}))),
        ("other/b", host.nad("third", &json!({}))),
    ]);
    let asks = Some("a, other/b@data0");
    assert!(host.call("ADD", asks).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "ADD third data0"]);
    assert_eq!(host.files("state/journal"), ["sandbox1.json"]);
    assert!(host.call("DEL", asks).ok);
    assert_eq!(host.calls()[3..], ["DEL third data0", "DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: N9
#[test]
fn the_json_form_asks_for_the_same_as_the_comma_form() {
    let forms = ["a,other/b@data0", r#"[{"name":"a"},{"name":"b","namespace":"other","interface":"data0"}]"#];
    let calls = forms.map(|form| {
        let host = Host::new();
        host.honest_daemon(&[
            ("demo/a", host.nad("second", &json!({}))),
            ("other/b", host.nad("third", &json!({}))),
        ]);
        assert!(host.call("ADD", Some(form)).ok);
        (host.calls(), host.asked_for("/v1/resolve"))
    });
    assert_eq!(calls[0], calls[1]);
}

// Holds: N36, N37, N40, N42
#[test]
fn network_status_names_every_interface_and_one_default() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("ADD", Some("a")).ok);
    let published = host.asked_for("/v1/publish");
    assert_eq!(published.len(), 1, "one publish per pod");
    assert_eq!(published[0]["pod"]["uid"], "u1");
    let status: serde_json::Value = serde_json::from_str(published[0]["status"].as_str().unwrap()).unwrap();
    assert_eq!(
        status,
        json!([
            {"name": "cluster", "interface": "eth0", "ips": ["192.0.2.10"], "mac": "02:00:00:00:00:01", "default": true, "dns": {}},
            {"name": "demo/a", "interface": "net1", "ips": ["192.0.2.10"], "mac": "02:00:00:00:00:01", "dns": {}},
        ])
    );
}

// Holds: D12, N50
#[test]
fn a_list_of_plugins_in_a_network_is_chained() {
    let host = Host::new();
    let list = json!({"cniVersion": "1.0.0", "plugins": [host.delegate("second", &json!({})), host.delegate("third", &json!({}))]});
    host.honest_daemon(&[("demo/a", list.to_string())]);
    assert!(host.call("ADD", Some("a")).ok);
    let records = host.plugins.records().unwrap();
    assert_eq!(records[2].config()["prevResult"]["ips"][0]["address"], "192.0.2.10/24");
    assert_eq!(records[2].config()["name"], "a", "a network without a name has its definition's");
}

// Holds: N56, B26
#[test]
fn the_runtimes_config_reaches_the_primary_and_no_other_network() {
    let host = Host::new();
    let declares = json!({"capabilities": {"portMappings": true}});
    host.primary(&declares);
    host.honest_daemon(&[("demo/a", host.nad("second", &declares))]);
    let annotations = json!({"k8s.v1.cni.cncf.io/networks": "a"});
    let ports = json!([{"hostPort": 80, "containerPort": 8080}]);
    assert!(
        host.call_with(
            "ADD",
            &json!({"io.kubernetes.cri.pod-annotations": annotations, "portMappings": ports})
        )
        .ok
    );
    let records = host.plugins.records().unwrap();
    assert_eq!(records[0].config()["runtimeConfig"], json!({ "portMappings": ports }));
    assert_eq!(records[1].config().get("runtimeConfig"), None);
}

// Holds: N8
#[test]
fn where_the_runtime_hands_over_no_annotations_the_daemon_is_asked_for_them() {
    let host = Host::new();
    let config = host.nad("second", &json!({}));
    host.daemon(move |path, body| match (path, body["wantAnnotations"].as_bool()) {
        ("/v1/resolve", Some(true)) => http(200, r#"{"annotations":{"k8s.v1.cni.cncf.io/networks":"a"}}"#),
        ("/v1/resolve", _) => http(
            200,
            &json!({"networks": [{"namespace": "demo", "name": "a", "config": config}]}).to_string(),
        ),
        _ => http(200, "{}"),
    });
    assert!(host.call_with("ADD", &json!({})).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1"]);
}

// Holds: C19, C21, C23
#[test]
fn status_is_the_primarys_and_version_needs_no_config() {
    let host = Host::new();
    assert!(host.call("STATUS", None).ok, "no daemon is no reason to refuse pods");
    fs::remove_file(host.root("net.d/10-primary.conflist")).unwrap();
    assert_eq!(host.call("STATUS", None).failure().0, 50);
    assert_eq!(host.call("VERSION", None).result()["supportedVersions"][6], "1.1.0");
}

// Holds: C19, C21, C22
#[test]
fn a_status_that_hangs_is_answered_before_kubelets_own_deadline() {
    let host = Host::new();
    let primary = json!({"cniVersion": "1.1.0", "name": "cluster",
        "plugins": [host.delegate("first", &json!({"behaviour": {"STATUS": "hang"}}))]});
    fs::write(host.root("net.d/10-primary.conflist"), primary.to_string()).unwrap();
    // kubelet gives its whole status call five seconds.
    let (answer, in_time) = ended(host.start("STATUS", &json!({})), Duration::from_secs(4));
    let (code, line) = answer.failure();
    assert!(in_time && code == 50 && line.starts_with("PRIMARY_STATUS"), "{line}");
}

// Holds: C15, C18, D14, B16, P12
#[test]
fn check_asks_every_network_of_the_pod() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("ADD", Some("a")).ok);
    assert!(host.call("CHECK", Some("a")).ok);
    assert_eq!(host.calls()[2..], ["CHECK first eth0", "CHECK second net1"]);
}
