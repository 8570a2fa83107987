//! One live read of a NetworkAttachmentDefinition.

use kube::Api;
use meta::cluster::{ClusterError, Network, NetworkRef};

use crate::{
    definition::{Definition, RESOURCE},
    errors::{Asked, INVALID, SHORT, failure, one_line},
    retry::Patience,
};

/// Reads the definition from the API server.
pub(crate) async fn read(
    client: &kube::Client,
    selection: &NetworkRef,
    patience: Patience,
) -> Result<Network, ClusterError> {
    let NetworkRef { namespace, name } = selection;
    let asked = Asked { verb: "get", resource: RESOURCE, namespace, name };
    let api: Api<Definition> = Api::namespaced(client.clone(), namespace);
    let mut tries = patience.tries();
    loop {
        let trouble = match tries.attempt(api.get(name)).await {
            Ok(definition) => return Ok(definition.shrink().network),
            Err(trouble) => trouble,
        };
        if let Some(status) = trouble.status().filter(|status| status.code == 404) {
            return Err(missing(selection, status));
        }
        if !tries.again(&trouble).await {
            return Err(trouble.told(asked));
        }
    }
}

/// The API server names the object only where it knows the kind.
fn missing(selection: &NetworkRef, status: &kube::core::Status) -> ClusterError {
    let kind_known = status.details.as_ref().is_some_and(|details| details.name == selection.name);
    let (namespace, name) = (one_line(&selection.namespace, SHORT), one_line(&selection.name, SHORT));
    if kind_known {
        let message = format!(
            "network {namespace}/{name}: no such NetworkAttachmentDefinition; create it in namespace {namespace}, or \
             correct the pod's networks annotation"
        );
        failure(INVALID, "NAD_NOT_FOUND", &message)
    } else {
        let message = format!(
            "network {namespace}/{name}: the cluster has no CRD {RESOURCE}; install it, it is part of the chart"
        );
        failure(INVALID, "CRD_MISSING", &message)
    }
}
