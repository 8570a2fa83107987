//! An API server that refuses, breaks its watches or comes back: what the daemon answers meanwhile.

use serde_json::json;
use testkit::api::{Api, Mode, nad};

use crate::support::{Daemon, assert_failure, publish, resolve};

fn config_of(daemon: &Daemon, name: &str) -> String {
    daemon.resolve(name).1["networks"][0]["config"].as_str().unwrap_or_default().to_owned()
}

/// How often a network was read by itself: what the cache knows is not.
fn reads(api: &Api, name: &str) -> usize {
    let path = format!("/network-attachment-definitions/{name}");
    api.seen("GET").iter().filter(|seen| seen.path.ends_with(&path)).count()
}

#[test]
fn what_the_watch_brings_is_served_without_a_read() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    daemon.wait("watches", || api.watches() > 0);
    api.notify("ADDED", &nad("fresh", "1"));
    api.notify("MODIFIED", &nad("known", "2"));
    daemon.wait("knows the change", || config_of(&daemon, "known") == "2");
    assert_eq!(config_of(&daemon, "fresh"), "1");
    assert_eq!((reads(&api, "known"), reads(&api, "fresh")), (0, 0));
    api.notify("DELETED", &nad("known", "2"));
    api.with(|state| state.listed.clear());
    daemon.wait("knows that it is gone", || daemon.resolve("known").1["reason"] == "NAD_NOT_FOUND");
}

#[test]
fn after_a_gap_in_the_watch_all_is_listed_anew() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    daemon.wait("watches", || api.watches() > 0);
    let lists = || api.seen("GET").iter().filter(|seen| seen.path.contains("limit=")).count();
    let before = lists();
    // Deleted and created while nobody watched.
    api.with(|state| state.listed = vec![nad("fresh", "1")]);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
        "message": "too old resource version"});
    api.notify("ERROR", &gone);
    api.break_watches();
    daemon.wait("lists anew", || lists() > before);
    daemon.wait("knows what was created", || {
        let before = reads(&api, "fresh");
        config_of(&daemon, "fresh") == "1" && reads(&api, "fresh") == before
    });
    assert_failure(&daemon.resolve("known"), "NAD_NOT_FOUND", 7);
}

#[test]
fn while_the_watch_cannot_be_had_the_cache_serves_on_and_a_miss_is_read() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    api.set(Mode::RefusesOnly(500, "GET", "watch=true"));
    daemon.wait("watched", || api.watches() > 0);
    api.break_watches();
    let tries = || api.seen("GET").iter().filter(|seen| seen.path.contains("watch=true")).count();
    daemon.wait("tries again", || tries() > 2);
    assert_eq!(daemon.resolve("known").0, 200);
    assert_eq!(reads(&api, "known"), 0);
    assert_eq!(daemon.resolve("late").0, 200);
    assert_eq!(daemon.call("GET", "/readyz", "").0, 200);
}

#[test]
fn a_refused_token_is_said_and_survived() {
    let api = Api::start().unwrap();
    api.set(Mode::Refuses(401));
    let Some(mut daemon) = Daemon::start(&api.address) else { return };
    assert_failure(&daemon.resolve("known"), "UNAUTHORIZED", 11);
    assert_failure(&daemon.post("/v1/publish", &publish("uid1", "sandbox1")), "UNAUTHORIZED", 11);
    let (status, line) = daemon.call("GET", "/readyz", "");
    assert!(status == 503 && line.contains("401"), "{line}");
    assert!(daemon.child.try_wait().unwrap().is_none(), "it does not end in a loop of crashes");
    api.set(Mode::Works);
    daemon.wait_ready();
    assert_eq!(daemon.resolve("known").0, 200);
}

#[test]
fn every_transient_answer_is_tried_again_within_the_time() {
    for code in [429, 500, 502, 503, 504] {
        let api = Api::start().unwrap();
        let Some(daemon) = Daemon::start(&api.address) else { return };
        daemon.wait_ready();
        daemon.wait("watches", || api.watches() > 0);
        api.set(Mode::Fails(code, 1));
        assert_eq!(daemon.post("/v1/resolve", &resolve("late")).0, 200, "{code}");
        api.set(Mode::Fails(code, 1));
        assert_eq!(daemon.post("/v1/publish", &publish("uid1", "sandbox1")).0, 200, "{code}");
    }
}

#[test]
fn writers_that_met_are_tried_again() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    daemon.wait("watches", || api.watches() > 0);
    api.set(Mode::Fails(409, 1));
    assert_eq!(daemon.post("/v1/publish", &publish("uid1", "sandbox1")).0, 200);
}
