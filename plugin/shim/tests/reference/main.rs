//! The reference plugins behind the plugin, in namespaces of their own: real links, addresses, rules and files, for
//! every version of the specification that each of them speaks, and nothing left of them after DEL.
//!
//! The plugins are those of the test cluster's cache; without it these tests are skipped.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on panics")]

mod chained;
mod daemon;
mod default_route;
mod host;
mod pod;
mod primaries;
mod seconds;
