//! `cargo xtask soak`: what is too long for a gate. The end-to-end tests again, many more rounds of each.

use anyhow::Result;
use std::process::ExitCode;

/// Rounds when nothing else is asked for. The gate runs a few.
const ROUNDS: u32 = 20;

/// Runs the churn tests with `E2E_ROUNDS` rounds, or [`ROUNDS`].
pub(crate) fn run() -> Result<ExitCode> {
    let rounds = std::env::var("E2E_ROUNDS").unwrap_or_else(|_| ROUNDS.to_string());
    println!("soak: {rounds} rounds");
    crate::test::only_end_to_end(&[("E2E_ROUNDS", rounds)], Some("churn"))
}
