//! Whatever users, files and the wire hold: an answer, or a fault of one short line, and never a panic. Each target
//! has its corpus in `tests/corpus`; see `testkit::fuzz` for longer runs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, path::Path};

use cni::{env::Request, raw};
use meta::{
    cluster::{
        Cluster, ClusterError, EventRequest, Network, Pending, PublishRequest, ResolveRequest,
        ResolveResponse,
    },
    error::Fault,
    journal::Journal,
    netconf::NetConf,
    network_status, plan,
    record::Record,
    selection,
};

/// A cluster in which every definition has the same config, and the pod one device.
struct Everywhere {
    config: String,
}

impl Cluster for Everywhere {
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError> {
        let network = |wanted: &meta::cluster::NetworkRef| Network {
            namespace: wanted.namespace.clone(),
            name: wanted.name.clone(),
            config: self.config.clone(),
            annotations: [("k8s.v1.cni.cncf.io/resourceName".to_owned(), "example.com/nic".to_owned())]
                .into(),
        };
        Ok(ResolveResponse {
            networks: request.selections.iter().map(network).collect(),
            devices: [("example.com/nic".to_owned(), vec!["0000:01:00.1".to_owned()])].into(),
            ..ResolveResponse::default()
        })
    }

    fn publish<'a>(&'a self, _: &'a PublishRequest) -> Pending<'a> {
        Box::new(|| Ok(()))
    }

    fn event(&self, _: &EventRequest) -> Result<(), ClusterError> {
        Ok(())
    }
}

const PLAIN: &str = r#"{"cniVersion":"1.0.0","type":"macvlan"}"#;

/// Decides what a pod with these annotations gets in such a cluster.
fn decide(
    networks: &str,
    default_network: Option<&str>,
    config: &str,
    strict: bool,
) -> Result<plan::Plan, Fault> {
    let mut annotations = BTreeMap::from([("k8s.v1.cni.cncf.io/networks", networks)]);
    annotations.extend(default_network.map(|text| ("v1.multus-cni.io/default-network", text)));
    let stdin = serde_json::json!({
        "cniVersion": "1.0.0", "name": "x", "type": "multus-shim", "strict": strict,
        "delegates": [{"cniVersion": "1.0.0", "name": "main", "type": "bridge"}],
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
    });
    let env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "sandbox"),
        ("CNI_NETNS", "/run/netns/pod"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/nowhere"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod"),
    ];
    let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let request = Request::from_env(&env, stdin.to_string().as_bytes()).unwrap();
    let conf = NetConf::parse(&request.config).unwrap();
    plan::plan(&request, &conf, &Everywhere { config: config.to_owned() })
}

fn judge(plan: Result<plan::Plan, Fault>) {
    match plan {
        Ok(plan) => {
            let names: Vec<&str> = plan.delegates.iter().map(|delegate| delegate.ifname.as_str()).collect();
            for (position, name) in names.iter().enumerate() {
                assert!(cni::env::valid_ifname(name), "{name:?}");
                assert!(!names[..position].contains(name), "{name} twice");
            }
            for delegate in &plan.delegates {
                for plugin in &delegate.config.plugins {
                    let kind = cni::config::plugin_type(plugin).unwrap();
                    assert!(cni::config::valid_plugin_type(&kind) && !kind.starts_with("multus"), "{kind}");
                }
            }
        }
        Err(fault) => one_line(&fault),
    }
}

fn one_line(fault: &Fault) {
    let line = fault.line();
    assert!(line.chars().count() < 300 && !line.chars().any(char::is_control), "{line}");
    assert!(fault.code != 0 && !fault.slug.is_empty(), "{fault:?}");
}

fn corpus(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

// Holds: N12, P1, B11
#[test]
fn an_annotation_of_any_text() {
    testkit::fuzz::run(&corpus("selection"), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for strict in [false, true] {
            match selection::parse(&text, "demo", strict) {
                Ok(selections) => assert!(selections.len() <= selection::MAX_NETWORKS),
                Err(fault) => one_line(&fault),
            }
            judge(decide(&text, None, PLAIN, strict));
            judge(decide("", Some(&text), PLAIN, strict));
        }
    })
    .unwrap();
}

// Holds: P2, P3, B11
#[test]
fn a_definition_of_any_text() {
    let all = r#"[{"name":"a","ips":["192.0.2.7"],"mac":"02:00:00:00:00:07","cni-args":{"x":1},"bandwidth":{"ingressRate":1},
        "portMappings":[{"hostPort":1,"containerPort":2}],"deviceID":"0000:01:00.1"},{"name":"b"}]"#;
    testkit::fuzz::run(&corpus("definition"), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        judge(decide(all, None, &text, false));
        judge(decide("a@data0,b", Some("c"), &text, true));
    })
    .unwrap();
}

#[test]
fn our_entry_of_any_text() {
    testkit::fuzz::run(&corpus("netconf"), |bytes| {
        if let Ok(config) = raw::Object::parse(&String::from_utf8_lossy(bytes))
            && let Err(fault) = NetConf::parse(&config)
        {
            one_line(&fault);
        }
    })
    .unwrap();
}

// Holds: P4, B4
#[test]
fn a_journal_file_of_any_bytes() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("journal")).unwrap();
    let journal = Journal::durable(state.path());
    testkit::fuzz::run(&corpus("journal"), |bytes| {
        std::fs::write(state.path().join("journal/sandbox.json"), bytes).unwrap();
        if let Ok(Some(record)) = journal.read("sandbox") {
            look_into(&record);
        }
    })
    .unwrap();
}

#[test]
fn a_record_of_any_text_behind_a_right_checksum() {
    testkit::fuzz::run(&corpus("record"), |bytes| {
        if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
            look_into(&record);
        }
    })
    .unwrap();
}

fn look_into(record: &Record) {
    if let Err(error) = network_status::of(record) {
        assert!(error.to_string().chars().count() < 300);
    }
    for attachment in &record.attachments {
        if let Ok(config) = attachment.config() {
            // Either is fine; a panic is not.
            drop(
                attachment
                    .result(&config.cni_version)
                    .and_then(|result| result.map(|r| r.typed()).transpose()),
            );
        }
        assert_eq!(record.call(attachment).container_id, record.sandbox);
    }
}
