//! The daemon's own node: its startup taint, and the pods that run on it.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use meta::cluster::{ClusterError, PodRef};
use serde_json::json;

use crate::{
    client::Client,
    errors::{Asked, INVALID, failure},
    pod::MIRROR,
    retry::Patience,
};

/// Nobody waits for these; what fails is tried at the next round.
const WITHIN: Duration = Duration::from_secs(10);
/// Pods of a node by pages, so that one answer stays small.
const PAGE: u32 = 250;

/// A pod that runs on this node, in a network namespace of its own.
#[derive(Debug, Clone)]
pub struct LocalPod {
    /// Which pod, by the uid that reaches the plugin: of a static pod, not that of its mirror.
    pub pod: PodRef,
    /// Uid of the object in the API.
    pub object_uid: String,
    /// Whether the kubelet keeps it by a file of its own: it cannot be deleted through the API.
    pub fixed: bool,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses on the primary network.
    pub ips: Vec<String>,
}

impl Client {
    /// Takes a taint off this node. False where it has none of that key.
    ///
    /// # Errors
    /// When the API server refuses or gives no answer in time.
    pub async fn remove_taint(&self, key: &str) -> Result<bool, ClusterError> {
        let name = self.node_name();
        let api: Api<Node> = Api::all(self.kube());
        let mut tries = Patience::of(WITHIN).tries();
        loop {
            let node = match tries.attempt(api.get(name)).await {
                Ok(node) => node,
                Err(trouble) if tries.again(&trouble).await => continue,
                Err(trouble) => return Err(trouble.told(asked("get", "nodes", "", name))),
            };
            let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
            let rest: Vec<_> = taints.iter().filter(|taint| taint.key != key).cloned().collect();
            if rest.len() == taints.len() {
                return Ok(false);
            }
            // A list is replaced whole: only the version that was read may be.
            let version = node.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": rest}});
            match tries.attempt(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await {
                Ok(_) => return Ok(true),
                Err(trouble) if trouble.code() == 409 && tries.pause(Duration::ZERO).await => {}
                Err(trouble) if tries.again(&trouble).await => {}
                Err(trouble) => return Err(trouble.told(asked("patch", "nodes", "", name))),
            }
        }
    }

    /// The boot that the kubelet of this node told last.
    ///
    /// # Errors
    /// When the API server refuses or gives no answer in time.
    pub async fn boot_id(&self) -> Result<String, ClusterError> {
        let name = self.node_name();
        let api: Api<Node> = Api::all(self.kube());
        let tries = Patience::of(WITHIN).once().tries();
        let node = tries.attempt(api.get(name)).await;
        let node = node.map_err(|trouble| trouble.told(asked("get", "nodes", "", name)))?;
        let info = node.status.and_then(|status| status.node_info);
        info.map(|info| info.boot_id).ok_or_else(|| {
            failure(
                INVALID,
                "NODE_UNKNOWN",
                &format!("node {name} has told no boot id yet; it is asked again"),
            )
        })
    }

    /// The running pods of this node that have a network namespace of their own.
    ///
    /// # Errors
    /// When the API server refuses or gives no answer in time.
    pub async fn local_pods(&self) -> Result<Vec<LocalPod>, ClusterError> {
        let name = self.node_name();
        let api: Api<Pod> = Api::all(self.kube());
        let fields = format!("spec.nodeName={name},status.phase=Running");
        let mut page = ListParams::default().fields(&fields).limit(PAGE);
        let mut found = Vec::new();
        let tries = Patience::of(WITHIN).once().tries();
        loop {
            let list = tries.attempt(api.list(&page)).await;
            let list = list.map_err(|trouble| trouble.told(asked("list", "pods", "", "of this node")))?;
            let next = list.metadata.continue_.clone().filter(|token| !token.is_empty());
            found.extend(list.items.into_iter().filter_map(local));
            match next {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// Sets a label of a pod, or takes it away.
    ///
    /// # Errors
    /// When the API server refuses or gives no answer in time.
    pub async fn label(&self, pod: &LocalPod, key: &str, value: Option<&str>) -> Result<(), ClusterError> {
        let PodRef { namespace, name, .. } = &pod.pod;
        let api: Api<Pod> = Api::namespaced(self.kube(), namespace);
        // The uid is the guard against a namesake.
        let patch = json!({"metadata": {"uid": pod.object_uid, "labels": {key: value}}});
        let tries = Patience::of(WITHIN).once().tries();
        let done =
            tries.attempt(api.patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch))).await;
        done.map(drop).map_err(|trouble| trouble.told(asked("patch", "pods", namespace, name)))
    }

    /// Deletes exactly that pod.
    ///
    /// # Errors
    /// When the API server refuses or gives no answer in time.
    pub async fn delete(&self, pod: &LocalPod) -> Result<(), ClusterError> {
        let PodRef { namespace, name, .. } = &pod.pod;
        let api: Api<Pod> = Api::namespaced(self.kube(), namespace);
        let this_one = Preconditions { uid: Some(pod.object_uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
        let tries = Patience::of(WITHIN).once().tries();
        match tries.attempt(api.delete(name, &params)).await {
            Err(trouble) if trouble.code() != 404 => {
                Err(trouble.told(asked("delete", "pods", namespace, name)))
            }
            _ => Ok(()),
        }
    }
}

fn asked<'a>(verb: &'static str, resource: &'static str, namespace: &'a str, name: &'a str) -> Asked<'a> {
    Asked { verb, resource, namespace, name }
}

/// What matters of a pod; none of one that uses the host's network or is on its way out.
fn local(pod: Pod) -> Option<LocalPod> {
    let metadata = pod.metadata;
    if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
        || metadata.deletion_timestamp.is_some()
    {
        return None;
    }
    let annotations = metadata.annotations.unwrap_or_default();
    let object_uid = metadata.uid?;
    let mirrored = annotations.get(MIRROR).cloned();
    let addresses = pod.status.and_then(|status| status.pod_ips).unwrap_or_default();
    Some(LocalPod {
        pod: PodRef {
            namespace: metadata.namespace?,
            name: metadata.name?,
            uid: mirrored.clone().unwrap_or_else(|| object_uid.clone()),
        },
        object_uid,
        fixed: mirrored.is_some(),
        annotations,
        labels: metadata.labels.unwrap_or_default(),
        ips: addresses.into_iter().map(|address| address.ip).collect(),
    })
}
