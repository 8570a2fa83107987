//! What the plugin needs of the cluster, and the messages that carry it over the daemon's socket.
//!
//! One trait, three calls. The shim implements it over the socket, the daemon behind that socket with a
//! Kubernetes client. The shapes are versioned by their path (`/v1/…`); unknown fields are ignored, so that
//! neighbouring versions understand each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::summary;

/// The definition's annotation that names the kubelet's resource its devices come from.
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";

/// Which pod a call is about, as the runtime names it in `CNI_ARGS`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; empty where the runtime does not say it.
    #[serde(default)]
    pub uid: String,
}

/// A NetworkAttachmentDefinition by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkRef {
    /// Namespace of the definition.
    pub namespace: String,
    /// Name of the definition.
    pub name: String,
}

/// `POST /v1/resolve`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResolveRequest {
    /// The pod that asks.
    pub pod: PodRef,
    /// `CNI_CONTAINERID`.
    pub sandbox: String,
    /// The networks to look up, in the order of the answer.
    #[serde(default)]
    pub selections: Vec<NetworkRef>,
    /// Also return the pod's annotations, because the runtime did not hand them over.
    #[serde(default, rename = "wantAnnotations")]
    pub want_annotations: bool,
    /// Also return the devices that the kubelet gave the pod. They come unasked where a network has a resource name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
    /// The caller can do without: answer or fail at once, wait for nobody. Never sent.
    #[serde(skip)]
    pub at_once: bool,
}

/// One NetworkAttachmentDefinition, as far as a plugin needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Namespace of the definition.
    pub namespace: String,
    /// Name of the definition.
    pub name: String,
    /// `spec.config`, untouched; empty where the definition has none.
    #[serde(default)]
    pub config: String,
    /// The definition's annotations under `k8s.v1.cni.cncf.io/`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl std::fmt::Display for NetworkRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Network {
    /// `NAMESPACE/NAME`.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether it is the definition of that name.
    pub fn is(&self, wanted: &NetworkRef) -> bool {
        self.namespace == wanted.namespace && self.name == wanted.name
    }

    /// The kubelet's resource that its devices come from ([`RESOURCE_NAME`]).
    pub fn resource(&self) -> Option<&str> {
        self.annotations.get(RESOURCE_NAME).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// Answer to [`ResolveRequest`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ResolveResponse {
    /// One per selection, in the same order.
    #[serde(default)]
    pub networks: Vec<Network>,
    /// The pod's annotations, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Resource name to the sorted ids of the devices that the kubelet gave this pod; empty where nobody needs them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<String, Vec<String>>,
}

/// `POST /v1/publish`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The pod to annotate; its uid guards against another generation of the pod.
    pub pod: PodRef,
    /// `CNI_CONTAINERID`; the daemon publishes only for a sandbox that the journal knows.
    pub sandbox: String,
    /// The whole text of the `network-status` annotation.
    pub status: String,
    /// What the pod's owner is told once it is published; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// `POST /v1/event`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventRequest {
    /// The pod the event is about.
    pub pod: PodRef,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// CamelCase reason.
    pub reason: String,
    /// One line.
    pub message: String,
}

impl PublishRequest {
    /// The event that tells the pod's owner what it got.
    pub fn event(&self) -> Option<EventRequest> {
        (!self.summary.is_empty()).then(|| EventRequest {
            pod: self.pod.clone(),
            kind: "Normal".to_owned(),
            reason: summary::REASON.to_owned(),
            message: self.summary.clone(),
        })
    }
}

/// Why a call to the cluster failed. Also the body of every answer that is not 200.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct ClusterError {
    /// CNI error code: 7 when the request can never work, 11 when trying again may help.
    pub code: u32,
    /// Stable, upper case: `NAD_NOT_FOUND`, `API_UNAVAILABLE`, ….
    pub reason: String,
    /// One line under 300 characters: what, why, what to do.
    pub message: String,
}

/// Waits for what was begun.
pub type Pending<'a> = Box<dyn FnOnce() -> Result<(), ClusterError> + 'a>;

/// The cluster as the plugin sees it.
pub trait Cluster {
    /// Looks up networks, and the pod's annotations when asked.
    ///
    /// # Errors
    /// When a network does not exist, or the cluster cannot be asked now.
    fn resolve(&self, request: &ResolveRequest) -> Result<ResolveResponse, ClusterError>;

    /// Begins to write the `network-status` annotation of that very generation of the pod; then tells its owner the
    /// summary, best effort. What is returned waits for the outcome, and must be called: else it may come when nobody expects it.
    ///
    /// # Errors
    /// When the pod is gone or replaced, or the cluster cannot be reached in time.
    fn publish<'a>(&'a self, request: &'a PublishRequest) -> Pending<'a>;

    /// Tells the pod's owner about a failure; best effort.
    ///
    /// # Errors
    /// When the event could not be handed over.
    fn event(&self, request: &EventRequest) -> Result<(), ClusterError>;
}
