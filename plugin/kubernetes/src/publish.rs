//! One PATCH of one annotation, on exactly one generation of a pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource,
    api::{Patch, PatchParams},
    core::{PartialObjectMeta, Request},
};
use meta::cluster::{ClusterError, PodRef, PublishRequest};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    errors::{Asked, map, status, transient, unavailable},
    pod,
};

/// All attempts together.
const TOTAL: Duration = Duration::from_secs(5);
/// One attempt: short enough for a second one on another connection.
const ATTEMPT: Duration = Duration::from_millis(2500);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// Publishes within [`TOTAL`].
pub(crate) async fn publish(client: &kube::Client, request: &PublishRequest) -> Result<(), ClusterError> {
    let pod = &request.pod;
    let asked = Asked { verb: "patch", resource: "pods/status", namespace: &pod.namespace, name: &pod.name };
    let deadline = Instant::now() + TOTAL;
    let mut uid = pod.uid.clone();
    let mut pause = FIRST_PAUSE;
    loop {
        let attempt = patch(client, pod, &uid, &request.status);
        let error = match timeout_at(deadline.min(Instant::now() + ATTEMPT), attempt).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => match status(&error).map(|status| status.code) {
                Some(404) => return Err(pod::not_found(pod)),
                Some(409 | 422) if uid == pod.uid && !uid.is_empty() => {
                    match other_uid(client, pod, deadline, asked).await? {
                        Some(mirror) => {
                            uid = mirror;
                            continue;
                        }
                        // The right pod after all: writers that met are tried again, a refusal stays one.
                        None if status(&error).is_some_and(|status| status.code == 409) => map(asked, &error),
                        None => return Err(map(asked, &error)),
                    }
                }
                Some(409 | 422) if !uid.is_empty() => return Err(pod::replaced(pod)),
                _ if transient(&error) => map(asked, &error),
                _ => return Err(map(asked, &error)),
            },
            Err(_) => unavailable(asked, "deadline passed"),
        };
        if Instant::now() + pause >= deadline {
            return Err(error);
        }
        log::debug!("publishing {}/{} is tried again: {error}", pod.namespace, pod.name);
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// After a refused uid: the uid of the mirror pod if the caller's is that of a static pod, nothing if the uid is
/// right, else an error.
async fn other_uid(
    client: &kube::Client,
    pod: &PodRef,
    deadline: Instant,
    asked: Asked<'_>,
) -> Result<Option<String>, ClusterError> {
    let metadata = timeout_at(deadline, pod::get(client, pod))
        .await
        .unwrap_or_else(|_| Err(unavailable(asked, "deadline passed")))?;
    match &metadata.uid {
        Some(uid) if *uid == pod.uid => Ok(None),
        Some(uid) if pod::is_mirror_of(&metadata, &pod.uid) => Ok(Some(uid.clone())),
        _ => Err(pod::replaced(pod)),
    }
}

async fn patch(client: &kube::Client, pod: &PodRef, uid: &str, text: &str) -> kube::Result<()> {
    let mut metadata = serde_json::json!({ "annotations": { STATUS: text } });
    if !uid.is_empty() {
        // The API server refuses a patch that would change the uid: that is the guard.
        metadata["uid"] = uid.into();
    }
    let patch = Patch::Merge(serde_json::json!({ "metadata": metadata }));
    let request = Request::new(Pod::url_path(&(), Some(&pod.namespace)))
        .patch_subresource("status", &pod.name, &PatchParams::default(), &patch)
        .map_err(kube::Error::BuildRequest)?;
    client.request::<PartialObjectMeta<Pod>>(request).await.map(drop)
}
