//! Every error that the plugin itself gives: its code, its slug and its line, as `docs/errors.md` shows them.
//!
//! `UPDATE_GOLDEN=1` writes the file anew.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use testkit::answer::Answer;

use crate::host::{Host, http};

/// Prepares a host, calls the plugin, and gives its answer.
type Case = fn(&mut Host) -> Answer;

const CASES: &[(&str, Case)] = &[
    ("a second ADD of one sandbox", |host| {
        host.call("ADD", None);
        host.call("ADD", None)
    }),
    ("annotations that are no strings", |host| {
        host.call_with(
            "ADD",
            &json!({"io.kubernetes.cri.pod-annotations": {"k8s.v1.cni.cncf.io/networks": 5}}),
        )
    }),
    ("a request that no plugin serves, strict", |host| {
        host.options["strict"] = json!(true);
        knows_a(host, &json!({}));
        host.call("ADD", Some(r#"[{"name":"a","mac":"02:00:00:00:00:07"}]"#))
    }),
    ("CHECK of a network that has changed", |host| {
        knows_a(
            host,
            &json!({"behaviour": {"CHECK": "fail"}, "code": 111, "msg": "address 192.0.2.10 is gone"}),
        );
        host.call("ADD", Some("a"));
        host.call("CHECK", None)
    }),
    ("the daemon is away", |host| host.call("ADD", Some("a"))),
    ("the daemon answers with another network", |host| {
        host.daemon(|_, _| http(200, r#"{"networks":[{"namespace":"demo","name":"b","config":"{}"}]}"#));
        host.call("ADD", Some("a"))
    }),
    ("the daemon answers nonsense", |host| {
        host.daemon(|_, _| http(200, "[]"));
        host.call("ADD", Some("a"))
    }),
    ("a default network that is nowhere", |host| {
        host.options["defaultNetworks"] = json!(["extra"]);
        host.options["confDir"] = json!(host.root("known"));
        host.honest_daemon(&[]);
        host.call("ADD", None)
    }),
    ("a gateway on an interface that no plugin made", |host| {
        knows_a(host, &json!({}));
        host.call("ADD", Some(r#"[{"name":"a","default-route":["192.0.2.1"]}]"#))
    }),
    ("a delegate that fails", |host| {
        knows_a(
            host,
            &json!({"behaviour": {"ADD": "fail"}, "code": 110, "msg": "no address left in 192.0.2.0/24"}),
        );
        host.call("ADD", Some("a"))
    }),
    ("a delegate that is killed", |host| {
        knows_a(host, &json!({"behaviour": {"ADD": "crash"}}));
        host.call("ADD", Some("a"))
    }),
    ("a delegate that answers nonsense", |host| {
        knows_a(host, &json!({"behaviour": {"ADD": "garbage"}}));
        host.call("ADD", Some("a"))
    }),
    ("a delegate that cannot detach", |host| {
        knows_a(host, &json!({"behaviour": {"DEL": "fail"}, "msg": "the device is busy"}));
        host.call("ADD", Some("a"));
        host.call("DEL", None)
    }),
    ("a device file that cannot be handed over", |host| {
        let folder = host.root("devinfo");
        fs::create_dir_all(folder.join("dp")).unwrap();
        fs::write(folder.join("cni"), "a file where a folder should be").unwrap();
        fs::write(folder.join("dp/example.com-nic-0000:01:00.1-device.json"), "{}").unwrap();
        host.options["deviceInfoDir"] = json!(folder);
        with_device(host);
        host.call("ADD", Some("a"))
    }),
    ("a device of somebody else", |host| {
        with_device(host);
        host.call("ADD", Some(r#"[{"name":"b","deviceID":"0000:00:1f.0"}]"#))
    }),
    ("a network that a GC cannot collect", |host| {
        host.primary(&json!({}));
        host.options["cni.dev/valid-attachments"] = json!([]);
        host.call("ADD", None);
        let record = fs::File::open(host.root("run/plain/sandbox1.json")).unwrap();
        record.set_modified(SystemTime::now() - Duration::from_secs(300)).unwrap();
        fs::remove_file(host.plugins.bin().join("first")).unwrap();
        host.call("GC", None)
    }),
    ("GC without a list", |host| host.call("GC", None)),
    ("an interface that is taken", |host| {
        knows_a(host, &json!({}));
        host.call("ADD", Some("a@eth0"))
    }),
    ("a network of another namespace under isolation", |host| {
        host.options["namespaceIsolation"] = json!(true);
        host.honest_daemon(&[("other/a", host.nad("second", &json!({})))]);
        host.call("ADD", Some("other/a"))
    }),
    ("a journal that cannot be written", |host| {
        knows_a(host, &json!({}));
        fs::create_dir_all(host.root("state")).unwrap();
        fs::write(host.root("state/journal"), "a file where a folder should be").unwrap();
        host.call("ADD", Some("a"))
    }),
    ("a lock that cannot be taken", |host| {
        fs::write(host.root("run"), "a file where a folder should be").unwrap();
        host.call("ADD", None)
    }),
    ("a definition without config", |host| {
        host.options["confDir"] = json!(host.root("known"));
        host.honest_daemon(&[("demo/a", String::new())]);
        host.call("ADD", Some("a"))
    }),
    ("a definition that is no JSON", |host| {
        host.honest_daemon(&[("demo/a", "{ \"type\": \"second\", }".to_owned())]);
        host.call("ADD", Some("a"))
    }),
    ("a definition that the cluster does not know", |host| {
        host.honest_daemon(&[]);
        host.call("ADD", Some("a"))
    }),
    ("a key of ours with a wrong value", |host| {
        host.options["defaultNetworks"] = json!("a");
        host.call("ADD", None)
    }),
    ("a config of a newer version", |host| {
        host.options["formatVersion"] = json!(99);
        host.call("ADD", None)
    }),
    ("a pod's namespace that cannot be entered", |host| {
        knows_a(host, &json!({}));
        host.netns = "/run/netns/gone".to_owned();
        host.call("ADD", Some("a"))
    }),
    ("a plugin that is not installed", |host| {
        host.honest_daemon(&[("demo/a", host.nad("absent", &json!({})))]);
        host.call("ADD", Some("a"))
    }),
    ("a plugin that is not allowed", |host| {
        host.options["allowedPlugins"] = json!(["first"]);
        knows_a(host, &json!({}));
        host.call("ADD", Some("a"))
    }),
    ("Multus as a delegate of Multus", |host| {
        host.honest_daemon(&[("demo/a", host.nad("multus", &json!({})))]);
        host.call("ADD", Some("a"))
    }),
    ("a prevResult that is none", |host| {
        host.options["prevResult"] = json!({"cniVersion": "7.0.0"});
        host.call("CHECK", None)
    }),
    ("DEL of an unknown sandbox that the primary refuses", |host| {
        host.primary(&json!({"behaviour": {"DEL": "fail"}, "msg": "the address pool is locked"}));
        host.call("DEL", None)
    }),
    ("a primary that is broken", |host| {
        fs::write(host.root("net.d/10-primary.conflist"), "{").unwrap();
        host.call("ADD", None)
    }),
    ("a primary that is not there", |host| {
        fs::remove_file(host.root("net.d/10-primary.conflist")).unwrap();
        host.call("ADD", None)
    }),
    ("a primary that is not ready", |host| {
        host.options["readinessindicatorfile"] = json!(host.root("ready"));
        host.options["readinessWaitSeconds"] = json!(0);
        host.call("ADD", None)
    }),
    ("a primary whose STATUS fails", |host| {
        let plugin = host.delegate(
            "first",
            &json!({"behaviour": {"STATUS": "fail"}, "code": 51, "msg": "the uplink is down"}),
        );
        let config = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [plugin]});
        fs::write(host.root("net.d/10-primary.conflist"), config.to_string()).unwrap();
        host.call("STATUS", None)
    }),
    ("a result that no version can say", |host| {
        host.options["cniVersion"] = json!("0.2.0");
        host.primary(&json!({"result": {"cniVersion": "1.0.0", "interfaces": []}}));
        host.call("ADD", None)
    }),
    ("another operation on the sandbox", |host| {
        host.options["delDeadlineSeconds"] = json!(0);
        fs::create_dir_all(host.root("run/lock")).unwrap();
        let file = fs::File::create(host.root("run/lock/sandbox1")).unwrap();
        file.lock().unwrap();
        host.call("DEL", None)
    }),
    ("an annotation that is wrong", |host| host.call("ADD", Some(r#"[{"name":"a","interface":"../x"}]"#))),
    ("a config that is no JSON", |host| {
        host.stdin = Some("{".to_owned());
        host.call("ADD", None)
    }),
    ("a version that nobody speaks", |host| {
        host.options["cniVersion"] = json!("9.9.9");
        host.call("ADD", None)
    }),
    ("the pod's namespace is the host's", |host| {
        host.own_netns_is_an_error = true;
        host.call("ADD", None)
    }),
];

fn knows_a(host: &Host, keys: &Value) {
    host.honest_daemon(&[("demo/a", host.nad("second", keys))]);
}

/// Definitions `a`, of a resource of which the pod has one device, and `b`.
fn with_device(host: &Host) {
    let config = host.nad("second", &json!({}));
    host.daemon(move |path, body| {
        if path != "/v1/resolve" {
            return http(200, "{}");
        }
        let name = body["selections"][0]["name"].clone();
        let annotations = if name == "a" {
            json!({"k8s.v1.cni.cncf.io/resourceName": "example.com/nic"})
        } else {
            json!({})
        };
        let network =
            json!({"namespace": "demo", "name": name, "config": config, "annotations": annotations});
        http(
            200,
            &json!({"networks": [network], "devices": {"example.com/nic": ["0000:01:00.1"]}}).to_string(),
        )
    });
}

#[test]
fn every_error_is_one_short_line_with_a_stable_code_and_the_documented_words() {
    let mut shown = String::from(
        "# Errors\n\nWhat the plugin says when it cannot do what was asked. The line is the CNI error that the runtime puts into the\n\
         pod's events; `code` is the number of the CNI specification, or the delegate's own. 11 means: the runtime tries again,\n\
         and it may work then. A word in capitals is stable; search for it.\n\n| when | code | line |\n|---|---|---|\n",
    );
    let mut slugs: BTreeMap<String, usize> = BTreeMap::new();
    for (when, case) in CASES {
        let mut host = Host::new();
        host.secret_in_config();
        let answer = case(&mut host);
        let (code, line) = answer.failure();
        assert!(!line.contains("s3cret"), "{when}: it shows the config: {line}");
        let line = neutral(&line, &host);
        assert!(!line.contains("/tmp/"), "{when}: {line}");
        if let Some((slug, _)) = line
            .split_once(": ")
            .filter(|(slug, _)| slug.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        {
            *slugs.entry(slug.to_owned()).or_default() += 1;
        }
        shown.push_str(&format!("| {when} | {code} | {} |\n", line.replace('|', "\\|")));
    }
    for slug in slugs_of_the_source() {
        assert!(slugs.contains_key(&slug), "no case shows {slug}");
    }
    golden(Path::new("../../docs/errors.md"), &shown);
}

/// Paths of the throw-away host as those of a node, numbers of processes as a word.
fn neutral(line: &str, host: &Host) -> String {
    let root = host.root("");
    let root = root.to_str().unwrap().trim_end_matches('/');
    let line = line
        .replace(&format!("{root}/net.d"), "/etc/cni/net.d")
        .replace(&format!("{root}/bin"), "/opt/cni/bin")
        .replace(&format!("{root}/run"), "/run/multus-rs")
        .replace(&format!("{root}/state"), "/var/lib/cni/multus-rs")
        .replace(&format!("{root}/known"), "/etc/cni/multus/net.d")
        .replace(root, "");
    let own = format!("/proc/{}/ns/net", std::process::id());
    let line = line.replace(&own, "/run/netns/pod");
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    for at in 1..words.len() {
        if words[at - 1].ends_with("process") || words[at - 1].ends_with("(process") {
            words[at] = "PID,".to_owned();
        }
    }
    words.join(" ")
}

/// What cannot be shown by a call: a broken machine, or a bug of ours.
const NOT_SHOWN: [&str; 6] =
    ["DAEMON_UNTRUSTED", "DELEGATE_STUCK", "GC_BUSY", "NETWORK_GC", "NO_RESULT", "REQUEST_UNWRITABLE"];

fn slugs_of_the_source() -> Vec<String> {
    let mut slugs = Vec::new();
    for folder in ["../meta/src", "../meta/src/routes", "src"] {
        let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "rs")) {
            let text = fs::read_to_string(file).unwrap();
            for word in text.split('"') {
                let capitals = word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
                let known = ["MULTUS_LOG", "NAD_NOT_FOUND", "CRD_MISSING"];
                if capitals
                    && word.contains('_')
                    && !known.contains(&word)
                    && !word.starts_with("K8S_")
                    && !word.starts_with("CARGO_")
                    && !word.starts_with("CNI_")
                {
                    slugs.push(word.to_owned());
                }
            }
        }
    }
    slugs.sort();
    slugs.dedup();
    slugs.retain(|slug| !NOT_SHOWN.contains(&slug.as_str()));
    slugs
}

#[track_caller]
fn golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, text).unwrap();
    }
    let known = fs::read_to_string(path).unwrap_or_default();
    for (is, should) in text.lines().zip(known.lines()) {
        assert_eq!(is, should, "UPDATE_GOLDEN=1 writes {} anew", path.display());
    }
    assert_eq!(text.lines().count(), known.lines().count(), "UPDATE_GOLDEN=1 writes {} anew", path.display());
}
