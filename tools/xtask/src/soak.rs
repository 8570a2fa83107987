//! `cargo xtask soak`: what is too long for a gate, on a cluster of two nodes.

use std::process::ExitCode;

use anyhow::Result;

use crate::cluster::Layout;
use crate::command::cargo;
use crate::gate::Gate;
use crate::test;

/// Runs the soak tests. They read `E2E_ROUNDS` and `E2E_SEED` and print the seed that repeats a run.
pub(crate) fn run() -> Result<ExitCode> {
    let layout = Layout::new()?;
    let mut gate = Gate::new();
    if gate.step("set-up", test::set_up) {
        test::on_cluster(&mut gate, &layout, |gate| {
            let tests = cargo([
                "test",
                "--package",
                "e2e",
                "--test",
                "soak",
                "--",
                "--test-threads=1",
                "--nocapture",
            ]);
            gate.tests("soak", tests);
        });
    }
    Ok(gate.report())
}
