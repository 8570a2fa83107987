//! One PATCH of one annotation, on exactly one generation of a pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Resource,
    api::{Patch, PatchParams, ValidationDirective},
    core::{PartialObjectMeta, Request},
};
use meta::{
    cluster::{ClusterError, PodRef, PublishRequest},
    network_status::ANNOTATION,
};

use crate::{
    errors::Asked,
    pod::{self, Generation},
    retry::Patience,
};

/// Publishes as long as `patience` lasts.
pub(crate) async fn publish(
    client: &kube::Client,
    request: &PublishRequest,
    patience: Patience,
) -> Result<(), ClusterError> {
    write(client, request, request.pod.uid.clone(), patience).await
}

/// Publishes unless the pod has that status, in whatever layout. True when it was written.
pub(crate) async fn ensure(
    client: &kube::Client,
    request: &PublishRequest,
    patience: Patience,
) -> Result<bool, ClusterError> {
    let now = pod::get(client, &request.pod, patience).await?;
    match pod::generation(&now, &request.pod.uid) {
        Generation::Same | Generation::Mirror => {}
        Generation::OtherMirror => return Err(pod::not_found(&request.pod)),
        Generation::Other => return Err(pod::replaced(&request.pod)),
    }
    if now
        .annotations
        .is_some_and(|all| all.get(ANNOTATION).is_some_and(|there| same(there, &request.status)))
    {
        return Ok(false);
    }
    write(client, request, now.uid.unwrap_or_default(), patience).await.map(|()| true)
}

/// Whether both say the same: Go Multus lays its text out another way.
fn same(there: &str, wanted: &str) -> bool {
    let parse = |text| serde_json::from_str::<serde_json::Value>(text);
    there == wanted || matches!((parse(there), parse(wanted)), (Ok(there), Ok(wanted)) if there == wanted)
}

/// `uid`: the object's, which a static pod's own is not.
async fn write(
    client: &kube::Client,
    request: &PublishRequest,
    mut uid: String,
    patience: Patience,
) -> Result<(), ClusterError> {
    let pod = &request.pod;
    let asked = Asked { verb: "patch", resource: "pods/status", namespace: &pod.namespace, name: &pod.name };
    let mut tries = patience.tries();
    loop {
        let trouble = match tries.attempt(patch(client, pod, &uid, &request.status)).await {
            Ok(()) => return Ok(()),
            Err(trouble) => trouble,
        };
        let again = match trouble.code() {
            404 => return Err(pod::not_found(pod)),
            // A wrong uid is refused with either; only the pod tells which it was.
            code @ (409 | 422) if !uid.is_empty() => {
                let now = pod::get(client, pod, patience).await?;
                match pod::generation(&now, &pod.uid) {
                    // The right pod after all: writers that met are tried again, a refusal stays one.
                    Generation::Same => code == 409 && tries.pause(Duration::ZERO).await,
                    Generation::Mirror => {
                        let mirror = now.uid.unwrap_or_default();
                        let changed = mirror != uid;
                        uid = mirror;
                        changed || tries.pause(Duration::ZERO).await
                    }
                    Generation::OtherMirror => return Err(pod::not_found(pod)),
                    Generation::Other => return Err(pod::replaced(pod)),
                }
            }
            _ => tries.again(&trouble).await,
        };
        if !again {
            return Err(trouble.told(asked));
        }
        log::debug!("publishing {}/{} is tried again: {trouble:?}", pod.namespace, pod.name);
    }
}

async fn patch(client: &kube::Client, pod: &PodRef, uid: &str, text: &str) -> kube::Result<()> {
    let mut metadata = serde_json::json!({ "annotations": { ANNOTATION: text } });
    if !uid.is_empty() {
        // The API server refuses a patch that would change the uid: that is the guard.
        metadata["uid"] = uid.into();
    }
    // Cheaper for the API server than a merge patch, and so is the trust that we know our own fields.
    let patch = Patch::Strategic(serde_json::json!({ "metadata": metadata }));
    let params =
        PatchParams { field_validation: Some(ValidationDirective::Ignore), ..PatchParams::default() };
    let request = Request::new(Pod::url_path(&(), Some(&pod.namespace)))
        .patch_subresource("status", &pod.name, &params, &patch)
        .map_err(kube::Error::BuildRequest)?;
    client.request::<PartialObjectMeta<Pod>>(request).await.map(drop)
}
