//! This crate against libcni, the reference implementation in Go: same input, same outcome.
//!
//! `tests/oracle` is a small Go program that asks libcni. Where the two differ on purpose, the test says so and
//! why. Without Go, or without the module, these tests are skipped.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, which clippy cannot see as such")]

mod cache;
mod calls;
mod configs;
mod mutations;
mod oracle;
mod results;
mod skel;
