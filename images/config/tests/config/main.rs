//! The config program, through its binary, on folders of its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test whose ground is missing has failed")]

mod choose;
mod faults;
mod keep;
mod neighbours;
mod node;
mod places;
