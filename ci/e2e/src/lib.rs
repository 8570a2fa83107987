//! End-to-end tests: the chart on a real Kubernetes, seen through kubectl, helm and the node's own files.
//!
//! [`Cluster`] is the running cluster of `cargo xtask cluster up` with the chart installed. Every test ends with
//! [`invariants::hold`], which checks the promises that no test may break. What a test asserts it reads from the
//! cluster or the node, never from our own code.

pub mod cluster;
pub mod invariants;
pub mod objects;
pub mod sight;

pub use cluster::Cluster;
