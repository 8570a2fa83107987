//! `cargo xtask soak`: what is too long for a gate. Without the cluster, every fault point and long fuzzing; on a cluster
//! of two nodes, many reboots, and pods that come and go while it breaks.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::cluster::Layout;
use crate::command::{cargo, xtask};
use crate::gate::Gate;
use crate::test;

/// How much of it where the environment does not say.
const FUZZ_SECONDS: &str = "120";
const REBOOTS: &str = "50";

/// Runs the soak tests. They read the variables of `docs/testing.md` and print the seed that repeats a run.
pub(crate) fn run() -> Result<ExitCode> {
    let layout = Layout::new()?;
    let mut gate = Gate::new();
    if gate.step("set-up", test::set_up) {
        gate.stage("cluster tools", xtask(["cluster", "tools"]));
        gate.tests("every fault point", faults());
        gate.tests("long fuzzing", fuzzing());
        test::on_cluster(&mut gate, &layout, |gate| {
            gate.tests("reboots", on_the_cluster("node", "after_every_reboot"));
            gate.tests("pods while the cluster breaks", on_the_cluster("soak", ""));
        });
    }
    Ok(gate.report())
}

/// The plugin, `install` and `config` are killed and refused at every system call.
fn faults() -> Command {
    let mut tests = cargo(["test", "--no-fail-fast"]);
    tests.args(["--package", "multus-shim", "--package", "install", "--package", "config"]);
    tests.args(["--", "--nocapture", "at_every_system_call"]).env("FAULT_POINTS", "all");
    tests
}

/// The mutation tests of every parser.
fn fuzzing() -> Command {
    let mut tests = cargo(["test", "--workspace", "--test", "fuzz", "--no-fail-fast"]);
    or_given(tests.args(["--", "--nocapture"]), "FUZZ_SECONDS", FUZZ_SECONDS);
    tests
}

fn on_the_cluster(program: &str, filter: &str) -> Command {
    let mut tests = cargo(["test", "--package", "e2e", "--test", program]);
    or_given(tests.args(["--", "--test-threads=1", "--nocapture", filter]), "E2E_REBOOTS", REBOOTS);
    tests
}

fn or_given(command: &mut Command, variable: &str, value: &str) {
    if std::env::var_os(variable).is_none() {
        command.env(variable, value);
    }
}
