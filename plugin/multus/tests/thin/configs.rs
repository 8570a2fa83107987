//! Configs as people have them for the thin plugin of Multus.

use serde_json::json;

use crate::host::Host;

#[test]
fn runs_from_a_shell_without_a_cluster() {
    let host = Host::new();
    let mut config = host.config();
    config.as_object_mut().unwrap().remove("kubeconfig");
    config["delegates"] = json!([host.delegate("first"), host.delegate("second")]);
    assert!(host.call("ADD", &config).ok);
    assert!(host.call("DEL", &config).ok);
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "DEL second net1", "DEL first eth0"]);
    assert!(host.api.with(|state| state.seen.is_empty()));
    host.assert_nothing_left();
}

#[test]
fn a_kubeconfig_that_is_not_there_is_named() {
    let host = Host::new();
    std::fs::remove_file(host.root("kubeconfig")).unwrap();
    let (code, line) = host.call("ADD", &host.config()).failure();
    assert_eq!(code, 11, "what installed us may be about to write it");
    assert!(line.contains("KUBECONFIG_UNUSABLE") && line.contains("/kubeconfig"), "{line}");
}

#[test]
fn a_token_that_expired_is_said_with_the_file_to_renew() {
    let host = Host::new();
    host.api.set(testkit::api::Mode::Refuses(401));
    let (code, line) = host.call("ADD", &host.config()).failure();
    assert_eq!(code, 11);
    assert!(line.contains("UNAUTHORIZED") && line.contains("/kubeconfig"), "{line}");
}

// Holds: N40, N46
#[test]
fn the_cluster_network_may_be_a_definition_a_file_a_folder_or_a_name() {
    let host = Host::new();
    host.define("kube-system", "defined", "second");
    let folder = host.root("net.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("10-third.conf"), host.delegate("third").to_string()).unwrap();
    for (value, called) in [
        (json!("defined"), "ADD second eth0"),
        (json!(folder.join("10-third.conf")), "ADD third eth0"),
        (json!(folder), "ADD third eth0"),
        (json!("third"), "ADD third eth0"),
    ] {
        let mut config = host.config();
        config["confDir"] = json!(folder);
        config["clusterNetwork"] = value.clone();
        let before = host.calls().len();
        let added = host.call("ADD", &config);
        assert!(added.ok, "{value}: {added:?}");
        assert_eq!(host.calls()[before..], [called], "{value}");
        assert!(host.call("DEL", &config).ok);
    }
}

// Holds: D17
#[test]
fn a_binary_folder_of_the_config_is_searched_first() {
    let host = Host::new();
    let own = host.root("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::rename(host.plugins.bin().join("first"), own.join("first")).unwrap();
    let mut config = host.config();
    config["binDir"] = json!(own);
    assert!(host.call("ADD", &config).ok);
}

#[test]
fn the_example_config_of_the_thin_plugin_runs_with_all_its_keys() {
    let host = Host::new();
    let mut config = host.config();
    let keys = json!({
        "confDir": host.root("conf"), "binDir": host.plugins.bin(), "logFile": host.root("multus.log"), "logLevel": "debug",
        "logToStderr": false, "logOptions": {"maxAge": 5, "maxSize": 100, "maxBackups": 5, "compress": true},
        "capabilities": {"portMappings": true}, "namespaceIsolation": false, "globalNamespaces": "default",
        "multusNamespace": "kube-system", "systemNamespaces": ["kube-system"], "readinessindicatorfile": "",
        "retryDeleteOnError": true,
    });
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let added = host.call("ADD", &config);
    assert!(added.ok, "{added:?}");
    assert_eq!(added.stderr, "", "logToStderr is off");
}

#[test]
fn other_verbs_need_no_cluster() {
    let host = Host::new();
    host.api.set(testkit::api::Mode::Silent);
    let mut config = host.config();
    config["cniVersion"] = json!("1.1.0");
    assert!(host.call("STATUS", &config).ok);
    assert_eq!(host.call("VERSION", &config).result()["supportedVersions"][6], "1.1.0");
    assert!(host.call("DEL", &config).ok);
    config["cni.dev/valid-attachments"] = json!([]);
    assert!(host.call("GC", &config).ok);
    assert!(host.api.with(|state| state.seen.is_empty()));
}
