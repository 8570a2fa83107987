//! The Container Network Interface (CNI) in Rust: what libcni and skel are in Go, for versions 0.1.0 to 1.1.0
//! of the specification.
//!
//! # For a runtime
//!
//! [`config`] loads networks from text, files and folders. [`chain`] runs their plugins: each in a process group
//! of its own, under a deadline, with bounded output. [`runtime`] adds libcni's [`cache`], so that DEL, CHECK and
//! GC know the answer of the ADD.
//!
//! ```no_run
//! use std::{path::{Path, PathBuf}, time::{Duration, Instant}};
//!
//! use cni::{
//!     cache::{self, Cache},
//!     chain::{Attachment, Runner, Unwatched},
//!     config::find_network,
//!     process::TERM_GRACE,
//!     raw::Object,
//!     runtime::Runtime,
//! };
//!
//! let network = find_network(Path::new("/etc/cni/net.d"), "lan")?;
//! let path = [PathBuf::from("/opt/cni/bin")];
//! let deadline = Instant::now() + Duration::from_secs(120);
//! let cache = Cache::new(cache::DEFAULT_DIR);
//! let runner = Runner { path: &path, deadline, grace: TERM_GRACE, watcher: &Unwatched };
//! let runtime = Runtime { runner, cache: &cache };
//!
//! let capability_args = Object::parse(r#"{"mac": "02:00:00:00:00:01"}"#)?;
//! let attachment = Attachment {
//!     container_id: "c1",
//!     netns: Some("/run/netns/c1"),
//!     ifname: "eth0",
//!     args: "",
//!     capability_args: &capability_args,
//! };
//! match runtime.add(&network, &attachment) {
//!     Ok(result) => println!("{:?}", result.typed()?.ips),
//!     // The specification: every ADD is followed by a DEL, also one that failed.
//!     Err(_) => runtime.del(&network, &attachment)?,
//! }
//! # Ok::<(), cni::error::Error>(())
//! ```
//!
//! # For a plugin
//!
//! [`dispatch`] is the `main` of a plugin; it has an example. [`env`](mod@env) is one call, [`result`] its answer, and
//! [`error`] what goes wrong.
//!
//! # For both
//!
//! [`raw`] keeps JSON as the bytes that its author wrote: unknown keys, the order of keys and numbers beyond a
//! float reach a plugin unchanged. [`result::CniResult::convert`] turns a result into any version.
//! [`exec`] runs one plugin, and [`process`] ends what an earlier, killed call left running.
//!
//! # What is promised
//!
//! - No input makes it panic: configurations, results, environment and cache files are fuzzed.
//! - An [`error::Error`] is one line of less than 300 characters with the code of the specification. It never
//!   holds what a plugin wrote to standard error, and says of a missing file neither "not found" nor "no such
//!   file", which some runtimes take for a DEL that succeeded. A plugin's own error keeps its words.
//! - What it does with a configuration, a result or a call is compared with libcni itself in the tests. Where the
//!   two differ on purpose, the README of this crate says why.
//!
//! # What is left to the caller
//!
//! Locks: operations of one container must not overlap, and GC must not overlap with any. And threads: a plugin
//! dies with the thread that called, so call from one that lives until the call returns. The crate is for Linux,
//! synchronous, and knows neither Kubernetes nor any plugin.

pub mod base64;
pub mod cache;
pub mod chain;
pub mod config;
pub mod convert;
pub mod dispatch;
pub mod env;
pub mod error;
pub mod exec;
mod pipes;
pub mod process;
pub mod raw;
pub mod result;
pub mod runtime;
mod spawn;
pub mod version;
