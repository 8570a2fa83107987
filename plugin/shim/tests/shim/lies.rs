//! A daemon that lies, and users who err: nothing that was not asked for is attached, nothing crashes.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::host::{Host, http};

/// Asks for `a` while the daemon answers with these bytes; asserts that no delegate ran at all.
#[track_caller]
fn refused(host: &Host, answer: Vec<u8>) -> (u64, String) {
    host.daemon(move |path, _| if path == "/v1/resolve" { answer.clone() } else { http(200, "{}") });
    let failure = host.call("ADD", Some("a")).failure();
    assert_eq!(host.calls(), Vec::<String>::new(), "a delegate ran");
    host.assert_nothing_left();
    failure
}

fn networks(list: Value) -> Vec<u8> {
    http(200, &json!({ "networks": list }).to_string())
}

#[test]
fn a_network_that_was_not_asked_for_is_refused() {
    let host = || Host::new();
    let good = |host: &Host| host.nad("second", &json!({}));
    for forge in [
        |config: String| json!([{"namespace": "demo", "name": "b", "config": config}]),
        |config: String| json!([{"namespace": "kube-system", "name": "a", "config": config}]),
        |config: String| json!([{"namespace": "demo", "name": "a", "config": config}, {"namespace": "demo", "name": "b", "config": config}]),
        |_| json!([]),
    ] {
        let host = host();
        let answer = networks(forge(good(&host)));
        let (_, line) = refused(&host, answer);
        assert!(line.starts_with("DAEMON_MISMATCH"), "{line}");
    }
}

// Holds: D2
#[test]
fn no_binary_outside_the_plugin_folder_is_run() {
    for kind in ["/bin/sh", "../../bin/sh", "second/../first", "", ".", "multus-shim", "multus"] {
        let host = Host::new();
        let config = host.nad(kind, &json!({}));
        refused(&host, networks(json!([{"namespace": "demo", "name": "a", "config": config}])));
    }
}

// Holds: D2
#[test]
fn multus_is_refused_as_a_delegate_in_every_spelling_and_as_ipam() {
    for key in ["Type", "TYPE"] {
        let host = Host::new();
        let config = host.nad("second", &json!({})).replace("\"type\"", &format!("\"{key}\""));
        let config = config.replace("\"second\"", "\"multus-shim\"");
        let (_, line) =
            refused(&host, networks(json!([{"namespace": "demo", "name": "a", "config": config}])));
        assert!(line.starts_with("PLUGIN_REFUSED"), "{line}");
    }
    let host = Host::new();
    let config = host.nad("second", &json!({"ipam": {"Type": "multus"}}));
    let (_, line) = refused(&host, networks(json!([{"namespace": "demo", "name": "a", "config": config}])));
    assert!(line.starts_with("PLUGIN_REFUSED"), "{line}");
}

// Holds: D16
#[test]
fn a_previous_result_or_runtime_config_inside_a_definition_is_dropped() {
    let host = Host::new();
    let keys = json!({"capabilities": {"mac": true}, "prevResult": {"cniVersion": "1.0.0"}, "runtimeConfig": {"mac": "02:00:00:00:00:99"}});
    host.honest_daemon(&[("demo/a", host.nad("second", &keys))]);
    assert!(host.call("ADD", Some("a")).ok);
    let config = host.plugins.records().unwrap()[1].config();
    assert_eq!((config.get("prevResult"), config.get("runtimeConfig")), (None, None));
}

// Holds: B27
#[test]
fn an_answer_that_is_no_answer_is_an_error_and_no_crash() {
    let deep = format!(r#"{{"networks":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let answers = [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        http(200, "null"),
        http(200, "[]"),
        http(200, r#"{"networks":[null]}"#),
        http(200, &deep),
        http(500, "oops"),
        http(200, &"x".repeat(6 << 20)),
    ];
    for answer in answers {
        assert_eq!(refused(&Host::new(), answer).0, 11);
    }
}

#[test]
fn a_daemons_error_is_cut_to_one_line_and_cannot_choose_a_code_of_the_spec() {
    let host = Host::new();
    let body = json!({"code": 0, "reason": "X\nY", "message": "line\n".repeat(1000)}).to_string();
    assert_eq!(refused(&host, http(400, &body)).0, 11);
}

// Holds: P2, P10, B11, C4
#[test]
fn a_bad_definition_says_which_what_and_how_to_correct_it() {
    let cases = [
        ("{ not json", "NAD_INVALID"),
        ("", "NAD_EMPTY"),
        (r#"{"cniVersion":"1.0.0","plugins":[]}"#, "NAD_INVALID"),
        (r#"{"cniVersion":"1.0.0","plugins":[null]}"#, "NAD_INVALID"),
        (r#"{"cniVersion":"9.9.9","type":"second"}"#, "NAD_INVALID"),
        (r#"{"cniVersion":"1.0.0","type":7}"#, "NAD_INVALID"),
        ("[]", "NAD_INVALID"),
        ("null", "NAD_INVALID"),
    ];
    for (config, slug) in cases {
        let host = Host::new();
        let (code, line) =
            refused(&host, networks(json!([{"namespace": "demo", "name": "a", "config": config}])));
        assert!(
            line.starts_with(slug) && line.contains("demo/a") && line.contains("edit net-attach-def a"),
            "{config}: {code} {line}"
        );
        assert_eq!(host.asked_for("/v1/event")[0]["message"], line);
    }
}

// Holds: D17, C4
#[test]
fn a_missing_plugin_binary_is_named_with_its_network() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("not-installed", &json!({})))]);
    let (_, line) = host.call("ADD", Some("a")).failure();
    assert!(line.contains("demo/a (net1)") && line.contains("not-installed"), "{line}");
    host.assert_nothing_left();
}

// Holds: N12, P1, B11
#[test]
fn a_bad_annotation_is_refused_with_a_line_that_shows_it() {
    let long = "a".repeat(5000);
    let many = vec!["a"; 65].join(",");
    let cases = [
        "[null]",
        "[[]]",
        "{}",
        "\"a\"",
        "[{}]",
        "[{\"name\":1}]",
        "[{\"name\":\"a\",\"interface\":\"../x\"}]",
        "a,",
        "a/b/c",
        "a@",
        "a@b@c",
        "a@eth0/1",
        "a@0123456789abcdef",
        "A",
        "../a",
        "a@eth0",
        "a@lo",
        "a@x,a@x",
        "[{\"name\":\"a\",\"ips\":[\"192.0.2.256\"]}]",
        "[{\"name\":\"a\",\"ips\":\"192.0.2.1\"}]",
        "[{\"name\":\"a\",\"mac\":\"02:00\"}]",
        "[{\"name\":\"a\",\"mac\":\"02:00:00:00:00:zz\"}]",
        "[{\"name\":\"a\",\"infiniband-guid\":\"x\"}]",
        "[{\"name\":\"a\",\"portMappings\":[{\"hostPort\":65536,\"containerPort\":80}]}]",
        "[{\"name\":\"a\",\"portMappings\":[{\"hostPort\":80,\"containerPort\":80,\"protocol\":\"icmp\"}]}]",
        "[{\"name\":\"a\",\"bandwidth\":{\"ingressRate\":-1}}]",
        "[{\"name\":\"a\",\"default-route\":[\"gateway\"]}]",
        "[{\"name\":\"a\",\"default-route\":[\"192.0.2.1\"]},{\"name\":\"a\",\"default-route\":[\"192.0.2.2\"]}]",
        "[{\"name\":\"a\",\"default-route\":[]},{\"name\":\"a\",\"default-route\":[\"192.0.2.2\"]}]",
        "[{\"name\":\"a\",\"cni-args\":\"x\"}]",
        "[{\"name\":\"a\",\"ips\":[\"192.0.2.1\"],\"ipam-claim-reference\":\"c\"}]",
        "[{\"name\":\"a\",\"deviceID\":\"0000:00:1f.0\"}]",
        &long,
        &many,
    ];
    for text in cases {
        let host = Host::new();
        host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
        let (code, line) = host.call("ADD", Some(text)).failure();
        assert_eq!(code, 7, "{text}: {line}");
        assert_eq!(host.calls(), Vec::<String>::new(), "{text}");
        assert!(host.call("DEL", Some(text)).ok, "{text}");
        assert_eq!(host.asked_for("/v1/event").len(), 1, "{text}");
    }
}

// Holds: N55
#[test]
fn isolation_is_enforced_on_the_host_whatever_the_daemon_answers() {
    let mut host = Host::new();
    host.options["namespaceIsolation"] = json!(true);
    host.options["globalNamespaces"] = json!("shared, default");
    let config = host.nad("second", &json!({}));
    host.honest_daemon(&[("other/a", config.clone()), ("shared/a", config)]);
    let (code, line) = host.call("ADD", Some("other/a")).failure();
    assert!(code == 7 && line.starts_with("ISOLATION"), "{line}");
    assert!(host.call("ADD", Some("shared/a")).ok);
}

// Holds: N55
#[test]
fn a_type_outside_allowed_plugins_does_not_run() {
    let mut host = Host::new();
    host.options["allowedPlugins"] = json!(["first", "third"]);
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    let (_, line) = host.call("ADD", Some("a")).failure();
    assert!(line.starts_with("PLUGIN_REFUSED"), "{line}");
    host.options["allowedPlugins"] = json!(["first", "second"]);
    let nad = host.nad("second", &json!({"ipam": {"type": "third"}}));
    fs::remove_dir_all(host.root("run/daemon")).unwrap();
    host.honest_daemon(&[("demo/a", nad)]);
    let (_, line) = host.call("ADD", Some("a")).failure();
    assert!(line.starts_with("PLUGIN_REFUSED") && line.contains("third"), "an IPAM plugin runs too: {line}");
}

/// Whoever may write the folder of the socket, but is not root, could answer in the daemon's place.
#[test]
fn a_socket_that_is_not_served_by_root_is_not_believed() {
    const SERVE: &str = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die; \
        $> = 65534; listen(S, 5) or die; $| = 1; print \"up\\n\"; sleep 600";
    let host = Host::new();
    let folder = host.root("run/daemon");
    fs::create_dir_all(&folder).unwrap();
    let mut other = Command::new("perl")
        .args(["-e", SERVE])
        .arg(folder.join("multus.sock"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("perl, which every Debian has");
    let mut up = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut up).unwrap();
    let outcome = host.call("ADD", Some("a"));
    other.kill().unwrap();
    other.wait().unwrap();
    let (_, line) = outcome.failure();
    assert!(line.starts_with("DAEMON_UNTRUSTED") && line.contains("uid 65534"), "{line}");
    assert_eq!(host.calls(), Vec::<String>::new(), "a delegate ran");
    host.assert_nothing_left();
}
