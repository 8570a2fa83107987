//! The pod as the API server knows it, and which generation of it a caller means.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;
use meta::cluster::{ClusterError, PodRef};

use crate::{
    errors::{Asked, INVALID, RETRY, failure},
    retry::Patience,
};

/// On a mirror pod: the uid that the kubelet gave the static pod, the one that reaches a plugin.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// Reads the metadata of a pod, live: a cache of the API server's that is late would name the wrong generation.
pub(crate) async fn get(
    client: &kube::Client,
    pod: &PodRef,
    patience: Patience,
) -> Result<ObjectMeta, ClusterError> {
    let asked = Asked { verb: "get", resource: "pods", namespace: &pod.namespace, name: &pod.name };
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace);
    let mut tries = patience.tries();
    loop {
        match tries.attempt(api.get_metadata(&pod.name)).await {
            Ok(partial) => return Ok(partial.metadata),
            Err(trouble) if trouble.code() == 404 => return Err(not_found(pod)),
            Err(trouble) if !tries.again(&trouble).await => return Err(trouble.told(asked)),
            Err(_) => {}
        }
    }
}

/// The annotations of exactly the pod that the caller means.
pub(crate) async fn annotations(
    client: &kube::Client,
    pod: &PodRef,
    patience: Patience,
) -> Result<BTreeMap<String, String>, ClusterError> {
    let metadata = get(client, pod, patience).await?;
    match generation(&metadata, &pod.uid) {
        Generation::Same | Generation::Mirror => Ok(metadata.annotations.unwrap_or_default()),
        Generation::OtherMirror => Err(not_found(pod)),
        Generation::Other => Err(replaced(pod)),
    }
}

/// What the pod in the API is to the pod that a caller means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Generation {
    /// It is that pod.
    Same,
    /// It stands for that static pod.
    Mirror,
    /// It stands for another static pod: the kubelet replaces it when that one's manifest changed.
    OtherMirror,
    /// A namesake, created later.
    Other,
}

/// Compares by uid; an empty one means any.
pub(crate) fn generation(metadata: &ObjectMeta, uid: &str) -> Generation {
    let mirrored = metadata.annotations.as_ref().and_then(|annotations| annotations.get(MIRROR));
    match mirrored {
        _ if uid.is_empty() || metadata.uid.as_deref() == Some(uid) => Generation::Same,
        Some(mirrored) if mirrored == uid => Generation::Mirror,
        Some(_) => Generation::OtherMirror,
        None => Generation::Other,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(uid: &str, mirrors: Option<&str>) -> ObjectMeta {
        let annotations = mirrors.map(|hash| BTreeMap::from([(MIRROR.to_owned(), hash.to_owned())]));
        ObjectMeta { uid: Some(uid.to_owned()), annotations, ..ObjectMeta::default() }
    }

    #[test]
    fn a_static_pod_is_known_by_its_mirror_and_no_other_by_its_name() {
        let told = |mirrors, uid| generation(&metadata("u1", mirrors), uid);
        assert_eq!(told(None, "u1"), Generation::Same);
        assert_eq!(told(None, ""), Generation::Same);
        assert_eq!(told(None, "u0"), Generation::Other);
        assert_eq!(told(Some("hash"), "hash"), Generation::Mirror);
        assert_eq!(told(Some("hash"), "u1"), Generation::Same);
        assert_eq!(told(Some("older"), "hash"), Generation::OtherMirror);
    }
}
