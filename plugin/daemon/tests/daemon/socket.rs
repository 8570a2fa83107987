//! The socket: who may reach it, what it refuses, and how it comes and goes.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{BINARY, Daemon, assert_failure, publish};
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::api::{Api, Mode};

fn mode(path: &std::path::Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn folder_and_socket_are_roots_alone() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let folder = daemon.folder.path().join("run/daemon");
    assert_eq!((mode(&folder), mode(&daemon.socket())), (0o700, 0o600));
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["multus.sock"]);
}

#[test]
fn another_user_gets_no_answer_even_with_an_open_socket() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let copy = daemon.folder.path().join("probe");
    fs::copy(BINARY, &copy).unwrap();
    for (path, mode) in
        [("run", 0o755), ("run/daemon", 0o755), ("run/daemon/multus.sock", 0o666), ("probe", 0o755)]
    {
        fs::set_permissions(daemon.folder.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let probe = |uid: u32| {
        let mut command = Command::new(&copy);
        command.args(["probe", "livez", "--socket"]).arg(daemon.socket()).uid(uid).output().unwrap()
    };
    assert!(probe(0).status.success());
    let refused = probe(65534);
    assert!(!refused.status.success());
    let line = String::from_utf8(refused.stderr).unwrap();
    assert!(!line.contains("cannot connect"), "the daemon has to refuse, not the file system: {line}");
    daemon.wait("says who was refused", || {
        fs::read_to_string(daemon.folder.path().join("log")).unwrap().contains("uid 65534")
    });
}

#[test]
fn refuses_what_it_does_not_understand() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    for (method, path, body, status) in [
        ("GET", "/nothing", "", 404),
        ("POST", "/delegate", "{}", 501),
        ("GET", "/v1/resolve", "", 405),
        ("POST", "/livez", "", 405),
        ("POST", "/v1/resolve", "no json", 400),
        ("POST", "/v1/resolve", "{}", 400),
        ("POST", "/v1/publish", "[]", 400),
        ("POST", "/v1/event", "", 400),
        ("POST", "/v1/resolve", &"[".repeat(100_000), 400),
    ] {
        let (found, text) = daemon.call(method, path, body);
        assert_eq!(found, status, "{method} {path}: {text}");
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    }
    assert_eq!(daemon.call("POST", "/v1/resolve", &" ".repeat(2_000_000)).0, 413);
    let mut request = crate::support::resolve("known");
    for (namespace, name) in [("default", "../../pods"), ("a/b", "x"), ("default", ""), ("default", "A?b")] {
        request["selections"] = json!([{"namespace": namespace, "name": name}]);
        assert_failure(&daemon.post("/v1/resolve", &request), "INVALID_REQUEST", 7);
    }
    request["selections"] = (0..65).map(|n| json!({"namespace": "a", "name": format!("n{n}")})).collect();
    assert_failure(&daemon.post("/v1/resolve", &request), "TOO_MANY_NETWORKS", 7);
    assert_eq!(daemon.call("GET", "/livez", "").0, 200);
}

#[test]
fn a_client_that_sends_nothing_is_let_go() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let mut idle = UnixStream::connect(daemon.socket()).unwrap();
    let mut slow = UnixStream::connect(daemon.socket()).unwrap();
    slow.write_all(b"POST /v1/resolve HTTP/1.1\r\nContent-Length: 10\r\n\r\n{").unwrap();
    let start = Instant::now();
    for stream in [&mut idle, &mut slow] {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_socket_comes_back_when_it_vanished() {
    let api = Api::start().unwrap();
    let Some(daemon) = Daemon::start(&api.address) else { return };
    fs::remove_dir_all(daemon.folder.path().join("run")).unwrap();
    daemon.wait("has a socket again", || daemon.call("GET", "/livez", "").0 == 200);
    assert_eq!(mode(&daemon.socket()), 0o600);
}

#[test]
fn a_stale_socket_file_is_no_obstacle_and_a_newer_daemon_keeps_its_own() {
    let api = Api::start().unwrap();
    let Some(mut older) = Daemon::start(&api.address) else { return };
    let mut open = UnixStream::connect(older.socket()).unwrap();
    fs::remove_file(older.socket()).unwrap();
    let _newer = std::os::unix::net::UnixListener::bind(older.socket()).unwrap();
    open.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("replaced"), "{answer}");
    older.signal(Signal::SIGTERM);
    assert!(older.child.wait().unwrap().success());
    assert!(older.socket().exists());
}

#[test]
fn ends_after_the_requests_under_way_and_removes_its_socket() {
    let api = Api::start().unwrap();
    let Some(mut daemon) = Daemon::start(&api.address) else { return };
    daemon.wait_ready();
    api.set(Mode::Fails(503, 4));
    let socket = daemon.socket();
    let request = publish("uid1", "sandbox1").to_string();
    let under_way =
        std::thread::spawn(move || crate::support::call(&socket, "POST", "/v1/publish", &request));
    daemon.wait("asked the API server", || !api.seen("PATCH").is_empty());
    daemon.signal(Signal::SIGTERM);
    assert_eq!(under_way.join().unwrap().0, 200);
    assert!(daemon.child.wait().unwrap().success());
    assert!(!daemon.socket().exists());
    assert!(daemon.folder.path().join("journal/sandbox1.json").exists());
}

#[test]
fn probe_says_why_not() {
    let api = Api::start().unwrap();
    api.set(Mode::Refuses(403));
    let Some(daemon) = Daemon::start(&api.address) else { return };
    let probe = |what: &str| {
        Command::new(BINARY).args(["probe", what, "--socket"]).arg(daemon.socket()).output().unwrap()
    };
    assert!(probe("livez").status.success());
    daemon.wait("says what is forbidden", || {
        let refused = probe("readyz");
        let line = String::from_utf8(refused.stderr).unwrap();
        !refused.status.success() && line.lines().count() == 1 && line.contains("403")
    });
}
