//! Where networks come from: files, folders, definitions, names known on this host.

use std::{fs, os::unix::net::UnixListener, time::Duration};

use serde_json::{Value, json};

use crate::host::{Host, ended, http};

/// A config file with one delegate.
pub(crate) fn file(host: &Host, path: &str, name: &str, kind: &str) {
    let path = host.root(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let plugin = host.delegate(kind, &json!({}));
    let text = if path.extension().is_some_and(|e| e == "conflist") {
        json!({"cniVersion": "1.0.0", "name": name, "plugins": [plugin]})
    } else {
        let mut plugin = plugin;
        plugin["cniVersion"] = json!("1.0.0");
        plugin["name"] = json!(name);
        plugin
    };
    fs::write(path, text.to_string()).unwrap();
}

// Holds: N1, N5
#[test]
fn a_definition_without_config_is_the_network_that_this_host_knows_under_its_name() {
    let mut host = Host::new();
    host.options["confDir"] = json!(host.root("known"));
    file(&host, "known/10-single.conf", "a", "third");
    host.honest_daemon(&[("demo/a", String::new())]);
    host.call("ADD", Some("a")).result();
    assert_eq!(host.calls()[1], "ADD third net1");
    host.call("DEL", None);
    fs::write(host.root("known/00-broken.conf"), "{").unwrap();
    file(&host, "known/20-list.conflist", "a", "second");
    host.call("ADD", Some("a")).result();
    assert_eq!(host.calls()[5], "ADD second net1", "a list comes before a single plugin");
}

// Holds: N6
#[test]
fn a_definition_that_nobody_knows_fails_the_pod() {
    let mut host = Host::new();
    host.options["confDir"] = json!(host.root("known"));
    host.honest_daemon(&[("demo/a", String::new())]);
    let (code, line) = host.call("ADD", Some("a")).failure();
    assert!(code == 7 && line.starts_with("NAD_EMPTY") && line.contains("known"), "{line}");
}

#[test]
fn cluster_network_may_be_a_folder_a_single_plugin_or_a_path_of_gos_own_container() {
    let mut host = Host::new();
    file(&host, "net.d2/05-a.conf", "x", "second");
    file(&host, "net.d2/10-b.conflist", "y", "third");
    host.options["clusterNetwork"] = json!(host.root("net.d2"));
    host.call("ADD", None).result();
    assert_eq!(host.calls(), ["ADD second eth0"]);
    host.call("DEL", None);
    host.options["clusterNetwork"] = json!(format!("/host{}", host.root("net.d2/10-b.conflist").display()));
    host.call("ADD", None).result();
    assert_eq!(host.calls()[2..], ["ADD third eth0"]);
}

#[test]
fn inline_delegates_are_the_primary_and_networks_of_every_pod() {
    let mut host = Host::new();
    let named = |kind: &str| {
        let mut plugin = host.delegate(kind, &json!({}));
        plugin["name"] = json!(kind);
        plugin["cniVersion"] = json!("1.0.0");
        plugin
    };
    let list =
        json!({"cniVersion": "1.0.0", "name": "list", "plugins": [host.delegate("third", &json!({}))]});
    let delegates = json!([named("second"), named("first"), list]);
    host.options["clusterNetwork"] = Value::Null;
    host.options["delegates"] = delegates;
    host.honest_daemon(&[]);
    host.call("ADD", None).result();
    assert_eq!(host.calls(), ["ADD second eth0", "ADD first net1", "ADD third net2"]);
    host.call("DEL", None);
    assert_eq!(host.calls()[3..], ["DEL third net2", "DEL first net1", "DEL second eth0"]);
}

/// A primary that is the definition `kube-system/main`.
fn defined_primary() -> Host {
    let mut host = Host::new();
    host.options["clusterNetwork"] = json!("main");
    host.options["confDir"] = json!(host.root("known"));
    host
}

// Holds: N40, N45, N46
#[test]
fn a_primary_that_is_a_definition_is_served_from_its_snapshot_while_the_daemon_is_away() {
    let host = defined_primary();
    let (code, line) = host.call("ADD", None).failure();
    assert!(code == 11, "{line}");
    host.honest_daemon(&[("kube-system/main", host.nad("second", &json!({})))]);
    host.call("ADD", None).result();
    assert_eq!(host.files("state/primary"), ["nad.json"]);
    host.call("DEL", None);
    fs::remove_dir_all(host.root("run/daemon")).unwrap();
    let answer = host.call("ADD", None);
    assert!(answer.ok && answer.stderr.contains("snapshot"), "{answer:?}");
    assert_eq!(host.calls(), ["ADD second eth0", "DEL second eth0", "ADD second eth0"]);
    assert!(host.call("STATUS", None).ok);
}

#[test]
fn a_plain_pod_waits_for_no_daemon_that_is_silent_while_its_primary_is_known() {
    let host = defined_primary();
    host.honest_daemon(&[("kube-system/main", host.nad("second", &json!({})))]);
    host.call("ADD", None).result();
    host.call("DEL", None);
    fs::remove_dir_all(host.root("run/daemon")).unwrap();
    fs::create_dir(host.root("run/daemon")).unwrap();
    // Connections are taken by the kernel, and nobody answers: a stopped process.
    let _silent = UnixListener::bind(host.root("run/daemon/multus.sock")).unwrap();
    let plain = json!({"io.kubernetes.cri.pod-annotations": {}});
    let (answer, in_time) = ended(host.start("ADD", &plain), Duration::from_secs(5));
    assert!(in_time && answer.ok && answer.stderr.contains("snapshot"), "{answer:?}");
}

#[test]
fn a_primary_that_is_no_definition_is_looked_for_by_name_on_this_host() {
    let host = defined_primary();
    host.honest_daemon(&[]);
    let (code, line) = host.call("ADD", None).failure();
    assert!(code == 11 && line.starts_with("PRIMARY_MISSING") && line.contains("main"), "{line}");
    file(&host, "known/10.conflist", "main", "third");
    host.call("ADD", None).result();
    assert_eq!(host.calls(), ["ADD third eth0"]);
}

#[test]
fn default_networks_reach_every_pod_but_those_of_system_namespaces() {
    let mut host = Host::new();
    file(&host, "extra/10.conflist", "extra", "third");
    host.options["defaultNetworks"] = json!(["kept", host.root("extra")]);
    host.honest_daemon(&[
        ("kube-system/kept", host.nad("second", &json!({}))),
        ("demo/a", host.nad("first", &json!({}))),
    ]);
    host.call("ADD", Some("a")).result();
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "ADD third net2", "ADD first net3"]);
    host.call("DEL", None);
    host.options["systemNamespaces"] = json!(["demo"]);
    host.call("ADD", None).result();
    assert_eq!(host.calls()[8..], ["ADD first eth0"]);
}

fn call_default(host: &Host, text: &str) -> testkit::answer::Answer {
    let annotations = json!({"v1.multus-cni.io/default-network": text});
    host.call_with(
        "ADD",
        &json!({"io.kubernetes.cri.pod-annotations": annotations, "portMappings": [{"hostPort": 1}]}),
    )
}

// Holds: N40
#[test]
fn a_pod_may_choose_another_primary_and_its_requests_reach_it() {
    let host = Host::new();
    let declares = json!({"capabilities": {"mac": true, "portMappings": true}});
    host.honest_daemon(&[("kube-system/main", host.nad("second", &declares))]);
    call_default(&host, r#"[{"name":"main","mac":"02:00:00:00:00:07"}]"#).result();
    assert_eq!(host.calls(), ["ADD second eth0"]);
    let call = &host.plugins.records().unwrap()[0];
    assert_eq!(
        call.config()["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 1}], "mac": "02:00:00:00:00:07"})
    );
    let status: Value =
        serde_json::from_str(host.asked_for("/v1/publish")[0]["status"].as_str().unwrap()).unwrap();
    assert_eq!((&status[0]["name"], &status[0]["default"]), (&json!("kube-system/main"), &json!(true)));
}

// Holds: B11, B19, N55
#[test]
fn a_default_network_that_cannot_be_is_a_clear_error() {
    for (text, why) in [
        ("", "SELECTION_INVALID"),
        ("[]", "exactly one"),
        ("a,b", "exactly one"),
        ("[null]", "object"),
        ("main@eth5", "keeps the interface"),
        ("other/main", "ISOLATION"),
    ] {
        let mut host = Host::new();
        host.options["namespaceIsolation"] = json!(true);
        host.honest_daemon(&[
            ("other/main", host.nad("second", &json!({}))),
            ("kube-system/main", host.nad("second", &json!({}))),
        ]);
        let (code, line) = call_default(&host, text).failure();
        assert!(code == 7 && line.contains(why), "{text}: {line}");
        assert_eq!(host.calls(), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn a_folder_beside_the_primary_chains_further_plugins_to_it() {
    let host = Host::new();
    file(&host, "net.d/cluster/20-tuning.conf", "ignored", "second");
    host.call("ADD", None).result();
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second eth0"]);
    let chained = host.plugins.records().unwrap()[1].config();
    assert_eq!((&chained["name"], chained.get("prevResult").is_some()), (&json!("cluster"), true));
}

// Holds: B30
#[test]
fn an_auxiliary_chain_runs_last_on_the_primarys_interface_and_is_torn_down_first() {
    let mut host = Host::new();
    host.plugins.add("passthru").unwrap();
    host.options["auxiliaryCNIChainName"] = json!("aux");
    file(&host, "net.d/aux/20-tuning.conf", "ignored", "third");
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    host.call("ADD", Some("a")).result();
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "ADD third eth0"]);
    fs::remove_dir_all(host.root("net.d/aux")).unwrap();
    host.call("DEL", None);
    assert_eq!(host.calls()[3..], ["DEL third eth0", "DEL second net1", "DEL first eth0"]);
    host.call("ADD", None).result();
    assert_eq!(host.calls()[6..], ["ADD first eth0"], "a folder without plugins adds nothing");
}

// Holds: N49
#[test]
fn an_add_waits_for_the_readiness_indicator_and_status_says_at_once_that_it_is_missing() {
    let mut host = Host::new();
    let indicator = host.root("ready");
    host.options["ReadinessIndicatorFile"] = json!(indicator);
    host.options["readinessWaitSeconds"] = json!(0);
    let (code, line) = host.call("ADD", None).failure();
    assert!(code == 11 && line.starts_with("PRIMARY_NOT_READY") && line.contains("ready"), "{line}");
    assert_eq!(host.call("STATUS", None).failure().0, 50);
    assert!(host.call("DEL", None).ok, "a DEL waits for nothing");
    host.options["readinessWaitSeconds"] = json!(30);
    let add = host.start("ADD", &json!({"io.kubernetes.cri.pod-annotations": {}}));
    fs::write(&indicator, "").unwrap();
    assert!(add.wait_with_output().unwrap().status.success());
}

#[test]
fn keys_of_go_multus_count_in_any_case_and_idle_ones_are_said() {
    let mut host = Host::new();
    let log = host.root("log/multus.log");
    host.options["clusterNetwork"] = json!("/nowhere/10.conflist");
    host.options["CLUSTERNETWORK"] = json!(host.root("net.d/10-primary.conflist"));
    host.options["ClusterNetwork"] = Value::Null;
    host.options["RetryDeleteOnError"] = json!(true);
    host.options["logfile"] = json!(log);
    host.options["LogLevel"] = json!("verbose");
    host.options["logToStderr"] = json!(false);
    let answer = host.call("ADD", None);
    assert!(answer.ok && answer.stderr.is_empty(), "{answer:?}");
    assert!(fs::read_to_string(log).unwrap().contains("retryDeleteOnError"), "said in the log file alone");
}

// Holds: B13
#[test]
fn a_full_log_file_is_set_aside_and_old_ones_go() {
    let mut host = Host::new();
    fs::create_dir_all(host.root("log")).unwrap();
    let log = host.root("log/multus.log");
    host.options["logFile"] = json!(log);
    host.options["logOptions"] = json!({"maxSize": 1, "maxBackups": 2, "maxAge": 0});
    for _ in 0..4 {
        fs::write(&log, "x".repeat(1 << 20)).unwrap();
        assert!(host.call("STATUS", None).ok);
    }
    let files = host.files("log");
    assert_eq!(files.len(), 3, "{files:?}");
}

#[test]
fn a_wrong_key_is_named_and_no_pod_is_half_done() {
    for (key, value) in [
        ("defaultNetworks", json!("a")),
        ("systemNamespaces", json!("kube-system")),
        ("delegates", json!({})),
        ("binDir", json!("relative")),
        ("clusterCIDRs", json!(["10.0.0.0/33"])),
        ("statusPolicy", json!("later")),
        ("namespaceIsolation", json!("yes")),
        ("daemonWaitSeconds", json!(-1)),
        ("addDeadlineSeconds", json!(u64::MAX)),
        ("auxiliaryCNIChainName", json!("../up")),
    ] {
        let mut host = Host::new();
        if key == "delegates" {
            host.options["clusterNetwork"] = Value::Null;
        }
        host.options[key] = value;
        let (code, line) = host.call("ADD", None).failure();
        assert!(code == 7 && line.starts_with("NETCONF_INVALID") && line.contains(key), "{key}: {line}");
        assert_eq!(host.calls(), Vec::<String>::new());
    }
}

#[test]
fn a_status_that_may_come_later_does_not_keep_a_pod() {
    let mut host = Host::new();
    host.options["statusPolicy"] = json!("bestEffort");
    let config = host.nad("second", &json!({}));
    host.daemon(move |path, _| match path {
        "/v1/resolve" => http(
            200,
            &json!({"networks": [{"namespace": "demo", "name": "a", "config": config}]}).to_string(),
        ),
        _ => http(503, r#"{"code":11,"reason":"API_UNAVAILABLE","message":"the API is away"}"#),
    });
    assert!(host.call("ADD", Some("a")).ok);
}
