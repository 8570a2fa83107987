//! What the chart asks of a cluster, read from what Helm renders: as little as possible, whatever the values.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing has failed")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// Every Helm of the cache; none of them skips the test, visibly.
fn helms() -> Vec<PathBuf> {
    let cache = std::env::var_os("MULTUS_CACHE")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/multus-rs")));
    let bin = cache.unwrap_or_default().join("bin");
    let helms: Vec<_> = ["helm3", "helm4"].iter().map(|h| bin.join(h)).filter(|h| h.is_file()).collect();
    if helms.is_empty() {
        testkit::skip("there is no helm in the cache; `cargo xtask cluster tools` builds it");
    }
    helms
}

fn template(helm: &PathBuf, args: &[&str]) -> Output {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../chart");
    // A Helm that was built from its module believes in an old Kubernetes.
    let mut command = Command::new(helm);
    command.args(["template", "multus"]).arg(chart);
    command.args(["--namespace", "multus-system", "--kube-version", "1.36.0", "--include-crds"]);
    command.args(args).output().unwrap()
}

fn render(helm: &PathBuf, args: &[&str]) -> Vec<Value> {
    let done = template(helm, args);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|o| o["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "initContainers").iter().chain(list(pod, "containers"))
}

fn mounts<'a>(pod: &'a Value, container: &str) -> Vec<(&'a str, bool)> {
    let container = containers(pod).find(|c| c["name"] == container).unwrap();
    let mounts = list(container, "volumeMounts").iter();
    mounts.map(|m| (m["name"].as_str().unwrap(), m["readOnly"] == true)).collect()
}

// Holds: P15
#[test]
fn no_container_has_a_privilege() {
    for helm in helms() {
        let objects = render(&helm, &[]);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        for key in ["hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod.get(key).is_none(), "{key}");
        }
        assert_eq!(containers(pod).count(), 3);
        for container in containers(pod) {
            let expected = json!({
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true, "runAsUser": 0, "runAsGroup": 0,
                "seccompProfile": {"type": "RuntimeDefault"},
            });
            assert_eq!(container["securityContext"], expected, "{}", container["name"]);
            for kind in ["requests", "limits"] {
                assert!(container["resources"][kind]["memory"].is_string(), "{}", container["name"]);
            }
            assert!(container.get("ports").is_none());
            for mount in list(container, "volumeMounts") {
                assert!(mount.get("mountPropagation").is_none());
            }
        }
    }
}

// Holds: P15, P17
#[test]
fn each_container_sees_only_what_it_works_on() {
    for helm in helms() {
        let objects = render(&helm, &[]);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        let mut host: Vec<_> = list(pod, "volumes")
            .iter()
            .filter_map(|v| {
                v.get("hostPath").map(|h| (h["path"].as_str().unwrap(), h["type"].as_str().unwrap()))
            })
            .collect();
        host.sort_unstable();
        let folders = [
            "/etc/cni/net.d",
            "/opt/cni/bin",
            "/run/multus-rs/daemon",
            "/var/lib/cni/multus-rs",
            "/var/lib/cni/multus-rs/journal",
        ];
        assert_eq!(host, folders.map(|f| (f, "DirectoryOrCreate")));
        assert_eq!(mounts(pod, "install"), [("cni-bin", false), ("state", false)]);
        assert_eq!(mounts(pod, "daemon"), [("socket", false), ("journal", true), ("token", true)]);
        assert_eq!(
            mounts(pod, "config"),
            [("cni-conf", false), ("state", false), ("options", true), ("readiness", false)]
        );
    }
}

// Holds: P15
#[test]
fn the_token_goes_to_the_daemon_alone_and_may_do_little() {
    for helm in helms() {
        let objects = render(&helm, &[]);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(only(&objects, "ServiceAccount")["automountServiceAccountToken"], false);
        let mut rules: Vec<(String, String)> = Vec::new();
        for rule in list(only(&objects, "ClusterRole"), "rules") {
            assert!(!rule.to_string().contains('*'));
            for resource in list(rule, "resources") {
                let verbs: Vec<_> = list(rule, "verbs").iter().map(|v| v.as_str().unwrap()).collect();
                rules.push((resource.as_str().unwrap().to_owned(), verbs.join(",")));
            }
        }
        let expected = [
            ("pods", "get"),
            ("pods/status", "patch"),
            ("network-attachment-definitions", "get,list,watch"),
            ("events", "create,patch"),
        ];
        assert_eq!(rules, expected.map(|(r, v)| (r.to_owned(), v.to_owned())));
    }
}

#[test]
fn values_reach_the_programs() {
    for helm in helms() {
        let digest = format!("image.digest=sha256:{}", "a".repeat(64));
        let objects = render(
            &helm,
            &[
                "--set",
                "multus.primaryCniConfigFile=cilium/05-cilium.conflist",
                "--set",
                "multus.globalNamespaces={shared,infra}",
                "--set",
                "multus.namespaceIsolation=true",
                "--set",
                "hostPaths.cniConf=/var/lib/rancher/k3s/agent/etc/cni/net.d",
                "--set",
                &digest,
            ],
        );
        let options = only(&objects, "ConfigMap")["data"]["options.json"].as_str().unwrap();
        let options: Value = serde_json::from_str(options).unwrap();
        let expected = json!({
            "namespaceIsolation": true, "globalNamespaces": "shared,infra", "daemonWaitSeconds": 10,
        });
        assert_eq!(options, expected);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        let config = containers(pod).find(|c| c["name"] == "config").unwrap();
        let args = [
            "--host-cni-conf-dir=/var/lib/rancher/k3s/agent/etc/cni/net.d",
            "--primary=cilium/05-cilium.conflist",
        ];
        assert_eq!(config["args"], json!(args));
        assert!(config["image"].as_str().unwrap().contains("@sha256:aaaa"));
    }
}

#[test]
fn a_value_that_is_unknown_or_wrong_is_refused() {
    for helm in helms() {
        for wrong in [
            "multus.primaryCniConfigFil=x",
            "multus.primaryCniConfigFile=00-multus.conf",
            "multus.primaryCniConfigFile=../x.conf",
            "hostPaths.cniConf=/",
            "image.digest=latest",
            "multus.cniVersion=2.0.0",
            "privileged=true",
        ] {
            assert!(!template(&helm, &["--set-string", wrong]).status.success(), "{wrong} was accepted");
        }
    }
}
