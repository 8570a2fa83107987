//! Default routes: decided from data, done in real network namespaces, told in results of every version.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod edits;
mod kernel;
mod pod;
