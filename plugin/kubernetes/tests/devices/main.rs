//! Devices, from a kubelet that speaks gRPC over its socket, and from its checkpoint.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod kubelet;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use kubelet::{Given, Kubelet};
use kubernetes::{Direct, Options};
use meta::cluster::{Cluster, ClusterError, NetworkRef, PodRef, ResolveRequest, ResolveResponse};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::api::{self, Api};

const RESOURCE: &str = "k8s.v1.cni.cncf.io/resourceName";

struct Node {
    api: Api,
    folder: TempDir,
}

impl Node {
    /// With the network `plain` and the network `sriov` of the resource `example.com/nic`.
    fn new() -> Self {
        let api = Api::start().unwrap();
        api.with(|state| {
            let mut sriov = api::nad("sriov", "{}");
            sriov["metadata"]["annotations"][RESOURCE] = json!("example.com/nic");
            state.listed = vec![api::nad("plain", "{}"), sriov];
        });
        let node = Self { api, folder: tempfile::tempdir().unwrap() };
        fs::write(node.folder.path().join("kubeconfig"), api::kubeconfig(&node.api.address)).unwrap();
        node
    }

    fn kubelet(&self) -> Kubelet {
        fs::create_dir_all(self.folder.path().join("pod-resources")).unwrap();
        Kubelet::start(&self.folder.path().join("pod-resources/kubelet.sock"))
    }

    fn checkpoint(&self, text: &str) {
        fs::create_dir_all(self.folder.path().join("device-plugins")).unwrap();
        fs::write(self.folder.path().join("device-plugins/kubelet_internal_checkpoint"), text).unwrap();
    }

    fn ask(&self, change: impl FnOnce(&mut ResolveRequest)) -> Result<ResolveResponse, ClusterError> {
        let options = Options {
            kubeconfig: Some(self.folder.path().join("kubeconfig")),
            kubelet: self.folder.path().to_owned(),
            ..Options::default()
        };
        let mut request = ResolveRequest {
            pod: PodRef { namespace: "default".into(), name: "pod1".into(), uid: "uid1".into() },
            sandbox: "sandbox1".into(),
            selections: vec![NetworkRef { namespace: "default".into(), name: "sriov".into() }],
            ..ResolveRequest::default()
        };
        change(&mut request);
        Direct::new(options, Duration::from_secs(20)).resolve(&request)
    }

    fn devices(&self) -> BTreeMap<String, Vec<String>> {
        self.ask(|_| {}).unwrap().devices
    }
}

fn devices(of: &Value) -> BTreeMap<String, Vec<String>> {
    serde_json::from_value(of.clone()).unwrap()
}

/// Two pods of one name in two namespaces, several containers, ids in no order.
fn given() -> Vec<Given> {
    let container = |devices: &[(&str, &[&str])]| {
        devices
            .iter()
            .map(|(resource, ids)| ((*resource).to_owned(), ids.iter().map(|id| (*id).to_owned()).collect()))
            .collect()
    };
    vec![
        Given {
            namespace: "other".into(),
            name: "pod1".into(),
            containers: vec![container(&[("example.com/nic", &["9"])])],
        },
        Given {
            namespace: "default".into(),
            name: "pod1".into(),
            containers: vec![
                container(&[
                    ("example.com/nic", &["0000:03:02.1", "0000:03:02.0"]),
                    ("example.com/gpu", &["g"]),
                ]),
                container(&[]),
                container(&[("example.com/nic", &["0000:03:01.7", "0000:03:02.0"])]),
            ],
        },
    ]
}

fn expected() -> BTreeMap<String, Vec<String>> {
    devices(
        &json!({"example.com/nic": ["0000:03:01.7", "0000:03:02.0", "0000:03:02.1"], "example.com/gpu": ["g"]}),
    )
}

// Holds: B12
#[test]
fn the_devices_of_all_containers_come_once_each_and_sorted() {
    let node = Node::new();
    let kubelet = node.kubelet();
    kubelet.set(|state| state.given = given());
    assert_eq!(node.devices(), expected());
    assert_eq!(kubelet.asked(), ["/v1.PodResourcesLister/Get"]);
}

#[test]
fn a_kubelet_without_get_is_asked_for_its_list() {
    for code in [2, 12] {
        let node = Node::new();
        let kubelet = node.kubelet();
        kubelet.set(|state| {
            state.given = given();
            state.get = Some(code);
        });
        assert_eq!(node.devices(), expected(), "gRPC status {code}");
        assert_eq!(kubelet.asked(), ["/v1.PodResourcesLister/Get", "/v1.PodResourcesLister/List"]);
    }
}

#[test]
fn the_kubelet_is_asked_only_where_a_network_has_a_resource_or_a_device_is_to_be_verified() {
    let node = Node::new();
    let kubelet = node.kubelet();
    kubelet.set(|state| state.given = given());
    let plain = |request: &mut ResolveRequest| request.selections[0].name = "plain".into();
    assert_eq!(node.ask(plain).unwrap().devices, BTreeMap::new());
    assert_eq!(kubelet.asked(), Vec::<String>::new());
    let verified = |request: &mut ResolveRequest| {
        plain(request);
        request.devices = true;
    };
    assert_eq!(node.ask(verified).unwrap().devices, expected());
}

#[test]
fn a_pod_that_the_kubelet_does_not_know_has_no_devices() {
    let node = Node::new();
    let _kubelet = node.kubelet();
    assert_eq!(node.devices(), BTreeMap::new());
}

#[test]
fn a_list_of_megabytes_is_read_and_one_beyond_the_kubelets_own_bound_is_not() {
    let node = Node::new();
    let kubelet = node.kubelet();
    let many = |count: usize| -> Vec<Given> {
        let mut all = given();
        all.extend((0..count).map(|n| Given {
            namespace: "default".into(),
            name: format!("{n}-{}", "x".repeat(1000)),
            containers: vec![],
        }));
        all
    };
    kubelet.set(|state| {
        state.get = Some(12);
        state.given = many(8000);
    });
    assert_eq!(node.devices(), expected());
    kubelet.set(|state| state.given = many(20_000));
    let error = node.ask(|_| {}).unwrap_err();
    assert_eq!((error.reason.as_str(), error.code), ("DEVICES_UNKNOWN", 11), "{error}");
}

#[test]
fn the_checkpoint_stands_in_for_a_kubelet_that_does_not_answer() {
    let node = Node::new();
    node.checkpoint(
        &json!({"Data": {"PodDeviceEntries": [
            {"PodUID": "uid1", "ContainerName": "c", "ResourceName": "example.com/nic",
                "DeviceIDs": {"0": ["b", "a"], "-1": ["c"]}, "AllocResp": "x"},
            {"PodUID": "uid2", "ContainerName": "c", "ResourceName": "example.com/nic", "DeviceIDs": {"0": ["z"]}},
        ], "RegisteredDevices": {}}, "Checksum": 1})
        .to_string(),
    );
    assert_eq!(node.devices(), devices(&json!({"example.com/nic": ["a", "b", "c"]})));
    let kubelet = node.kubelet();
    kubelet.set(|state| (state.get, state.list) = (Some(12), Some(14)));
    assert_eq!(
        node.devices(),
        devices(&json!({"example.com/nic": ["a", "b", "c"]})),
        "it answers with an error"
    );
    // A checkpoint knows pods by uid alone.
    let error = node.ask(|request| request.pod.uid.clear()).unwrap_err();
    assert_eq!(error.reason, "DEVICES_UNKNOWN");
}

#[test]
fn without_any_word_of_the_kubelet_the_pod_waits_and_reads_why() {
    let node = Node::new();
    for text in [None, Some("{\"Data\":"), Some("{\"Data\":{\"PodDeviceEntries\":[{}]}}")] {
        if let Some(text) = text {
            node.checkpoint(text);
        }
        let error = node.ask(|_| {}).unwrap_err();
        assert_eq!((error.reason.as_str(), error.code), ("DEVICES_UNKNOWN", 11));
        let line = &error.message;
        assert!(
            line.contains("default/pod1") && line.chars().count() < 300 && !line.contains('\n'),
            "{line}"
        );
    }
    node.checkpoint("{\"Data\":{\"PodDeviceEntries\":null,\"RegisteredDevices\":{}},\"Checksum\":0}");
    assert_eq!(node.devices(), BTreeMap::new(), "no device was ever given on this node");
}

#[test]
fn a_kubelet_that_hangs_costs_ten_seconds() {
    let node = Node::new();
    let kubelet = node.kubelet();
    kubelet.set(|state| state.hangs = true);
    let start = Instant::now();
    assert_eq!(node.ask(|_| {}).unwrap_err().reason, "DEVICES_UNKNOWN");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}
