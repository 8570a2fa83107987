//! The same calls at a real API server: credentials in every form, and what it really answers.

use std::{
    fs,
    path::PathBuf,
    sync::MutexGuard,
    time::{Duration, Instant},
};

use kubernetes::Direct;
use meta::cluster::{Cluster, ClusterError};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::apiserver::{ADMIN, ApiServer, USER};

use crate::{annotations_of, event, failure, networks, pod, reader, status_of};

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The server for one test alone.
struct Real {
    server: &'static ApiServer,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn cluster() -> Option<Real> {
    let (server, alone) = ApiServer::alone().unwrap()?;
    server.create_network("default", "known", "{ \"type\":\"bridge\", \"z\": 1 }").unwrap();
    Some(Real { server, folder: tempfile::tempdir().unwrap(), _alone: alone })
}

impl Real {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn reader_with(&self, text: &str) -> Direct {
        reader(&self.file("kubeconfig", text))
    }

    /// A reader with a user's keys.
    fn reader(&self, user: &Value) -> Direct {
        self.reader_with(&self.server.kubeconfig(user))
    }

    fn annotation(&self, pod: &str, key: &str) -> Value {
        let text = self.server.kubectl(&["get", "pod", pod, "-o", "json"]).unwrap();
        let pod: Value = serde_json::from_str(&text).unwrap();
        pod["metadata"]["annotations"][key].clone()
    }
}

#[test]
fn every_form_of_credentials_is_understood() {
    let Some(cluster) = cluster() else { return };
    let server = cluster.server;
    let base64 = |name: &str| {
        let path = server.file(name).display().to_string();
        let output = std::process::Command::new("base64").arg("-w0").arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let token_file = cluster.file("token", &format!("{USER}\n"));
    fs::copy(server.file("client.crt"), cluster.folder.path().join("client.crt")).unwrap();
    fs::copy(server.file("client.key"), cluster.folder.path().join("client.key")).unwrap();
    for user in [
        json!({ "token": USER }),
        json!({ "tokenFile": token_file }),
        json!({ "tokenFile": token_file, "token": "stale" }),
        json!({"client-certificate": server.file("client.crt"), "client-key": server.file("client.key")}),
        json!({"client-certificate": "client.crt", "client-key": "client.key"}),
        json!({"client-certificate-data": base64("client.crt"), "client-key-data": base64("client.key")}),
    ] {
        let answer = cluster.reader(&user).resolve(&networks(&["known"]));
        assert!(answer.is_ok(), "{user}: {answer:?}");
    }
    let user = json!({ "token": USER });
    for keys in [
        json!({ "certificate-authority-data": base64("ca.crt") }),
        json!({ "insecure-skip-tls-verify": true }),
        json!({"certificate-authority": server.file("ca.crt"), "tls-server-name": "kubernetes"}),
    ] {
        let answer =
            cluster.reader_with(&server.kubeconfig_with(&keys, &user)).resolve(&networks(&["known"]));
        assert!(answer.is_ok(), "{keys}: {answer:?}");
    }
}

#[test]
fn a_server_that_another_ca_vouches_for_is_not_believed() {
    let Some(cluster) = cluster() else { return };
    let user = json!({ "token": USER });
    let keys = json!({ "certificate-authority": cluster.server.file("other-ca.crt") });
    let reader = cluster.reader_with(&cluster.server.kubeconfig_with(&keys, &user));
    let (reason, code, message) = failure(reader.resolve(&networks(&["known"])));
    assert_eq!((reason.as_str(), code), ("API_UNTRUSTED", 11), "{message}");
    assert!(message.contains("CA"), "{message}");
}

#[test]
fn a_token_nobody_knows_is_refused_with_advice() {
    let Some(cluster) = cluster() else { return };
    let (reason, code, message) =
        failure(cluster.reader(&json!({ "token": "expired" })).resolve(&networks(&["known"])));
    assert_eq!((reason.as_str(), code), ("UNAUTHORIZED", 11));
    assert!(message.contains("kubeconfig") && message.contains("expired"), "{message}");
}

// Holds: P15
#[test]
fn the_rights_of_the_chart_are_enough_and_each_missing_one_is_named() {
    let Some(cluster) = cluster() else { return };
    let uid = cluster.server.create_pod("default", "rights", &json!({"k": "v"})).unwrap();
    let pod = || pod("rights", &uid);
    let reader = cluster.reader(&json!({ "token": USER }));
    type Call<'a> = &'a dyn Fn() -> Result<(), ClusterError>;
    let ask: [(&str, Call<'_>); 4] = [
        ("get pods", &|| reader.resolve(&annotations_of(pod())).map(drop)),
        ("patch pods/status", &|| reader.publish(&status_of(pod(), "[]"))()),
        ("get network-attachment-definitions", &|| reader.resolve(&networks(&["known"])).map(drop)),
        ("create events", &|| reader.event(&event(pod(), "a line"))),
    ];
    for (right, call) in &ask {
        assert_eq!(call(), Ok(()), "{right}");
    }
    cluster.server.allow(&json!([])).unwrap();
    for (right, call) in &ask {
        // Rights are cached for a moment by the server; an event's limiter keeps a line it has sent.
        let end = Instant::now() + Duration::from_secs(20);
        if *right == "create events" {
            let (reason, _, message) = failure(reader.event(&event(pod(), "another line")));
            assert!(reason == "FORBIDDEN" && message.contains(right), "{message}");
            continue;
        }
        let message = loop {
            match call() {
                Err(error) if error.reason == "FORBIDDEN" => break error.message,
                other => assert!(Instant::now() < end, "{right}: {other:?}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(message.contains(right), "{message}");
    }
}

#[test]
fn a_network_that_was_just_created_is_found_and_one_that_is_not_there_is_named() {
    let Some(cluster) = cluster() else { return };
    let reader = cluster.reader(&json!({ "token": USER }));
    let (reason, code, message) = failure(reader.resolve(&networks(&["known", "nowhere"])));
    assert_eq!((reason.as_str(), code), ("NAD_NOT_FOUND", 7));
    assert!(message.contains("default/nowhere"), "{message}");
    cluster.server.create_network("default", "fresh", "{\"a\":1}").unwrap();
    assert_eq!(reader.resolve(&networks(&["fresh"])).unwrap().networks[0].config, "{\"a\":1}");
}

// Holds: N36
#[test]
fn a_status_is_written_to_that_generation_alone_and_beside_other_annotations() {
    let Some(cluster) = cluster() else { return };
    let server = cluster.server;
    let old = server.create_pod("default", "again", &json!({"k": "v"})).unwrap();
    let reader = cluster.reader(&json!({ "token": USER }));
    let text = "[{\n    \"name\": \"x\"\n}]";
    reader.publish(&status_of(pod("again", &old), text))().unwrap();
    assert_eq!(cluster.annotation("again", STATUS), text, "its text is untouched");
    assert_eq!(cluster.annotation("again", "k"), "v");
    server.kubectl(&["delete", "pod", "again", "--grace-period=0", "--force"]).unwrap();
    let new = server.create_pod("default", "again", &json!({})).unwrap();
    let (reason, code, _) = failure(reader.publish(&status_of(pod("again", &old), text))());
    assert_eq!((reason.as_str(), code), ("POD_REPLACED", 7));
    assert_eq!(cluster.annotation("again", STATUS), Value::Null);
    let (reason, ..) = failure(reader.resolve(&annotations_of(pod("again", &old))));
    assert_eq!(reason, "POD_REPLACED");
    reader.publish(&status_of(pod("again", &new), text))().unwrap();
    assert_eq!(cluster.annotation("again", STATUS), text, "on a pod that had no annotation at all");
}

#[test]
fn a_static_pods_status_is_written_to_its_mirror() {
    let Some(cluster) = cluster() else { return };
    cluster
        .server
        .create_pod("default", "static-node1", &json!({"kubernetes.io/config.mirror": "hash1"}))
        .unwrap();
    let reader = cluster.reader(&json!({ "token": USER }));
    reader.publish(&status_of(pod("static-node1", "hash1"), "[1]"))().unwrap();
    assert_eq!(cluster.annotation("static-node1", STATUS), "[1]");
    let (reason, code, _) = failure(reader.publish(&status_of(pod("static-node1", "hash2"), "[2]"))());
    assert_eq!((reason.as_str(), code), ("POD_NOT_FOUND", 11));
    assert_eq!(cluster.annotation("static-node1", STATUS), "[1]");
}

#[test]
fn the_same_failure_is_one_event_that_stays_young() {
    let Some(cluster) = cluster() else { return };
    let uid = cluster.server.create_pod("default", "told", &json!({})).unwrap();
    for line in ["one", "two", "one", "one"] {
        // Each CNI call is a process of its own, which remembers nothing.
        cluster.reader(&json!({ "token": USER })).event(&event(pod("told", &uid), line)).unwrap();
    }
    let text = cluster
        .server
        .kubectl(&["get", "events", "--field-selector=involvedObject.name=told", "-o", "json"])
        .unwrap();
    let events: Value = serde_json::from_str(&text).unwrap();
    let mut lines: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
}

// Holds: B15
#[test]
fn a_server_that_hangs_costs_ten_seconds_at_most_and_is_used_when_it_goes_on() {
    let Some(cluster) = cluster() else { return };
    let reader = cluster.reader(&json!({ "token": ADMIN }));
    reader.resolve(&networks(&["known"])).unwrap();
    let start = Instant::now();
    let hanging = cluster.server.hang();
    assert_eq!(failure(reader.resolve(&networks(&["known"]))).0, "API_UNAVAILABLE");
    assert_eq!(failure(reader.publish(&status_of(pod("x", "y"), "[]"))()).0, "API_UNAVAILABLE");
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    drop(hanging);
    assert!(cluster.reader(&json!({ "token": ADMIN })).resolve(&networks(&["known"])).is_ok());
}
