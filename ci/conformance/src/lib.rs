//! The corpus: what the specifications say that a delegate receives, as data, and the runner that holds plugins to it.
//!
//! A case (`corpus/*.yaml`, its format is [`case`]) is a cluster in small: our config, a primary network, network
//! definitions, a pod's annotations. It lists the calls that delegates must then receive, in order, with
//! environment and standard input, and what the runtime and the pod get back. The expectations are written from
//! the CNI specification and the multi-network standard, never from what our code prints. [`model`] adds what
//! every call has in common, so that a case states only its point.
//!
//! A [`subject`] is a plugin that can be called: `multus-shim` with its daemon, the thin `multus`, or somebody
//! else's binaries. All of them run the same corpus, against a real API server ([`api`]) on this machine.

pub mod api;
pub mod case;
pub mod compare;
pub mod corpus;
pub mod diff;
pub mod model;
pub mod peer;
pub mod pod;
pub mod run;
pub mod session;
pub mod stage;
pub mod subject;
