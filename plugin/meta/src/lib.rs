//! What Multus means: which networks a pod gets, attached in order, undone whole.
//!
//! ```text
//! stdin + env → netconf → pod (asks?) → selection → Cluster::resolve → resolve → [Delegate]
//!                                                                          │
//!           lock → journal → attach each, undo beside it → network_status → Cluster::publish → result
//! ```
//!
//! [`verbs`] has the verbs a runtime calls. Decisions (`pod`, `selection`, `resolve`, `network_status`) are functions
//! from data to data. The crate knows the cluster only through [`cluster::Cluster`], is synchronous, and believes
//! the runtime and root's own files only: what comes through the cluster is checked against what was asked.

pub mod attach;
pub mod cluster;
pub mod detach;
pub mod device_info;
pub mod equip;
pub mod error;
pub mod gc;
pub mod journal;
pub mod lock;
mod logging;
pub mod netconf;
pub mod netns;
pub mod network_status;
pub mod plan;
pub mod plugin;
pub mod pod;
pub mod primary;
pub mod record;
pub mod requests;
pub mod resolve;
pub mod routes;
pub mod selection;
pub mod source;
pub mod summary;
mod takeover;
pub mod verbs;
