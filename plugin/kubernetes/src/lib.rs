//! The cluster over the Kubernetes API: what stands behind `meta::cluster::Cluster`.
//!
//! Two ways to the same three calls (look up networks, publish a pod's `network-status`, tell the pod's owner):
//! [`Client`] is the daemon's, asynchronous, with NetworkAttachmentDefinitions answered from a watched cache.
//! [`Direct`] is the thin plugin's, synchronous, with every question a live read; it serves one CNI call and ends.
//! Each call has a deadline, tries again within it where that may help, and fails with one line that says what to do.

mod cache;
mod checkpoint;
mod client;
mod connect;
mod definition;
mod devices;
mod direct;
mod errors;
mod event;
mod lookup;
mod network;
mod node;
mod pod;
mod podresources;
mod publish;
mod retry;
mod validate;

pub use client::{Client, Readiness};
pub use connect::{ConnectError, Options};
pub use direct::{Direct, NoCluster, direct};
pub use errors::{failure, one_line};
pub use node::LocalPod;
