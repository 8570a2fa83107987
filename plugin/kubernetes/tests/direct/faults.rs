//! What an API server that misbehaves costs, and what its user reads.

use std::{
    net::TcpListener,
    path::PathBuf,
    time::{Duration, Instant},
};

use kubernetes::{Direct, Options};
use meta::cluster::Cluster;
use serde_json::json;
use tempfile::TempDir;
use testkit::api::{self, Api, Mode};

use crate::{annotations_of, event, failure, networks, pod, reader, status_of};

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

struct Host {
    api: Api,
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { api: Api::start().unwrap(), folder: tempfile::tempdir().unwrap() };
        std::fs::write(host.kubeconfig(), api::kubeconfig(&host.api.address)).unwrap();
        host
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn reader(&self) -> Direct {
        reader(&self.kubeconfig())
    }

    fn impatient(&self, budget: Duration) -> Direct {
        let options = Options { kubeconfig: Some(self.kubeconfig()), ..Options::default() };
        Direct::new(options, budget)
    }
}

#[test]
fn networks_come_in_the_order_asked_one_read_each() {
    let host = Host::new();
    let answer = host.reader().resolve(&networks(&["late", "known"])).unwrap();
    let names: Vec<_> = answer.networks.iter().map(|network| network.name.as_str()).collect();
    assert_eq!(names, ["late", "known"]);
    assert_eq!(answer.networks[1].config, "{ \"type\":\"bridge\", \"z\": 1 }", "untouched");
    assert_eq!(answer.annotations, None);
    assert_eq!(host.api.seen("GET").len(), 2);
}

#[test]
fn nothing_is_asked_before_there_is_a_question() {
    let host = Host::new();
    std::fs::write(host.kubeconfig(), "no kubeconfig at all").unwrap();
    let reader = host.reader();
    let (reason, code, message) = failure(reader.resolve(&networks(&["known"])));
    assert_eq!((reason.as_str(), code), ("KUBECONFIG_UNUSABLE", 11));
    assert!(message.contains(&host.kubeconfig().display().to_string()), "{message}");
    std::fs::write(host.kubeconfig(), api::kubeconfig(&host.api.address)).unwrap();
    assert!(
        reader.resolve(&networks(&["known"])).is_ok(),
        "a kubeconfig that was repaired serves the next question"
    );
}

// Holds: B15
#[test]
fn a_server_that_needs_two_seconds_for_each_answer_is_slow_and_nothing_else() {
    let host = Host::new();
    host.api.set(Mode::Slow(Duration::from_secs(2)));
    let reader = host.reader();
    assert!(reader.resolve(&annotations_of(pod("pod1", "uid1"))).is_ok());
    assert!(reader.resolve(&networks(&["known"])).is_ok());
    assert!(reader.publish(&status_of(pod("pod1", "uid1"), "[]"))().is_ok());
}

// Holds: P5
#[test]
fn all_questions_of_one_call_together_end_in_time() {
    let host = Host::new();
    host.api.set(Mode::Silent);
    let reader = host.reader();
    let start = Instant::now();
    assert_eq!(failure(reader.resolve(&networks(&["known"]))).0, "API_UNAVAILABLE");
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}: something is left to publish", start.elapsed());
    assert_eq!(failure(reader.publish(&status_of(pod("pod1", "uid1"), "[]"))()).0, "API_UNAVAILABLE");
    assert_eq!(failure(reader.event(&event(pod("pod1", "uid1"), "x"))).0, "API_UNAVAILABLE");
    assert_eq!(failure(reader.resolve(&networks(&["known"]))).0, "API_UNAVAILABLE");
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
}

#[test]
fn who_can_do_without_an_answer_waits_a_second_at_most() {
    let host = Host::new();
    host.api.set(Mode::Silent);
    let mut request = networks(&["known"]);
    request.at_once = true;
    let start = Instant::now();
    assert_eq!(failure(host.reader().resolve(&request)).0, "API_UNAVAILABLE");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    host.api.set(Mode::Fails(503, 1));
    assert_eq!(failure(host.reader().resolve(&request)).0, "API_UNAVAILABLE", "and it is asked once");
}

#[test]
fn what_may_pass_is_tried_again() {
    for code in [429, 500, 503, 504] {
        let host = Host::new();
        host.api.set(Mode::Fails(code, 2));
        assert!(host.reader().resolve(&networks(&["known"])).is_ok(), "{code}");
        assert_eq!(host.api.seen("GET").len(), 3);
    }
}

#[test]
fn an_overloaded_server_is_given_the_second_it_asks_for() {
    let host = Host::new();
    host.api.set(Mode::Fails(429, 1));
    let start = Instant::now();
    host.reader().publish(&status_of(pod("pod1", "uid1"), "[]"))().unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_comes_back_within_the_time_is_used() {
    let host = Host::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    std::fs::write(host.kubeconfig(), api::kubeconfig(&address)).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| host.reader().resolve(&networks(&["known"])));
        // Its first attempts meet a closed port; there is nothing to see of them but that time passed.
        std::thread::sleep(Duration::from_millis(500));
        let _api = Api::start_at(&address).unwrap();
        assert!(asked.join().unwrap().is_ok());
    });
}

#[test]
fn a_closed_port_is_said_to_be_one() {
    let host = Host::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    std::fs::write(host.kubeconfig(), api::kubeconfig(&address)).unwrap();
    let reader = host.impatient(Duration::from_secs(2));
    let (reason, code, message) = failure(reader.resolve(&networks(&["known"])));
    assert_eq!((reason.as_str(), code), ("API_UNAVAILABLE", 11));
    assert!(message.contains("refused"), "{message}");
}

#[test]
fn a_refused_token_names_the_kubeconfig_and_is_not_tried_again() {
    let host = Host::new();
    host.api.set(Mode::Refuses(401));
    let (reason, code, message) = failure(host.reader().resolve(&networks(&["known"])));
    assert_eq!((reason.as_str(), code), ("UNAUTHORIZED", 11));
    assert!(
        message.contains(&host.kubeconfig().display().to_string()) && message.contains("fresh"),
        "{message}"
    );
    assert_eq!(host.api.seen("GET").len(), 1);
}

#[test]
fn a_right_that_is_missing_is_named() {
    let host = Host::new();
    let pod1 = || pod("pod1", "uid1");
    host.api.set(Mode::Refuses(403));
    let reader = host.reader();
    let said = |(reason, code, message): (String, u32, String), right: &str| {
        assert_eq!((reason.as_str(), code), ("FORBIDDEN", 7));
        assert!(message.contains(right), "{message}");
    };
    said(
        failure(reader.resolve(&networks(&["known"]))),
        "get network-attachment-definitions.k8s.cni.cncf.io",
    );
    said(failure(reader.resolve(&annotations_of(pod1()))), "get pods");
    said(failure(reader.publish(&status_of(pod1(), "[]"))()), "patch pods/status");
    said(failure(reader.event(&event(pod1(), "x"))), "create events");
}

#[test]
fn the_pods_annotations_are_those_of_the_generation_asked_for() {
    let host = Host::new();
    let reader = host.reader();
    let told = reader.resolve(&annotations_of(pod("pod1", "uid1"))).unwrap().annotations.unwrap();
    assert_eq!(told.get("a").map(String::as_str), Some("b"));
    assert_eq!(failure(reader.resolve(&annotations_of(pod("pod1", "uid0")))).0, "POD_REPLACED");
    assert_eq!(failure(reader.resolve(&annotations_of(pod("pod2", "")))).0, "POD_NOT_FOUND");
    let mirror = json!({"kubernetes.io/config.mirror": "hash"});
    host.api.with(|state| state.pods[0]["metadata"]["annotations"] = mirror);
    assert!(reader.resolve(&annotations_of(pod("pod1", "hash"))).is_ok());
    let (reason, code, _) = failure(reader.resolve(&annotations_of(pod("pod1", "newer"))));
    assert_eq!((reason.as_str(), code), ("POD_NOT_FOUND", 11), "the kubelet has yet to replace the mirror");
}

// Holds: N36
#[test]
fn a_status_reaches_one_generation_and_no_other_annotation() {
    let host = Host::new();
    let reader = host.reader();
    reader.publish(&status_of(pod("pod1", "uid1"), "[1]"))().unwrap();
    assert_eq!(host.api.annotations("default", "pod1"), json!({"a": "b", STATUS: "[1]"}));
    assert_eq!(failure(reader.publish(&status_of(pod("pod1", "uid0"), "[2]"))()).0, "POD_REPLACED");
    assert_eq!(host.api.annotations("default", "pod1")[STATUS], "[1]");
}

#[test]
fn writers_that_met_are_tried_again() {
    let host = Host::new();
    host.api.with(|state| state.mode = Mode::Fails(409, 1));
    host.reader().publish(&status_of(pod("pod1", "uid1"), "[1]"))().unwrap();
    assert_eq!(host.api.annotations("default", "pod1")[STATUS], "[1]");
}

#[test]
fn the_same_line_of_many_processes_is_one_event() {
    let host = Host::new();
    for _ in 0..3 {
        // Each CNI call is a process of its own, which remembers nothing.
        host.reader().event(&event(pod("pod1", "uid1"), "the same line")).unwrap();
    }
    let names: std::collections::BTreeSet<String> = host
        .api
        .seen("POST")
        .iter()
        .map(|seen| seen.body["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 1);
    assert_eq!(host.api.seen("PATCH").len(), 2, "it is seen again, so its age is right");
}

#[test]
fn without_a_cluster_no_network_is_known_and_nothing_is_missed() {
    let none = kubernetes::direct(Options::default());
    let told = none.resolve(&annotations_of(pod("pod1", "uid1"))).unwrap();
    assert_eq!(told.annotations, Some(std::collections::BTreeMap::new()));
    let (reason, code, message) = failure(none.resolve(&networks(&["a"])));
    assert_eq!((reason.as_str(), code), ("NAD_NOT_FOUND", 7));
    assert!(message.contains("kubeconfig"), "{message}");
    none.publish(&status_of(pod("pod1", "uid1"), "[]"))().unwrap();
    none.event(&event(pod("pod1", "uid1"), "x")).unwrap();
}
