//! The daemon at a real API server, with the rights that the chart gives it.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use meta::{cluster::PodRef, journal::Journal, network_status};
use serde_json::{Value, json};
use testkit::apiserver::{ApiServer, USER};

use crate::{
    publisher::record,
    support::{Daemon, assert_failure},
};

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The server for this test alone, with the network `known`.
fn server() -> Option<(&'static ApiServer, MutexGuard<'static, ()>)> {
    let (server, alone) = ApiServer::alone().unwrap()?;
    server.create_network("default", "known", "1").unwrap();
    Some((server, alone))
}

fn daemon(kubeconfig: &str) -> Option<Daemon> {
    let daemon = Daemon::start_in(tempfile::tempdir().unwrap(), kubeconfig)?;
    daemon.wait_ready();
    Some(daemon)
}

fn config_of(daemon: &Daemon, name: &str) -> Value {
    daemon.resolve(name).1["networks"][0]["config"].clone()
}

fn request(pod: &PodRef, status: &str) -> Value {
    json!({"pod": pod, "sandbox": "sandbox1", "status": status})
}

fn create(server: &ApiServer, name: &str) -> PodRef {
    let uid = server.create_pod("default", name, &json!({"k": "v"})).unwrap();
    PodRef { namespace: "default".into(), name: name.into(), uid }
}

fn annotations(server: &ApiServer, pod: &str) -> Value {
    let text = server.kubectl(&["get", "pod", pod, "-o", "json"]).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["metadata"]["annotations"].clone()
}

#[test]
fn a_server_that_hangs_keeps_no_known_network_from_its_pods() {
    let Some((server, _alone)) = server() else { return };
    let pod = create(server, "hangs");
    let Some(daemon) = daemon(&server.kubeconfig(&json!({ "token": USER }))) else { return };
    let hanging = server.hang();
    assert_eq!(config_of(&daemon, "known"), "1");
    let start = Instant::now();
    assert_failure(&daemon.resolve("unknown"), "API_UNAVAILABLE", 11);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_failure(&daemon.post("/v1/publish", &request(&pod, "[]")), "API_UNAVAILABLE", 11);
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    drop(hanging);
    daemon.wait("publishes again", || daemon.post("/v1/publish", &request(&pod, "[]")).0 == 200);
    assert_eq!(annotations(server, "hangs"), json!({"k": "v", STATUS: "[]"}));
}

#[test]
fn a_network_is_found_in_the_moment_after_it_was_created() {
    let Some((server, _alone)) = server() else { return };
    let Some(daemon) = daemon(&server.kubeconfig(&json!({ "token": USER }))) else { return };
    for n in 0..20 {
        let name = format!("moment{n}");
        server.create_network("default", &name, &n.to_string()).unwrap();
        assert_eq!(config_of(&daemon, &name), n.to_string());
    }
}

#[test]
fn what_changed_while_the_connection_was_cut_is_known_after_it() {
    let Some((server, _alone)) = server() else { return };
    server.create_network("default", "cut-changed", "before").unwrap();
    server.create_network("default", "cut-deleted", "before").unwrap();
    let wire = Wire::to(&server.address());
    let kubeconfig = server.kubeconfig(&json!({ "token": USER })).replace(&server.address(), &wire.address);
    let Some(daemon) = daemon(&kubeconfig) else { return };
    assert_eq!(config_of(&daemon, "cut-changed"), "before");
    wire.cut(true);
    server.create_network("default", "cut-changed", "after").unwrap();
    server.kubectl(&["delete", "nad", "cut-deleted"]).unwrap();
    assert_eq!(config_of(&daemon, "cut-changed"), "before", "the cache serves on");
    wire.cut(false);
    daemon.wait("knows the change", || config_of(&daemon, "cut-changed") == "after");
    daemon.wait("knows what is gone", || daemon.resolve("cut-deleted").1["reason"] == "NAD_NOT_FOUND");
}

#[test]
fn records_are_published_with_the_rights_of_the_chart() {
    let Some((server, _alone)) = server() else { return };
    let plain = create(server, "plain");
    let record = record("s1", ("plain", &plain.uid), &["cluster"]);
    let Some(daemon) = daemon(&server.kubeconfig(&json!({ "token": USER }))) else { return };
    Journal::plain(daemon.folder.path()).write(&record).unwrap();
    let status = network_status::of(&record).unwrap();
    daemon.wait("publishes", || annotations(server, "plain") == json!({"k": "v", STATUS: status}));
}

#[test]
fn the_good_news_is_one_event_of_the_pod() {
    let Some((server, _alone)) = server() else { return };
    let pod = create(server, "told");
    let Some(daemon) = daemon(&server.kubeconfig(&json!({ "token": USER }))) else { return };
    let line = "eth0 [10.1.0.5/24] from cluster, net1 [192.168.1.7/24] from demo/a";
    let event = json!({"pod": pod, "kind": "Normal", "reason": "AddedInterface", "message": line});
    for _ in 0..3 {
        assert_eq!(daemon.post("/v1/event", &event).0, 200);
    }
    let format = "-o=jsonpath={range .items[*]}{.type} {.reason} {.message}{end}";
    let told =
        || server.kubectl(&["get", "events", "--field-selector=involvedObject.name=told", format]).unwrap();
    daemon.wait("tells", || told() == format!("Normal AddedInterface {line}"));
}

/// A wire to the server that can be cut.
struct Wire {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Wire {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self { address: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let (server, state) = (server.to_owned(), Arc::clone(&wire.state));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let mut state = state.lock().unwrap();
                if state.is_cut {
                    continue;
                }
                let far = TcpStream::connect(&server).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    state.streams.push(from.try_clone().unwrap());
                    thread::spawn(move || carry(&mut from, &mut to));
                }
            }
        });
        wire
    }

    /// Ends every connection and takes no others, or takes them again.
    fn cut(&self, cut: bool) {
        let mut state = self.state.lock().unwrap();
        state.is_cut = cut;
        for stream in state.streams.drain(..) {
            // One that its ends have closed is gone already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn carry(from: &mut TcpStream, to: &mut TcpStream) {
    let mut part = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut part) {
        if to.write_all(&part[..read]).is_err() {
            break;
        }
    }
    // The other direction ends with this one.
    drop(to.shutdown(Shutdown::Both));
}
