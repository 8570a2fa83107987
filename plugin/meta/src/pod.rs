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
/// Where the kubelet has a pod from: `api`, else it is a static pod, which the API knows as its mirror only.
const SOURCE: &str = "kubernetes.io/config.source";
/// The runtimeConfig key, and capability, with which runtimes hand over the pod's annotations.
pub const ANNOTATIONS_CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";

/// Keys of `CNI_ARGS` that name the pod.
pub(crate) const ARG_NAMESPACE: &str = "K8S_POD_NAMESPACE";
pub(crate) const ARG_NAME: &str = "K8S_POD_NAME";
pub(crate) const ARG_UID: &str = "K8S_POD_UID";

/// What a pod's annotations ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The text of the networks annotation; never empty.
    pub networks: Option<String>,
    /// The text of the default-network annotation.
    pub default_network: Option<String>,
    /// The pod is the kubelet's own: it starts whether or not the API has a mirror of it.
    pub is_static: bool,
}

impl Wish {
    /// The pod asks for nothing but its primary.
    pub fn is_plain(&self) -> bool {
        self.networks.is_none() && self.default_network.is_none()
    }
}

/// What is known of a pod's wish. Without knowing, nothing goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// The runtime said it.
    For(Wish),
    /// The runtime did not say; the cluster has to.
    Unknown,
}

/// The pod of a request, from `CNI_ARGS`; `None` where no Kubernetes is behind it.
pub fn of(request: &Request) -> Option<PodRef> {
    let arg =
        |key: &str| request.args.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone()).unwrap_or_default();
    let pod = PodRef { namespace: arg(ARG_NAMESPACE), name: arg(ARG_NAME), uid: arg(ARG_UID) };
    (!pod.name.is_empty() && !pod.namespace.is_empty()).then_some(pod)
}

/// What the pod of this request asks for, decided from what the runtime handed over and nothing else.
///
/// # Errors
/// `ANNOTATIONS_INVALID` when the runtime's map is not one of strings.
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
    Ok(match handed_over.and_then(|config| config.annotations) {
        Some(annotations) => Asks::For(wish(&annotations)),
        None if of(request).is_none() => Asks::For(Wish::default()),
        None => Asks::Unknown,
    })
}

/// What a pod with these annotations asks for. An empty networks annotation asks for nothing; an empty default-network
/// annotation is a mistake that [`crate::selection::parse_default`] names.
pub fn wish(annotations: &BTreeMap<String, String>) -> Wish {
    let text = |key: &str| annotations.get(key).map(|text| text.trim().to_owned());
    Wish {
        networks: text(NETWORKS).filter(|text| !text.is_empty()),
        default_network: text(DEFAULT_NETWORK),
        is_static: text(SOURCE).is_some_and(|source| source != "api"),
    }
}
