//! What each plugin gets: the same calls, in the same order, with the same environment and configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cni::{
    cache::Cache,
    chain::{Attachment, Runner, Unwatched},
    config::{NetworkConfig, plugin_type},
    error::Error,
    process::TERM_GRACE,
    raw::{Object, same_key},
    runtime::Runtime,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use testkit::Record;

use crate::{
    configs::{as_go_sees, corpus},
    oracle::Oracle,
};

const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p=q";
const CAPABILITY_ARGS: &str = r#"{
    "mac":"02:00:00:00:00:09","ips":["192.0.2.9/24"],"portMappings":[{"hostPort":8080,"containerPort":80}],
    "bandwidth":{"ingressRate":1000},"deviceID":"0000:3d:00.1","aliases":["a","b"],"infinibandGUID":"",
    "io.kubernetes.cri.pod-annotations":{"k8s.v1.cni.cncf.io/networks":"a,b"}
}"#;

/// Recording plugins of every name, and a cache for each side.
pub(crate) struct Bench {
    dir: TempDir,
    bin: Vec<PathBuf>,
    pub(crate) ours: Cache,
    capability_args: Object,
}

impl Bench {
    pub(crate) fn new(kinds: &BTreeSet<String>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let delegate = testkit::recording_delegate().unwrap();
        let script = format!(
            "#!/bin/sh\nRECORD_FILE={} exec {}\n",
            dir.path().join("records").display(),
            delegate.display()
        );
        for kind in kinds {
            fs::write(bin.join(kind), &script).unwrap();
            fs::set_permissions(bin.join(kind), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let ours = Cache::new(dir.path().join("ours"));
        Self { bin: vec![bin], ours, capability_args: Object::parse(CAPABILITY_ARGS).unwrap(), dir }
    }

    pub(crate) fn theirs(&self) -> PathBuf {
        self.dir.path().join("theirs")
    }

    pub(crate) fn cache_of_ours(&self) -> PathBuf {
        self.dir.path().join("ours")
    }

    fn records(&self) -> Vec<Record> {
        let file = self.dir.path().join("records");
        let records = testkit::records(&file).unwrap();
        let _ = fs::remove_file(file);
        records
    }

    /// One call on our side.
    pub(crate) fn ours(&self, verb: &str, container: &str, network: &NetworkConfig) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let runner = Runner { path: &self.bin, deadline, grace: TERM_GRACE, watcher: &Unwatched };
        let runtime = Runtime { runner, cache: &self.ours };
        let attachment = Attachment {
            container_id: container,
            netns: Some("/run/netns/x"),
            ifname: "net1",
            args: ARGS,
            capability_args: &self.capability_args,
        };
        match verb {
            "ADD" => runtime.add(network, &attachment).map(drop),
            "DEL" => runtime.del(network, &attachment),
            "CHECK" => runtime.check(network, &attachment),
            "STATUS" => runtime.status(network),
            _ => runtime.gc(network, &[("c1".to_owned(), "net1".to_owned())]),
        }
    }

    /// The question that makes libcni do the same.
    pub(crate) fn question(&self, verb: &str, container: &str, text: &str) -> Value {
        let args: Vec<_> = ARGS.split(';').map(|pair| pair.split_once('=').unwrap()).collect();
        json!({
            "op": "call", "verb": verb, "text": text, "bin": self.bin[0], "cache": self.theirs(),
            "containerId": container, "netns": "/run/netns/x", "ifName": "net1", "args": args,
            "capabilityArgs": serde_json::from_str::<Value>(CAPABILITY_ARGS).unwrap(),
            "valid": [{"containerID": "c1", "ifname": "net1"}],
        })
    }
}

/// A call as it can be compared.
#[derive(Debug, PartialEq)]
struct Seen {
    env: BTreeMap<String, String>,
    config: Map<String, Value>,
}

fn seen(record: &Record) -> Seen {
    let Value::Object(config) = as_go_sees(&record.stdin) else { panic!("{}", record.stdin) };
    Seen { env: record.env.clone(), config }
}

/// Where we depart from libcni: the specification's section 3 wants it so, or a key would have two meanings.
fn as_the_specification_wants(mut theirs: Seen) -> Seen {
    let verb = theirs.env["CNI_COMMAND"].clone();
    theirs.config.retain(|key, value| {
        let runtime_key =
            ["name", "cniVersion", "prevResult", "runtimeConfig"].iter().find(|k| same_key(key, k));
        match runtime_key {
            // Only as we spell it, or a plugin would read the user's.
            Some(name) => key == name && !value.is_null(),
            // "capabilities: must not be present"; "cni.dev/": the runtime's own.
            None => {
                !same_key(key, "capabilities")
                    && (!key.starts_with("cni.dev/")
                        || (verb == "GC"
                            && ["cni.dev/valid-attachments", "cni.dev/attachments"].contains(&&**key)))
            }
        }
    });
    // No version means this one; we say so.
    if theirs.config["cniVersion"] == "" {
        theirs.config.insert("cniVersion".to_owned(), json!("0.1.0"));
    }
    theirs
}

pub(crate) fn kinds(texts: &[(String, String)]) -> BTreeSet<String> {
    let networks = texts.iter().filter_map(|(_, text)| NetworkConfig::parse(text, None).ok());
    networks.flat_map(|network| network.plugins).map(|plugin| plugin_type(&plugin).unwrap()).collect()
}

// Holds: N50, D1, D4, D7, D12, D13, D14, D15, D16, D17
#[test]
fn every_plugin_of_the_corpus_gets_what_libcni_would_give_it() {
    let Some(mut oracle) = Oracle::start() else { return };
    let corpus = corpus();
    let bench = Bench::new(&kinds(&corpus));
    let mut calls = 0;
    for (name, text) in &corpus {
        let Ok(network) = NetworkConfig::parse(text, None) else { continue };
        if forges_a_result(&network) {
            continue;
        }
        for (verb, container) in [
            ("STATUS", ""),
            ("ADD", "c1"),
            ("CHECK", "c1"),
            ("DEL", "c1"),
            // Again, with nothing remembered.
            ("DEL", "c1"),
            ("ADD", "c1"),
            ("ADD", "c2"),
            // Only c1 is valid: c2 is stale.
            ("GC", ""),
            ("DEL", "c1"),
        ] {
            let what = format!("{verb} of {name}");
            let ours = bench.ours(verb, container, &network);
            let our_records = bench.records();
            let theirs = oracle.ask(&bench.question(verb, container, text));
            let their_records = bench.records();
            assert_eq!(ours.is_ok(), theirs.error.is_empty(), "{what}: {ours:?}; libcni: {}", theirs.error);
            assert_eq!(our_records.len(), their_records.len(), "{what}");
            for (index, (ours, theirs)) in our_records.iter().zip(&their_records).enumerate() {
                let expected = as_the_specification_wants(seen(theirs));
                assert_eq!(seen(ours), expected, "{what}, call {index}");
                assert_eq!(ours.netns, theirs.netns, "{what}, call {index}");
                calls += 1;
            }
        }
    }
    assert!(calls > 500, "{calls}");
}

/// True where libcni would take a user's word for the answer of a plugin.
pub(crate) fn forges_a_result(network: &NetworkConfig) -> bool {
    network
        .plugins
        .iter()
        .any(|plugin| plugin.iter().any(|(key, value)| same_key(key, "prevResult") && value.get() != "null"))
}

// Holds: D16
#[test]
fn unlike_with_libcni_a_previous_result_comes_from_plugins_alone() {
    let Some(mut oracle) = Oracle::start() else { return };
    let text = r#"{"cniVersion":"1.1.0","name":"n","plugins":[{"type":"one","prevResult":{"ips":[]},"PrevResult":{"ips":[]}}]}"#;
    let network = NetworkConfig::parse(text, None).unwrap();
    assert!(forges_a_result(&network));
    let bench = Bench::new(&BTreeSet::from(["one".to_owned()]));
    for verb in ["STATUS", "ADD", "GC"] {
        bench.ours(verb, "c1", &network).unwrap();
        let ours = bench.records().remove(0).stdin.to_lowercase();
        oracle.ask(&bench.question(verb, "c1", text));
        let theirs = bench.records().remove(0).stdin.to_lowercase();
        assert!(!ours.contains("prevresult") && theirs.contains("prevresult"), "{verb}: {ours} {theirs}");
    }
}

// Holds: D1
#[test]
fn unlike_with_libcni_a_users_json_arrives_byte_for_byte() {
    let Some(mut oracle) = Oracle::start() else { return };
    let kept = r#""big":9007199254740993,"huge":123456789012345678901234567890,"exact":1.10,"z":{"b": 1,  "a":2},"esc":"\u00e9\/<&>""#;
    let text = format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{{"type":"one",{kept}}}]}}"#);
    let bench = Bench::new(&BTreeSet::from(["one".to_owned()]));
    let network = NetworkConfig::parse(&text, None).unwrap();
    bench.ours("ADD", "c1", &network).unwrap();
    assert!(bench.records()[0].stdin.contains(kept));
    oracle.ask(&bench.question("ADD", "c1", &text));
    // Not a promise: when libcni learns it, this line can go.
    assert!(!bench.records()[0].stdin.contains("9007199254740993"));
}

// Holds: D17
#[test]
fn libcni_and_we_pass_the_environment_on() {
    let Some(mut oracle) = Oracle::start() else { return };
    let bench = Bench::new(&BTreeSet::new());
    let script = "#!/bin/sh\nenv | grep -v '^_=' | sort > \"$0.$CNI_CONTAINERID\"\necho '{}'\n";
    let plugin = Path::new(&bench.bin[0]).join("env");
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let text = r#"{"cniVersion":"1.0.0","name":"n","type":"env"}"#;
    bench.ours("ADD", "ours", &NetworkConfig::parse(text, None).unwrap()).unwrap();
    assert_eq!(oracle.ask(&bench.question("ADD", "theirs", text)).error, "");
    let read = |side: &str| fs::read_to_string(format!("{}.{side}", plugin.display())).unwrap();
    assert_eq!(read("ours").replace("=ours", "=theirs"), read("theirs"));
    assert!(read("ours").contains("\nPATH="));
}
