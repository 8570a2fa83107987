//! Names of the cluster's objects that the corpus speaks of.

/// The annotation that names a pod's networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The annotation that replaces a pod's primary network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// The annotation that says what a pod got.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// The capability with which runtimes hand over a pod's annotations.
pub const ANNOTATIONS_CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
