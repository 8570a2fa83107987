//! What the chart asks of a cluster, read from what Helm renders: as little as possible, whatever the values.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test whose ground is missing has failed")]

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
            "/run/multus-rs/plain",
            "/var/lib/cni/multus-rs",
            "/var/lib/cni/multus-rs/journal",
            "/var/lib/kubelet/pod-resources",
        ];
        assert_eq!(host, folders.map(|f| (f, "DirectoryOrCreate")));
        assert_eq!(mounts(pod, "install"), [("cni-bin", false), ("state", false)]);
        assert_eq!(
            mounts(pod, "daemon"),
            [
                ("socket", false),
                ("journal", true),
                ("plain", true),
                ("pod-resources", true),
                ("config-state", true),
                ("token", true)
            ]
        );
        assert_eq!(
            mounts(pod, "config"),
            [("cni-conf", false), ("state", false), ("options", true), ("config-state", false)]
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
            ("pods", "list"),
            ("nodes", "get"),
            ("network-attachment-definitions", "get,list,watch"),
            ("events", "create,patch"),
        ];
        assert_eq!(rules, expected.map(|(r, v)| (r.to_owned(), v.to_owned())));
    }
}

/// The options that the plugin reads, with these values.
fn options(helm: &PathBuf, args: &[&str]) -> Value {
    let objects = render(helm, args);
    serde_json::from_str(only(&objects, "ConfigMap")["data"]["options.json"].as_str().unwrap()).unwrap()
}

fn container<'a>(objects: &'a [Value], name: &str) -> Option<&'a Value> {
    containers(&only(objects, "DaemonSet")["spec"]["template"]["spec"]).find(|c| c["name"] == name)
}

/// The arguments of a container, without those that every one of its kind has.
fn args(objects: &[Value], name: &str) -> Vec<String> {
    let found = container(objects, name).unwrap_or_else(|| panic!("no container {name}"));
    list(found, "args").iter().map(|a| a.as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_option_of_the_plugin_can_be_set() {
    let values = json!({"multus": {
        "namespaceIsolation": true, "globalNamespaces": ["shared", "infra"], "defaultNetworks": ["a", "b/c"],
        "systemNamespaces": ["kube-system"], "multusNamespace": "nets", "allowedPlugins": ["macvlan"], "strict": true,
        "clusterCIDRs": ["10.244.0.0/16", "fd00::/48"], "confDir": "/etc/cni/multus/net.d", "binDir": "/opt/multus/bin",
        "auxiliaryCNIChainName": "vendor", "retryDeleteOnError": false, "daemonWaitSeconds": 3, "addDeadlineSeconds": 60,
        "delDeadlineSeconds": 30, "logLevel": "debug", "logFile": "/var/log/multus.log", "logToStderr": false,
        "logOptions": {"maxSize": 10, "maxBackups": 2}, "readinessWaitSeconds": 5, "statusPolicy": "bestEffort", "capabilities": {"ips": true, "mac": false},
    }});
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    for helm in helms() {
        let mut expected = values["multus"].clone();
        expected["globalNamespaces"] = json!("shared,infra");
        assert_eq!(options(&helm, &["--values", file.to_str().unwrap()]), expected);
        let least = json!({
            "namespaceIsolation": false, "systemNamespaces": ["kube-system", "multus-system"], "retryDeleteOnError": true,
            "daemonWaitSeconds": 10, "addDeadlineSeconds": 220, "delDeadlineSeconds": 110, "logLevel": "verbose",
            "logToStderr": true, "readinessWaitSeconds": 10, "statusPolicy": "required",
        });
        assert_eq!(options(&helm, &[]), least);
    }
}

/// As customers write them: Cilium in a folder of its own, its file as the readiness indicator.
#[test]
fn the_primarys_file_and_the_readiness_indicator_reach_config_and_plugin() {
    let cilium = ["--set", "multus.primaryCniConfigFile=cilium/05-cilium.conflist"];
    let enabled = ["--set", "multus.readinessIndicatorEnabled=true"];
    for helm in helms() {
        let objects = render(&helm, &cilium);
        assert!(args(&objects, "config").contains(&"--primary=cilium/05-cilium.conflist".to_owned()));
        assert!(options(&helm, &cilium).get("readinessindicatorfile").is_none());

        let both = [cilium, enabled].concat();
        let file = "/etc/cni/net.d/cilium/05-cilium.conflist";
        assert_eq!(options(&helm, &both)["readinessindicatorfile"], file);
        let objects = render(&helm, &both);
        assert!(args(&objects, "config").contains(&format!("--readiness-indicator={file}")));
        assert!(!only(&objects, "DaemonSet").to_string().contains("/host/readiness-indicator"));
        let refused = template(&helm, &enabled);
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && why.contains("set multus.primaryCniConfigFile"), "{why}");

        let own = render(&helm, &["--set", "multus.readinessIndicatorFile=/run/flannel/subnet.env"]);
        assert!(args(&own, "config").contains(&"--readiness-indicator=/run/flannel/subnet.env".to_owned()));
        let pod = &only(&own, "DaemonSet")["spec"]["template"]["spec"];
        assert!(mounts(pod, "config").contains(&("readiness-indicator", true)));
        let host = list(pod, "volumes").iter().find(|v| v["name"] == "readiness-indicator").unwrap();
        assert_eq!(host["hostPath"]["path"], "/run/flannel");
        // A folder with the sockets of others is not mounted: the plugin alone waits then.
        let shared = render(&helm, &["--set", "multus.readinessIndicatorFile=/run/primary.ready"]);
        assert!(!only(&shared, "DaemonSet").to_string().contains("readiness-indicator"));
    }
}

/// With the Talos integration macvlan and ipvlan are installed, more or fewer by name; nothing without being asked.
#[test]
fn reference_plugins_are_installed_by_name() {
    let talos = "multus.integrations.talos.enabled=true";
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &[]),
        (&["multus.integrations.talos.installCni.bridge=true"], &[]),
        (&[talos], &["ipvlan", "macvlan"]),
        (&[talos, "multus.integrations.talos.installCni.bridge=true"], &["bridge", "ipvlan", "macvlan"]),
        (&[talos, "multus.integrations.talos.installCni.macvlan=false"], &["ipvlan"]),
        (&["platform=k3s", "cniPlugins.install.vlan=true"], &["vlan"]),
    ];
    for helm in helms() {
        for (values, expected) in cases {
            let set: Vec<&str> = values.iter().flat_map(|v| ["--set", v]).collect();
            let objects = render(&helm, &set);
            let Some(found) = container(&objects, "cni-plugins") else {
                assert!(expected.is_empty(), "{values:?}");
                continue;
            };
            let args = args(&objects, "cni-plugins");
            let plugins: Vec<&str> = args.iter().filter_map(|a| a.strip_prefix("--plugin=")).collect();
            assert_eq!(plugins, expected, "{values:?}");
            assert!(args.contains(&"--reference".to_owned()), "they would overwrite the host's");
            assert!(found["image"].as_str().unwrap().contains("cni-plugins"));
        }
        let off = render(&helm, &["--set", "install.enabled=false"]);
        assert!(container(&off, "install").is_none());
        assert!(
            !only(&off, "DaemonSet").to_string().contains("/opt/cni/bin"),
            "the folder is mounted for nobody"
        );
        let stay = render(&helm, &["--set", "install.watch=true", "--set", talos]);
        for name in ["install-watch", "cni-plugins-watch"] {
            assert!(args(&stay, name).contains(&"--watch".to_owned()));
        }
    }
}

/// What container runtimes of each distribution are configured with, and how much of the host is mounted for it.
#[test]
fn each_platform_has_its_folders() {
    let (conf, bin) = ("/etc/cni/net.d", "/opt/cni/bin");
    let platforms = [
        ("generic", conf, bin),
        ("k3s", "/var/lib/rancher/k3s/agent/etc/cni/net.d", "/var/lib/rancher/k3s/data/cni"),
        ("rke2", conf, bin),
        ("talos", conf, bin),
        ("microk8s", "/var/snap/microk8s/current/args/cni-network", "/var/snap/microk8s/current/opt/cni/bin"),
        ("k0s", conf, bin),
        ("openshift", "/etc/kubernetes/cni/net.d", "/var/lib/cni/bin"),
        ("gke", conf, "/home/kubernetes/bin"),
        ("minikube", conf, bin),
    ];
    for helm in helms() {
        for (platform, conf, bin) in platforms {
            let objects = render(&helm, &["--set", &format!("platform={platform}")]);
            check_folders(&objects, conf, bin);
            let spc = platform == "openshift";
            assert_eq!(only(&objects, "DaemonSet").to_string().contains("spc_t"), spc, "{platform}");
            let kubelet = match platform {
                "microk8s" => "/var/snap/microk8s/common/var/lib/kubelet",
                "k0s" => "/var/lib/k0s/kubelet",
                _ => "/var/lib/kubelet",
            };
            assert_eq!(pod_resources(&objects), format!("{kubelet}/pod-resources"), "{platform}");
            assert_eq!(objects.iter().any(|o| o["kind"] == "ResourceQuota"), platform == "gke", "{platform}");
        }
        // Folders of one's own win, also below a link that moves.
        let old_k3s = "/var/lib/rancher/k3s/data/current/bin";
        let own = ["--set", "platform=k3s", "--set", &format!("persistence.cnibin.hostPath={old_k3s}")];
        check_folders(&render(&helm, &own), "/var/lib/rancher/k3s/agent/etc/cni/net.d", old_k3s);
        let kubelet = ["--set", "platform=k0s", "--set", "persistence.kubelet.hostPath=/data/kubelet"];
        assert_eq!(pod_resources(&render(&helm, &kubelet)), "/data/kubelet/pod-resources");
        let elsewhere = [
            "--set",
            "persistence.cniconf.mountPath=/host/conf",
            "--set",
            "persistence.cniconf.hostPath=/etc/x/net.d",
        ];
        let objects = render(&helm, &elsewhere);
        check_folders(&objects, "/etc/x/net.d", bin);
        assert!(args(&objects, "config").contains(&"--cni-conf-dir=/host/conf".to_owned()));
        let both = ["--set", "platform=k3s", "--set", "multus.integrations.talos.enabled=true"];
        assert!(!template(&helm, &both).status.success(), "two platforms at once");
    }
}

/// The folder on the host where the daemon looks for the kubelet's socket.
fn pod_resources(objects: &[Value]) -> String {
    let volumes = only(objects, "DaemonSet")["spec"]["template"]["spec"]["volumes"].clone();
    let volumes = volumes.as_array().cloned().unwrap_or_default();
    let found = volumes.iter().find(|volume| volume["name"] == "pod-resources").unwrap();
    found["hostPath"]["path"].as_str().unwrap().to_owned()
}

fn check_folders(objects: &[Value], conf: &str, bin: &str) {
    let volumes = list(&only(objects, "DaemonSet")["spec"]["template"]["spec"], "volumes");
    let path = |name: &str| {
        volumes.iter().find(|v| v["name"] == name).unwrap()["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    for (container, volume, folder, kind) in
        [("config", "cni-conf", conf, "cni-conf"), ("install", "cni-bin", bin, "bin")]
    {
        let args = args(objects, container);
        assert!(args.contains(&format!("--host-{kind}-dir={folder}")), "{args:?}");
        let mounted = folder.split("/current").next().unwrap();
        assert_eq!(path(volume), mounted);
        let names_mount = args.contains(&format!("--host-{kind}-mount={mounted}"));
        assert_eq!(names_mount, mounted != folder, "{args:?}");
    }
}

/// The plugin is on the host before any config names it: installing is what the pod begins with.
// Holds: FA8
#[test]
fn installers_come_before_the_config() {
    for helm in helms() {
        let objects = render(&helm, &["--set", "multus.integrations.talos.enabled=true"]);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        let names = |key| list(pod, key).iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(names("initContainers"), ["install", "cni-plugins"]);
        assert_eq!(names("containers"), ["daemon", "config"]);
    }
}

/// Only one long-lived container may write plugins, and only when that was asked for (CVE-2023-27593).
#[test]
fn no_container_that_stays_has_the_plugin_folder_unless_asked() {
    for helm in helms() {
        let objects = render(&helm, &["--set", "multus.integrations.talos.enabled=true"]);
        let pod = &only(&objects, "DaemonSet")["spec"]["template"]["spec"];
        for name in ["daemon", "config"] {
            assert!(!mounts(pod, name).iter().any(|(volume, _)| *volume == "cni-bin"), "{name}");
        }
    }
}

#[test]
fn taint_and_repair_bring_the_rights_they_need_and_no_more() {
    for helm in helms() {
        let rights = |values: &[&str]| {
            let set: Vec<&str> = values.iter().flat_map(|v| ["--set", v]).collect();
            let objects = render(&helm, &set);
            let mut rights = Vec::new();
            for rule in list(only(&objects, "ClusterRole"), "rules") {
                for resource in list(rule, "resources").iter().filter(|r| *r == "pods" || *r == "nodes") {
                    let verbs: Vec<_> = list(rule, "verbs").iter().map(|v| v.as_str().unwrap()).collect();
                    rights.push(format!("{} {}", resource.as_str().unwrap(), verbs.join(",")));
                }
            }
            rights
        };
        assert_eq!(rights(&["multus.repair=none"]), ["pods get"]);
        assert_eq!(rights(&[]), ["pods get", "pods list", "nodes get"]);
        assert_eq!(rights(&["multus.repair=label"]), ["pods get", "pods list", "pods patch", "nodes get"]);
        assert_eq!(rights(&["multus.repair=delete"]), ["pods get", "pods list", "pods delete", "nodes get"]);
        assert_eq!(
            rights(&["multus.repair=none", "multus.startupTaint=x/y"]),
            ["pods get", "nodes get,patch"]
        );
    }
}

#[test]
fn an_image_can_be_pinned() {
    for helm in helms() {
        let digest = format!("image.digest=sha256:{}", "a".repeat(64));
        let objects = render(&helm, &["--set", &digest]);
        for name in ["install", "daemon", "config"] {
            assert!(container(&objects, name).unwrap()["image"].as_str().unwrap().contains("@sha256:aaaa"));
        }
    }
}

#[test]
fn a_value_that_is_unknown_or_wrong_is_refused() {
    for helm in helms() {
        for wrong in [
            "multus.primaryCniConfigFil=x",
            "multus.primaryCniConfigFile=00-multus.conf",
            "multus.primaryCniConfigFile=../x.conf",
            "persistence.cniconf.hostPath=/",
            "platform=vax",
            "multus.integrations.talos.installCni.mac/vlan=true",
            "multus.repair=always",
            "multus.clusterCIDRs={10.0.0.0}",
            "image.digest=latest",
            "multus.cniVersion=2.0.0",
            "privileged=true",
        ] {
            assert!(!template(&helm, &["--set-string", wrong]).status.success(), "{wrong} was accepted");
        }
    }
}
