//! The plugin as a runtime sees it: environment, stdin, stdout, and what it leaves on the host.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod collect;
mod crashes;
mod errors;
mod faults;
mod flow;
mod host;
mod lies;
mod requests;
mod sources;
mod takeover;
