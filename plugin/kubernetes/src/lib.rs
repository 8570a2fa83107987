//! The cluster as the daemon asks it, over the Kubernetes API.
//!
//! [`Client`] has the three calls of `meta::cluster::Cluster`, asynchronous: look up networks, publish a pod's
//! `network-status`, tell the pod's owner about a failure. NetworkAttachmentDefinitions are answered from a
//! watched cache; what the cache does not know is asked of the API server once, with a deadline.

mod cache;
mod client;
mod connect;
mod definition;
mod errors;
mod event;
mod pod;
mod publish;
mod validate;

pub use client::{Client, Readiness};
pub use connect::{ConnectError, Options};
pub use errors::{failure, one_line};
