//! Which pod this is, and what it asks for, as far as the runtime says.

use std::collections::BTreeMap;

use cni::env::Request;
use serde::Deserialize;

use crate::{
    cluster::PodRef,
    error::{Fault, Result},
};

/// The annotation that names a pod's networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces a pod's primary network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// The runtimeConfig key, and capability, with which runtimes hand over the pod's annotations.
pub const ANNOTATIONS_CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";

/// What is known of a pod's wish. Only [`Asks::Nothing`] goes on without the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// The text of the networks annotation.
    Networks(String),
    /// The pod wants its primary network alone.
    Nothing,
    /// The runtime did not say; the daemon has to.
    Unknown,
}

/// The pod of a request, from `CNI_ARGS`; `None` where no Kubernetes is behind it.
pub fn of(request: &Request) -> Option<PodRef> {
    let arg =
        |key: &str| request.args.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).unwrap_or_default();
    let pod =
        PodRef { namespace: arg("K8S_POD_NAMESPACE"), name: arg("K8S_POD_NAME"), uid: arg("K8S_POD_UID") };
    (!pod.name.is_empty() && !pod.namespace.is_empty()).then_some(pod)
}

/// What the pod of this request asks for, decided from what the runtime handed over and nothing else.
///
/// # Errors
/// `ANNOTATIONS_INVALID` when the runtime's map is not one of strings; see [`from_annotations`].
pub fn asks(request: &Request) -> Result<Asks> {
    #[derive(Deserialize)]
    struct RuntimeConfig {
        #[serde(rename = "io.kubernetes.cri.pod-annotations")]
        annotations: Option<BTreeMap<String, String>>,
    }
    let handed_over = request.config.get_as::<RuntimeConfig>("runtimeConfig").map_err(|error| {
        Fault::invalid(
            "ANNOTATIONS_INVALID",
            format!("the runtime's {ANNOTATIONS_CAPABILITY} is no map of strings: {}", error.msg),
        )
    })?;
    match handed_over.and_then(|config| config.annotations) {
        Some(annotations) => from_annotations(&annotations),
        None if of(request).is_none() => Ok(Asks::Nothing),
        None => Ok(Asks::Unknown),
    }
}

/// What a pod with these annotations asks for.
///
/// # Errors
/// `DEFAULT_NETWORK_UNSUPPORTED`: this version cannot replace a pod's primary network, and will not ignore the wish.
pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Asks> {
    if annotations.contains_key(DEFAULT_NETWORK) {
        return Err(Fault::invalid(
            "DEFAULT_NETWORK_UNSUPPORTED",
            format!(
                "the pod has the annotation {DEFAULT_NETWORK}, which this version does not serve; remove it to use the cluster's primary network"
            ),
        ));
    }
    match annotations.get(NETWORKS).map(|text| text.trim()) {
        None | Some("") => Ok(Asks::Nothing),
        Some(text) => Ok(Asks::Networks(text.to_owned())),
    }
}
