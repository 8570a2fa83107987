//! What the daemon publishes by itself, from the plugin's records.

use std::{
    fs::File,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use meta::{
    journal::{Journal, boot_id},
    network_status,
    record::Record,
};
use serde_json::{Value, json};
use testkit::api::{self, Api, Mode};

use crate::support::Daemon;

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// Longer ago than any plugin that is still at work.
const LONG_AGO: Duration = Duration::from_secs(100);

/// The record of a pod `default/NAME` with these networks, wholly attached in this boot.
pub(crate) fn record(sandbox: &str, pod: (&str, &str), networks: &[&str]) -> Record {
    let attachments: Vec<Value> = networks
        .iter()
        .enumerate()
        .map(|(position, network)| {
            let ifname = if position == 0 { "eth0".to_owned() } else { format!("net{position}") };
            json!({
                "network": network, "ifname": ifname, "phase": "attached", "primary": position == 0, "capabilityArgs": {},
                "config": {"cniVersion": "1.0.0", "name": "n", "type": "t"},
                "result": {"cniVersion": "1.0.0", "interfaces": [{"name": ifname, "sandbox": "/ns"}],
                    "ips": [{"address": "192.0.2.7/24", "interface": 0}]},
            })
        })
        .collect();
    let text = json!({
        "sandbox": sandbox, "pod": {"namespace": "default", "name": pod.0, "uid": pod.1}, "netns": "/ns", "args": "",
        "bootId": boot_id().unwrap(), "failingSince": null, "attachments": attachments,
    });
    serde_json::from_str(&text.to_string()).unwrap()
}

/// The plugin's folders below a folder.
struct Plugin<'a>(&'a Path);

impl Plugin<'_> {
    fn plain(&self, record: &Record) -> String {
        Journal::plain(self.0).write(record).unwrap();
        network_status::of(record).unwrap()
    }

    fn networks(&self, record: &Record, age: Duration) -> String {
        Journal::durable(self.0).write(record).unwrap();
        let file = File::options().write(true).open(self.0.join(format!("journal/{}.json", record.sandbox)));
        file.unwrap().set_modified(SystemTime::now() - age).unwrap();
        network_status::of(record).unwrap()
    }
}

fn server(pods: &[(&str, &str)]) -> Api {
    let api = Api::start().unwrap();
    api.with(|state| {
        state.pods =
            pods.iter().map(|(name, uid)| api::pod("default", name, uid, &json!({"k": "v"}))).collect();
    });
    api
}

fn patches(api: &Api, pod: &str) -> usize {
    let path = format!("/pods/{pod}/status");
    api.seen("PATCH").iter().filter(|seen| seen.path.contains(&path)).count()
}

fn await_status(daemon: &Daemon, api: &Api, pod: &str, status: &str) {
    daemon.wait(&format!("publishes {pod}"), || api.annotations("default", pod)[STATUS] == status);
}

// Holds: N36, N40
#[test]
fn a_plain_pod_is_published_from_its_record_with_one_patch() {
    let api = server(&[("p", "u")]);
    let Some(daemon) = Daemon::start(&api.address) else { return };
    // The plugin makes the folder with the node's first plain pod.
    let status = Plugin(daemon.folder.path()).plain(&record("s", ("p", "u"), &["cluster"]));
    await_status(&daemon, &api, "p", &status);
    assert_eq!(api.annotations("default", "p")["k"], "v");
    let asked = api.with(|state| state.seen.iter().filter(|seen| seen.path.contains("/pods/")).count());
    assert_eq!(asked, 1, "one PATCH and no look before it");
}

#[test]
fn after_a_restart_what_is_missing_is_published_and_what_says_the_same_is_left_alone() {
    let api = server(&[("same", "u1"), ("lost", "u2")]);
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    let same = plugin.networks(&record("s1", ("same", "u1"), &["cluster", "default/a"]), 2 * LONG_AGO);
    let lost = plugin.networks(&record("s2", ("lost", "u2"), &["cluster", "default/a"]), LONG_AGO);
    let other_layout = serde_json::from_str::<Value>(&same).unwrap().to_string();
    api.with(|state| state.pods[0]["metadata"]["annotations"][STATUS] = json!(other_layout));
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "lost", &lost);
    assert_eq!(api.annotations("default", "same")[STATUS], other_layout);
    assert_eq!((patches(&api, "same"), patches(&api, "lost")), (0, 1));
    // A second restart finds all as it should be.
    let folder = daemon.crash();
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    let fence = Plugin(daemon.folder.path()).plain(&record("s3", ("same", "u1"), &["fence"]));
    await_status(&daemon, &api, "same", &fence);
    assert_eq!(patches(&api, "lost"), 1);
}

#[test]
fn what_a_plugin_publishes_by_itself_is_not_published_again() {
    let api = server(&[("own", "u1"), ("fence", "u2")]);
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let plugin = Plugin(daemon.folder.path());
    // Its time comes in three seconds; the plugin's own request is faster.
    let status =
        plugin.networks(&record("s1", ("own", "u1"), &["cluster", "default/a"]), Duration::from_secs(12));
    let pod = json!({"namespace": "default", "name": "own", "uid": "u1"});
    let request = json!({"pod": pod, "sandbox": "s1", "status": status});
    assert_eq!(daemon.post("/v1/publish", &request).0, 200);
    let fence =
        plugin.networks(&record("s2", ("fence", "u2"), &["cluster", "default/a"]), Duration::from_secs(10));
    let start = Instant::now();
    await_status(&daemon, &api, "fence", &fence);
    assert!(
        start.elapsed() > Duration::from_secs(4),
        "{:?}: a plugin at work is not overtaken",
        start.elapsed()
    );
    assert_eq!(patches(&api, "own"), 1);
}

#[test]
fn a_static_pod_is_published_to_its_mirror_when_that_appears() {
    let api = server(&[]);
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let record = record("s", ("static-node1", "hash"), &["cluster", "default/a"]);
    let status = Plugin(daemon.folder.path()).networks(&record, LONG_AGO);
    daemon.wait("looks for the pod", || {
        api.seen("GET").iter().any(|seen| seen.path.ends_with("/static-node1"))
    });
    let mirror = json!({"kubernetes.io/config.mirror": "older"});
    api.with(|state| state.pods.push(api::pod("default", "static-node1", "u0", &mirror)));
    let looked = api.seen("GET").len();
    daemon.wait("looks again", || api.seen("GET").len() > looked);
    assert_eq!(patches(&api, "static-node1"), 0, "the mirror of an older manifest is another pod's");
    let mirror = json!({"kubernetes.io/config.mirror": "hash"});
    api.with(|state| state.pods = vec![api::pod("default", "static-node1", "u1", &mirror)]);
    await_status(&daemon, &api, "static-node1", &status);
    assert_eq!(api.seen("PATCH").last().unwrap().body["metadata"]["uid"], "u1");
}

// Holds: B10
#[test]
fn no_status_reaches_a_namesake_of_its_pod() {
    let api = server(&[("again", "new"), ("fence", "u2")]);
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    plugin.networks(&record("s1", ("again", "old"), &["cluster", "default/a"]), 2 * LONG_AGO);
    plugin.plain(&record("s2", ("again", ""), &["cluster"]));
    let fence = plugin.networks(&record("s3", ("fence", "u2"), &["cluster", "default/a"]), LONG_AGO);
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "fence", &fence);
    assert_eq!(patches(&api, "again"), 0);
}

#[test]
fn a_sandbox_that_is_not_wholly_attached_or_no_more_is_not_published() {
    let api =
        server(&[("half", "u1"), ("leaving", "u2"), ("rebooted", "u3"), ("torn", "u4"), ("fence", "u5")]);
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    let of = |sandbox, pod| record(sandbox, pod, &["cluster", "default/a"]);
    let mut half = of("s1", ("half", "u1"));
    half.attachments[1].phase = meta::record::Phase::Attaching;
    let mut leaving = of("s2", ("leaving", "u2"));
    leaving.failing_since = Some(1);
    let mut rebooted = of("s3", ("rebooted", "u3"));
    rebooted.boot_id = "another".to_owned();
    for record in [&half, &leaving, &rebooted] {
        plugin.networks(record, 2 * LONG_AGO);
    }
    std::fs::write(folder.path().join("journal/s4.json"), "{\"formatVersion\":1,").unwrap();
    let fence = plugin.networks(&of("s5", ("fence", "u5")), LONG_AGO);
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "fence", &fence);
    assert_eq!(api.seen("PATCH").len(), 1);
}

#[test]
fn the_newest_sandbox_of_a_pod_speaks_for_it() {
    let api = server(&[("p", "u")]);
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    plugin.networks(&record("old", ("p", "u"), &["cluster", "default/old"]), 2 * LONG_AGO);
    let new = plugin.networks(&record("new", ("p", "u"), &["cluster", "default/new"]), LONG_AGO);
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "p", &new);
    assert_eq!(patches(&api, "p"), 1);
}

#[test]
fn statuses_wait_for_an_api_server_that_is_away() {
    let api = server(&[("p", "u")]);
    api.set(Mode::Refuses(503));
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let status = Plugin(daemon.folder.path()).plain(&record("s", ("p", "u"), &["cluster"]));
    daemon.wait("tries", || patches(&api, "p") > 0);
    api.set(Mode::Works);
    await_status(&daemon, &api, "p", &status);
}

#[test]
fn a_status_that_admission_refuses_holds_up_no_other_pod() {
    let api = server(&[("refused", "u1"), ("fence", "u2")]);
    api.set(Mode::RefusesOnly(422, "PATCH", "/refused/"));
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    plugin.networks(&record("s1", ("refused", "u1"), &["cluster", "default/a"]), 2 * LONG_AGO);
    let fence = plugin.networks(&record("s2", ("fence", "u2"), &["cluster", "default/a"]), LONG_AGO);
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "fence", &fence);
    assert_eq!(patches(&api, "refused"), 1);
}

#[test]
fn a_status_that_a_broken_webhook_fails_holds_up_no_other_pod() {
    let api = server(&[("failing", "u1"), ("fence", "u2")]);
    api.set(Mode::RefusesOnly(500, "PATCH", "/failing/"));
    let folder = tempfile::tempdir().unwrap();
    let plugin = Plugin(folder.path());
    plugin.networks(&record("s1", ("failing", "u1"), &["cluster", "default/a"]), 2 * LONG_AGO);
    let fence = plugin.networks(&record("s2", ("fence", "u2"), &["cluster", "default/a"]), LONG_AGO);
    let Some(daemon) = Daemon::start_in(folder, &api::kubeconfig(&api.address)) else { return };
    await_status(&daemon, &api, "fence", &fence);
}

// Holds: P14
#[test]
fn a_burst_of_plain_pods_is_published_once_each_and_nobody_waits_for_it() {
    let names: Vec<(String, String)> = (0..150).map(|n| (format!("p{n}"), format!("u{n}"))).collect();
    let pods: Vec<(&str, &str)> = names.iter().map(|(name, uid)| (name.as_str(), uid.as_str())).collect();
    let api = server(&pods);
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    for pod in &pods {
        Plugin(daemon.folder.path()).plain(&record(pod.0, *pod, &["cluster"]));
    }
    let start = Instant::now();
    assert_eq!(daemon.resolve("late").0, 200);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    daemon.wait("publishes all", || pods.iter().all(|(name, _)| patches(&api, name) == 1));
}
