//! What a pod gets, and what the API server is asked for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api::Mode;

use crate::host::Host;

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The config with what a runtime hands over.
fn handed_over(host: &Host, annotations: &Value) -> Value {
    let mut config = host.config();
    config["runtimeConfig"] = json!({ "io.kubernetes.cri.pod-annotations": annotations });
    config
}

#[test]
fn a_plain_pod_asks_the_api_nothing_where_the_runtime_hands_over_its_annotations() {
    let host = Host::new();
    host.api.set(Mode::Silent);
    std::fs::write(host.root("kubeconfig"), "nobody needs to read this").unwrap();
    let config = handed_over(&host, &json!({}));
    assert_eq!(host.call("ADD", &config).result()["ips"][0]["address"], "192.0.2.10/24");
    assert!(host.call("DEL", &config).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "DEL first eth0"]);
    assert!(host.api.with(|state| state.seen.is_empty()));
    host.assert_nothing_left();
}

#[test]
fn a_plain_pod_costs_one_read_where_the_runtime_hands_over_nothing() {
    let host = Host::new();
    assert!(host.call("ADD", &host.config()).ok);
    let asked: Vec<String> = host
        .api
        .with(|state| state.seen.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect());
    assert_eq!(asked, ["GET /api/v1/namespaces/demo/pods/pod"]);
}

// Holds: N36, N46
#[test]
fn networks_are_looked_up_attached_published_and_undone() {
    let host = Host::new();
    host.define("demo", "a", "second");
    host.define("other", "b", "third");
    host.annotate(&json!({NETWORKS: "a, other/b@data0", "k": "v"}));
    let config = host.config();
    let added = host.call("ADD", &config);
    assert!(added.ok, "{added:?}");
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "ADD third data0"]);
    let annotations = host.api.annotations("demo", "pod");
    assert_eq!(annotations["k"], "v");
    let status: Value = serde_json::from_str(annotations[STATUS].as_str().unwrap()).unwrap();
    let names: Vec<&Value> = status.as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, ["first", "demo/a", "other/b"]);
    // DEL needs the API as little as the shim's does.
    host.api.set(Mode::Silent);
    assert!(host.call("DEL", &config).ok);
    assert_eq!(host.calls()[3..], ["DEL third data0", "DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

#[test]
fn the_annotations_of_the_runtime_are_believed_and_not_read_again() {
    let host = Host::new();
    host.define("demo", "a", "second");
    let config = handed_over(&host, &json!({ NETWORKS: "a" }));
    assert!(host.call("ADD", &config).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1"]);
    let reads = host.api.seen("GET");
    assert_eq!(reads.len(), 1, "{reads:?}");
    assert!(reads[0].path.ends_with("/network-attachment-definitions/a"));
}

#[test]
fn a_network_that_is_not_there_is_named_in_the_answer_and_in_an_event() {
    let host = Host::new();
    host.annotate(&json!({ NETWORKS: "nowhere" }));
    let (code, line) = host.call("ADD", &host.config()).failure();
    assert_eq!(code, 7);
    assert!(line.contains("NAD_NOT_FOUND") && line.contains("demo/nowhere"), "{line}");
    assert_eq!(host.calls(), Vec::<String>::new(), "nothing is attached of a pod that cannot get all");
    let events = host.api.seen("POST");
    assert_eq!(events.len(), 1);
    assert!(events[0].body["message"].as_str().unwrap().contains("demo/nowhere"));
    assert_eq!(events[0].body["type"], "Warning");
    host.assert_nothing_left();
}

// Holds: B15, B27
#[test]
fn an_api_server_that_hangs_fails_the_pod_in_time_and_leaves_nothing() {
    let host = Host::new();
    host.annotate(&json!({ NETWORKS: "a" }));
    host.api.set(Mode::Silent);
    let start = Instant::now();
    let (code, line) = host.call("ADD", &host.config()).failure();
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    assert_eq!(code, 11);
    assert!(line.contains("API_UNAVAILABLE"), "{line}");
    assert_eq!(host.calls(), Vec::<String>::new());
    host.assert_nothing_left();
}

// Holds: B29, P11
#[test]
fn a_status_that_cannot_be_published_undoes_the_pod() {
    let host = Host::new();
    host.define("demo", "a", "second");
    host.annotate(&json!({ NETWORKS: "a" }));
    host.api.set(Mode::RefusesOnly(403, "PATCH", "/status"));
    let (code, line) = host.call("ADD", &host.config()).failure();
    assert_eq!(code, 7);
    assert!(line.contains("patch pods/status"), "{line}");
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: B2
#[test]
fn a_pod_that_vanished_or_was_replaced_fails_and_gets_no_invented_result() {
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let host = Host::new();
        let mut config = host.config();
        config["cniVersion"] = json!(version);
        host.api.with(|state| state.pods[0]["metadata"]["uid"] = json!("u2"));
        let (_, line) = host.call("ADD", &config).failure();
        assert!(line.contains("POD_REPLACED"), "{line}");
        host.api.with(|state| state.pods.clear());
        let (code, line) = host.call("ADD", &config).failure();
        assert!(code == 11 && line.contains("POD_NOT_FOUND"), "{line}");
        assert_eq!(host.calls(), Vec::<String>::new());
        host.assert_nothing_left();
    }
}

#[test]
fn a_runtimes_own_proxy_is_not_asked() {
    let mut host = Host::new();
    host.environment = vec![
        ("HTTPS_PROXY", "http://127.0.0.1:1".to_owned()),
        ("HTTP_PROXY", "http://127.0.0.1:1".to_owned()),
    ];
    assert!(host.call("ADD", &host.config()).ok);
}

// Holds: B26
#[test]
fn one_event_tells_all_networks_before_the_process_ends() {
    let host = Host::new();
    host.define("demo", "a", "second");
    host.annotate(&json!({ NETWORKS: "a" }));
    assert!(host.call("ADD", &host.config()).ok);
    let events = host.api.seen("POST");
    assert_eq!(events.len(), 1);
    let event = &events[0].body;
    assert_eq!((&event["type"], &event["reason"]), (&json!("Normal"), &json!("AddedInterface")));
    assert_eq!(event["message"], "eth0 [192.0.2.10/24] from first, net1 [192.0.2.10/24] from demo/a");
    assert_eq!(event["involvedObject"]["uid"], "u1");
}

#[test]
fn an_event_that_cannot_be_told_is_no_reason_to_fail() {
    let host = Host::new();
    host.define("demo", "a", "second");
    host.annotate(&json!({ NETWORKS: "a" }));
    host.api.set(Mode::RefusesOnly(403, "POST", "/events"));
    let added = host.call("ADD", &host.config());
    assert!(added.ok && added.stderr.contains("create events"), "{added:?}");
}

#[test]
fn a_static_pod_starts_before_its_mirror_and_any_other_pod_does_not() {
    for (source, starts) in [("file", true), ("api", false)] {
        let host = Host::new();
        host.define("demo", "a", "second");
        host.api.with(|state| state.pods.clear());
        let config = handed_over(&host, &json!({NETWORKS: "a", "kubernetes.io/config.source": source}));
        let added = host.call("ADD", &config);
        assert_eq!(added.ok, starts, "{source}: {added:?}");
        if !starts {
            assert!(added.failure().1.contains("POD_NOT_FOUND"));
            host.assert_nothing_left();
        }
    }
}

#[test]
fn a_static_plain_pod_asks_the_api_nothing_either() {
    let host = Host::new();
    host.api.set(Mode::Silent);
    let config = handed_over(&host, &json!({"kubernetes.io/config.source": "file"}));
    assert!(host.call("ADD", &config).ok);
    let mut broken = config.clone();
    broken["delegates"][0]["behaviour"] = json!("fail");
    assert!(host.call("DEL", &config).ok);
    assert!(!host.call("ADD", &broken).ok);
    assert!(host.api.with(|state| state.seen.is_empty()), "no event for a plain pod");
}
