//! The binary as a runtime or a shell runs it, against a fake API server that fails as told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod configs;
mod host;
mod pods;
