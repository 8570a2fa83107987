//! The three calls: what reaches the API server, and what comes back for each way it can fail.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{Daemon, assert_failure, publish, resolve};
use serde_json::json;
use testkit::api::{Api, Mode, nad};

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

// Holds: B15
#[test]
fn resolves_from_the_cache_and_a_miss_by_one_read() {
    let api = Api::start().unwrap();
    api.with(|state| state.listed[0]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/x"] = json!("y"));
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    let (status, answer) = daemon.resolve("known");
    assert_eq!(status, 200, "{answer}");
    let network = json!({"namespace": "default", "name": "known", "config": "{ \"type\":\"bridge\", \"z\": 1 }",
        "annotations": {"k8s.v1.cni.cncf.io/x": "y"}});
    assert_eq!(answer, json!({"networks": [network]}));

    let reads = |name: &str| api.seen("GET").iter().filter(|seen| seen.path.ends_with(name)).count();
    assert_eq!(reads("/known"), 0);
    assert_eq!(daemon.resolve("late").0, 200);
    assert_eq!(reads("/late"), 1);

    let answer = daemon.resolve("nowhere");
    assert_failure(&answer, "NAD_NOT_FOUND", 7);
    assert!(answer.1["message"].as_str().unwrap().contains("default/nowhere"));
    assert_eq!(reads("/nowhere"), 1);
}

#[test]
fn keeps_the_order_of_many_selections() {
    let api = Api::start().unwrap();
    api.with(|state| state.unlisted.extend((0..30).map(|n| nad(&format!("n{n}"), &n.to_string()))));
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let mut request = resolve("known");
    request["selections"] =
        (0..30).rev().map(|n| json!({"namespace": "default", "name": format!("n{n}")})).collect();
    let (_, answer) = daemon.post("/v1/resolve", &request);
    let configs: Vec<_> =
        answer["networks"].as_array().unwrap().iter().map(|n| n["config"].clone()).collect();
    assert_eq!(configs, (0..30).rev().map(|n| json!(n.to_string())).collect::<Vec<_>>());
}

#[test]
fn the_pods_annotations_come_only_when_asked_and_only_from_the_right_pod() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let mut request = resolve("known");
    request["wantAnnotations"] = json!(true);
    assert_eq!(daemon.post("/v1/resolve", &request).1["annotations"], json!({"a": "b"}));
    request["pod"]["uid"] = json!("uid0");
    assert_failure(&daemon.post("/v1/resolve", &request), "POD_REPLACED", 7);
    api.with(|state| {
        state.pods[0]["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "uid0"});
    });
    assert_eq!(daemon.post("/v1/resolve", &request).0, 200);
    api.with(|state| state.pods.clear());
    assert_failure(&daemon.post("/v1/resolve", &request), "POD_NOT_FOUND", 11);
}

#[test]
fn says_what_the_api_server_refuses_or_lacks() {
    let api = Api::start().unwrap();
    api.set(Mode::Refuses(403));
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let answer = daemon.resolve("known");
    assert_failure(&answer, "FORBIDDEN", 7);
    let message = answer.1["message"].as_str().unwrap();
    assert!(message.contains("get") && message.contains("network-attachment-definitions"), "{message}");
    assert_eq!(daemon.call("GET", "/readyz", "").0, 503);
    api.set(Mode::NoCrd);
    assert_failure(&daemon.resolve("known"), "CRD_MISSING", 7);
    api.set(Mode::Works);
    daemon.wait_ready();
    assert_eq!(daemon.resolve("known").0, 200);
}

// Holds: B15
#[test]
fn an_api_server_that_hangs_costs_three_seconds_and_the_cache_serves_on() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    api.set(Mode::Silent);
    let start = Instant::now();
    assert_failure(&daemon.resolve("late"), "API_UNAVAILABLE", 11);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(daemon.resolve("known").0, 200);
    assert_failure(&daemon.post("/v1/publish", &publish("uid1", "sandbox1")), "API_UNAVAILABLE", 11);
}

#[test]
fn starts_and_serves_while_the_api_server_is_away() {
    let address = Api::start_at("127.0.0.1:0").unwrap().address;
    // A port that nobody listens on, and that is then taken: the next one may be in use, so ask for a free one.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert_ne!(address, free);
    let Some(daemon) = Daemon::start(&free) else { return };
    assert_eq!(daemon.call("GET", "/livez", "").0, 200);
    let (status, line) = daemon.call("GET", "/readyz", "");
    assert_eq!((status, line.lines().count()), (503, 1), "{line}");
    assert_failure(&daemon.resolve("known"), "API_UNAVAILABLE", 11);
    let _api = Api::start_at(&free).unwrap();
    assert_eq!(daemon.resolve("known").0, 200);
    daemon.wait_ready();
}

// Holds: N36
#[test]
fn publishes_one_annotation_guarded_by_the_uid() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    assert_eq!(daemon.post("/v1/publish", &publish("uid1", "sandbox1")), (200, json!({})));
    let patches = api.seen("PATCH");
    assert_eq!(patches.len(), 1);
    assert!(
        patches[0].path.starts_with("/api/v1/namespaces/default/pods/pod1/status"),
        "{}",
        patches[0].path
    );
    let body = json!({"metadata": {"uid": "uid1", "annotations": {STATUS: "[{\"name\":\"x\"}]"}}});
    assert_eq!(patches[0].body, body);
}

#[test]
fn publishing_is_retried_and_gives_up_in_time() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    api.set(Mode::Fails(503, 3));
    assert_eq!(daemon.post("/v1/publish", &publish("uid1", "sandbox1")).0, 200);
    assert_eq!(api.seen("PATCH").len(), 4);
    api.set(Mode::Fails(503, 1000));
    let start = Instant::now();
    assert_failure(&daemon.post("/v1/publish", &publish("uid1", "sandbox1")), "API_UNAVAILABLE", 11);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

// Holds: B15
#[test]
fn publishes_to_no_other_generation_of_the_pod_but_to_a_mirror() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    assert_failure(&daemon.post("/v1/publish", &publish("uid0", "sandbox1")), "POD_REPLACED", 7);
    api.with(|state| {
        state.pods[0]["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "uid0"});
    });
    assert_eq!(daemon.post("/v1/publish", &publish("uid0", "sandbox1")).0, 200);
    assert_eq!(api.seen("PATCH").last().unwrap().body["metadata"]["uid"], "uid1");
    api.with(|state| state.pods.clear());
    assert_failure(&daemon.post("/v1/publish", &publish("uid1", "sandbox1")), "POD_NOT_FOUND", 11);
}

#[test]
fn publishes_only_for_sandboxes_of_the_journal() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    for sandbox in ["sandbox2", "../journal/sandbox1", "", "sandbox1/"] {
        assert_failure(&daemon.post("/v1/publish", &publish("uid1", sandbox)), "UNKNOWN_SANDBOX", 7);
    }
    std::fs::remove_dir_all(daemon.folder.path().join("journal")).unwrap();
    let answer = daemon.post("/v1/publish", &publish("uid1", "sandbox1"));
    assert_failure(&answer, "UNKNOWN_SANDBOX", 7);
    assert!(answer.1["message"].as_str().unwrap().contains("not mounted"));
    assert!(api.seen("PATCH").is_empty());
}

#[test]
fn the_same_event_is_sent_once_a_minute() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let event = json!({"pod": crate::support::pod("uid1"), "kind": "Warning", "reason": "NetworkFailed", "message": "a\nb"});
    for _ in 0..5 {
        assert_eq!(daemon.post("/v1/event", &event), (200, json!({})));
    }
    let seen = api.seen("POST");
    assert_eq!(seen.len(), 1);
    let body = &seen[0].body;
    assert_eq!(body["message"], "a b");
    assert_eq!(body["involvedObject"]["uid"], "uid1");
    assert_eq!(body["source"], json!({"component": "multus", "host": "node1"}));
    assert_eq!(body["reportingComponent"], "multus");
}

// Holds: P14
#[test]
fn many_at_once_are_all_answered() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    thread::scope(|scope| {
        for n in 0..300 {
            let daemon = &daemon;
            scope.spawn(move || {
                assert_eq!(daemon.resolve(if n % 10 == 0 { "late" } else { "known" }).0, 200);
            });
        }
    });
}

#[test]
fn good_news_is_told_in_the_background_and_bad_news_before_the_answer() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    api.set(Mode::RefusesOnly(403, "POST", "/events"));
    let event = |kind: &str, message: &str| json!({"pod": crate::support::pod("uid1"), "kind": kind, "reason": "X", "message": message});
    let sent = |message: &str| api.seen("POST").iter().any(|seen| seen.body["message"] == message);
    assert_eq!(daemon.post("/v1/event", &event("Normal", "lost")), (200, json!({})), "nobody waits for it");
    daemon.wait("tries", || sent("lost"));
    assert_failure(&daemon.post("/v1/event", &event("Warning", "bad")), "FORBIDDEN", 7);
    api.set(Mode::Works);
    assert_eq!(daemon.post("/v1/event", &event("Normal", "good")).0, 200);
    daemon.wait("tells", || sent("good"));
}
