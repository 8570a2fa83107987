//! The installer, through its binary, on folders of its own.

#![expect(clippy::unwrap_used, reason = "a test whose ground is missing has failed")]

mod faults;
mod foreign;
mod node;
mod put;
mod watch;
