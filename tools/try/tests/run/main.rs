//! Networks on a throw-away host and on a machine that tests may spoil, through the binary.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests may fail loudly")]

mod examples;
mod kill;
mod machine;
mod own_plugins;
mod support;
