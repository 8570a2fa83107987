//! The library through its public items, with real processes and files.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy cannot see as such")]

mod answers;
mod bench;
mod binaries;
mod chain;
mod dispatch;
mod files;
mod misbehaviour;
mod parsers;
mod runtime;
mod stderr;
mod tool;
