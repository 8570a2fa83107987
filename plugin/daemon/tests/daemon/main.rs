//! The binary, over its socket, against a real API server, and a fake one for what a real one cannot be told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod cluster;
mod faults;
mod publisher;
mod real;
mod socket;
mod support;
