//! The pod as the API server knows it, and which generation of it a caller means.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;
use meta::cluster::{ClusterError, PodRef};
use tokio::time::timeout;

use crate::errors::{Asked, INVALID, RETRY, failure, map, status, unavailable};

/// Deadline of one read.
pub(crate) const READ: Duration = Duration::from_secs(3);

/// On a mirror pod: the uid that the kubelet gave the static pod, the one that reaches a plugin.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Reads the metadata of a pod.
pub(crate) async fn get(client: &kube::Client, pod: &PodRef) -> Result<ObjectMeta, ClusterError> {
    let asked = Asked { verb: "get", resource: "pods", namespace: &pod.namespace, name: &pod.name };
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    match timeout(READ, api.get_metadata(&pod.name)).await {
        Ok(Ok(partial)) => Ok(partial.metadata),
        Ok(Err(error)) if status(&error).is_some_and(|status| status.code == 404) => Err(not_found(pod)),
        Ok(Err(error)) => Err(map(asked, &error)),
        Err(_) => Err(unavailable(asked, "deadline of 3 s passed")),
    }
}

/// The annotations of exactly the pod that the caller means.
pub(crate) async fn annotations(
    client: &kube::Client,
    pod: &PodRef,
) -> Result<BTreeMap<String, String>, ClusterError> {
    let metadata = get(client, pod).await?;
    if pod.uid.is_empty() || same_or_mirror(&metadata, &pod.uid) {
        Ok(metadata.annotations.unwrap_or_default())
    } else {
        Err(replaced(pod))
    }
}

/// Whether the object is the pod with that uid, or stands for the static pod with that uid.
fn same_or_mirror(metadata: &ObjectMeta, uid: &str) -> bool {
    metadata.uid.as_deref() == Some(uid) || is_mirror_of(metadata, uid)
}

/// Whether the object is the mirror of the static pod with that uid.
pub(crate) fn is_mirror_of(metadata: &ObjectMeta, uid: &str) -> bool {
    let mirrored = metadata.annotations.as_ref().and_then(|annotations| annotations.get(MIRROR));
    mirrored.is_some_and(|mirrored| mirrored == uid)
}

/// There is no such pod: it was deleted, or a static pod has no mirror yet. Which of both cannot be known here.
pub(crate) fn not_found(pod: &PodRef) -> ClusterError {
    failure(
        RETRY,
        "POD_NOT_FOUND",
        &format!(
            "pod {}/{} does not exist in the API: deleted, or a static pod without its mirror pod yet; retried as long \
             as the pod is wanted",
            pod.namespace, pod.name
        ),
    )
}

/// A namesake lives in place of the pod that was meant.
pub(crate) fn replaced(pod: &PodRef) -> ClusterError {
    failure(
        INVALID,
        "POD_REPLACED",
        &format!(
            "pod {}/{} with uid {} was deleted and created anew: nothing to do, the new one is set up by itself",
            pod.namespace, pod.name, pod.uid
        ),
    )
}
