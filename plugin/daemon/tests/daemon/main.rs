//! The binary, over its socket, against a fake API server (see `support/api.rs`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod cluster;
mod publisher;
mod socket;
mod support;
