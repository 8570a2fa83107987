//! `cargo xtask test`: the gate. Sets up what it needs, runs every check, and ends with a count.
//!
//! One run shows as many failures as it can: a failing stage does not stop later ones that can still say
//! something. Only the tests on the cluster need an image and a cluster that came up.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cluster::Layout;
use crate::command::{cargo, succeed, works, xtask};
use crate::debian;
use crate::gate::Gate;

/// Crates whose tests need the cluster, in the order they run. Every other crate of the workspace is tested without.
pub(crate) const ON_CLUSTER: &[&str] = &["e2e"];

/// One node more than most tests look at: a test may cut its power.
const NODES: &str = "2";

/// Pinned, so that a new release of it cannot turn the gate red.
const CARGO_DENY: &str = "0.20.2";

/// What compiling and tests need beyond rustup. What the cluster and the image need is installed by them.
const PACKAGES: &[debian::Need] = &[
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    ("cc", "gcc"),
    ("git", "git"),
    ("/usr/include/stdio.h", "libc6-dev"),
    ("strace", "strace"),
    ("valgrind", "valgrind"),
];

/// Tests of one program that run at once.
const TEST_THREADS: &str = "4";

/// Longest wait for the advisory database.
const ADVISORY_SECONDS: &str = "60";

/// Runs the gate. The exit code says whether it is green.
pub(crate) fn run() -> Result<ExitCode> {
    let layout = Layout::new()?;
    let mut gate = Gate::new();
    if gate.step("set-up", set_up) {
        gate.stage("fmt", cargo(["fmt", "--all", "--check"]));
        gate.stage(
            "clippy",
            cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        );
        deny(&mut gate);
        // First, for tests of the chart ask the Helms.
        let tools = gate.stage("cluster tools", xtask(["cluster", "tools"]));
        gate.tests("unit and integration tests", without_cluster());
        if tools {
            lint_chart(&mut gate, &layout);
        }
        on_cluster(&mut gate, &layout, |gate| {
            for package in ON_CLUSTER {
                let mut tests = cargo(["test", "--package", package, "--no-fail-fast"]);
                // One cluster, and tests that stop parts of it: one at a time.
                tests.args(["--", "--test-threads=1", "--nocapture"]);
                gate.tests(&format!("on the cluster: {package}"), tests);
            }
        });
    }
    Ok(gate.report())
}

/// The tests of all crates but those that need the cluster.
fn without_cluster() -> Command {
    let mut tests = cargo(["test", "--workspace", "--no-fail-fast"]);
    tests.args(ON_CLUSTER.iter().flat_map(|package| ["--exclude", package]));
    // Most of them wait most of the time: for a process, a server, a second look.
    tests.env("RUST_TEST_THREADS", TEST_THREADS).args(["--", "--nocapture"]);
    tests
}

/// Builds the image, starts the cluster, runs `tests`, and ends the cluster whatever happened.
pub(crate) fn on_cluster(gate: &mut Gate, layout: &Layout, tests: impl FnOnce(&mut Gate)) {
    if !gate.stage("images", xtask(["images"])) {
        gate.broken("tests on the cluster: not run, there is no image".into());
        return;
    }
    if gate.stage("cluster up", xtask(["cluster", "up", "--nodes", NODES])) {
        tests(gate);
    } else {
        gate.broken("tests on the cluster: not run, it did not come up".into());
    }
    gate.stage("cluster down", xtask(["cluster", "down"]));
    println!("== logs of the cluster: {}", layout.logs().display());
}

/// Licences, sources and bans; advisories only where their database can be reached.
fn deny(gate: &mut Gate) {
    let mut program = PathBuf::new();
    let installed = gate.step("cargo-deny", || {
        program = install_deny()?;
        Ok(())
    });
    if !installed {
        return;
    }
    let deny = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args);
        command
    };
    gate.stage("deny: bans, licences, sources", deny(&["check", "bans", "licenses", "sources"]));
    let mut fetch = Command::new("timeout");
    fetch.arg(ADVISORY_SECONDS).arg(&program).args(["fetch", "db"]).current_dir(crate::tidy::repository());
    if works(&mut fetch) {
        gate.stage("deny: advisories", deny(&["check", "--disable-fetch", "advisories"]));
    } else {
        gate.skip("deny advisories", "the advisory database cannot be fetched from here");
    }
}

/// The chart, read by both Helm versions.
fn lint_chart(gate: &mut Gate, layout: &Layout) {
    for helm in ["helm3", "helm4"] {
        let mut lint = Command::new(layout.bin.join(helm));
        lint.args(["lint", "--strict", "chart"]);
        gate.stage(&format!("chart lint, {helm}"), lint);
    }
}

/// Packages, toolchain components and targets. Each step is quick when there is nothing to do.
pub(crate) fn set_up() -> Result<()> {
    debian::ensure(PACKAGES)?;
    for (what, names) in [
        ("component", ["rustfmt", "clippy"]),
        ("target", ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]),
    ] {
        let mut command = Command::new("rustup");
        succeed(command.args([what, "add"]).args(names))
            .context("rustup is missing or failed: install it from https://rustup.rs, then run this again")?;
    }
    Ok(())
}

/// The pinned cargo-deny, built into the cache once.
fn install_deny() -> Result<PathBuf> {
    let folder = crate::cluster::cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        println!("building cargo-deny {CARGO_DENY}, once; this takes some minutes");
        succeed(
            cargo(["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"])
                .arg(&folder)
                .env_remove("CARGO_TARGET_DIR")
                // Built outside the workspace, so that its own settings do not apply.
                .current_dir(Path::new("/")),
        )?;
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cargo_metadata::MetadataCommand;

    /// Else its tests would run before there is a cluster.
    #[test]
    fn every_crate_that_uses_the_cluster_is_listed() {
        let metadata = MetadataCommand::new()
            .manifest_path(crate::tidy::repository().join("Cargo.toml"))
            .no_deps()
            .exec()
            .unwrap();
        let uses = |package: &&cargo_metadata::Package| {
            package.name.as_str() == "e2e" || package.dependencies.iter().any(|other| other.name == "e2e")
        };
        let using = metadata.packages.iter().filter(uses).map(|package| package.name.to_string());
        let mut listed: Vec<_> = ON_CLUSTER.iter().map(|name| (*name).to_owned()).collect();
        listed.sort();
        let mut using: Vec<_> = using.collect();
        using.sort();
        assert_eq!(using, listed);
    }
}
