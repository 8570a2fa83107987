//! The CNI specification in Rust, without anything of Multus or Kubernetes.
//!
//! Two halves. The plugin's: [`env`] reads a call, [`error`] and [`result`] answer it. The runtime's:
//! [`config`] loads network configurations, [`chain`] runs their plugins in the order that the
//! specification asks for, [`exec`] runs one plugin binary under a deadline and [`process`] ends what an
//! earlier, killed call left running. [`raw`] keeps every JSON value as the bytes its author wrote.

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
