//! `cargo xtask test`: the gate. Sets up what it needs, runs every check, and ends with a count.
//!
//! One run shows as many failures as it can: a failing stage does not stop later ones that can still say
//! something. Only the end-to-end tests need an image and a cluster that came up.

use crate::cluster::Layout;
use crate::tally::Tally;
use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Pinned, so that a new release of it cannot turn the gate red.
const CARGO_DENY: &str = "0.20.2";

/// What compiling needs beyond rustup. What the cluster and the image need is installed by them.
const PACKAGES: &[&str] = &["ca-certificates", "gcc", "git", "libc6-dev"];

/// Longest wait for the advisory database.
const ADVISORY_SECONDS: &str = "60";

/// Runs the gate. The exit code says whether it is green.
pub(crate) fn run() -> Result<ExitCode> {
    let mut gate = Gate::new()?;
    let started = Instant::now();
    if gate.step("set-up", set_up) {
        gate.stage("fmt", cargo(["fmt", "--all", "--check"]));
        gate.stage(
            "clippy",
            cargo(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
        );
        gate.deny();
        gate.stage(
            "unit and integration tests",
            cargo(["test", "--workspace", "--exclude", "e2e", "--no-fail-fast", "--", "--nocapture"]),
        );
        gate.chart();
        gate.cluster_tests(&[], None);
    }
    gate.report(started)
}

/// Runs only the end-to-end tests, on a cluster of its own, with `environment` added.
pub(crate) fn only_end_to_end(environment: &[(&str, String)], filter: Option<&str>) -> Result<ExitCode> {
    let mut gate = Gate::new()?;
    let started = Instant::now();
    if gate.step("set-up", set_up) {
        gate.cluster_tests(environment, filter);
    }
    gate.report(started)
}

struct Gate {
    tally: Tally,
    /// Stages that failed without a failed test: each counts as one failure.
    broken: Vec<String>,
    root: PathBuf,
    layout: Layout,
    /// Where output goes. Standard output, but in tests: there it would be counted by the gate that runs them.
    out: Box<dyn Write>,
}

impl Gate {
    fn new() -> Result<Self> {
        let layout = Layout::new()?;
        Ok(Self {
            tally: Tally::default(),
            broken: Vec::new(),
            root: crate::tidy::repository(),
            layout,
            out: Box::new(std::io::stdout()),
        })
    }

    /// Runs a command as a stage, streaming what it prints. True when it held.
    fn stage(&mut self, name: &str, mut command: Command) -> bool {
        let failed = self.tally.failed;
        let result = self.stream(name, &mut command);
        self.close(name, failed, result)
    }

    /// Runs a function as a stage.
    fn step(&mut self, name: &str, body: impl FnOnce() -> Result<()>) -> bool {
        println!("\n== {name}");
        let result = body();
        self.close(name, self.tally.failed, result)
    }

    fn close(&mut self, name: &str, failed_before: usize, result: Result<()>) -> bool {
        let Err(error) = result else { return true };
        eprintln!("== {name} FAILED: {error:#}");
        if self.tally.failed == failed_before {
            self.broken.push(format!("{name}: {error:#}"));
        }
        false
    }

    /// Runs the command with both outputs in one pipe, so that their order is kept, and counts its tests.
    fn stream(&mut self, name: &str, command: &mut Command) -> Result<()> {
        println!("\n== {name}");
        let started = Instant::now();
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        let errors = writer.try_clone().context("cannot share a pipe")?;
        command.current_dir(&self.root).stdin(Stdio::null()).stdout(writer).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", show(command)))?;
        // The command holds the writing ends; while we keep them too, reading never ends.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).context("cannot read the output")? > 0 {
            self.out.write_all(&line).context("cannot write to standard output")?;
            self.tally.line(&String::from_utf8_lossy(&line));
            line.clear();
        }
        let status = child.wait().context("cannot wait for the command")?;
        println!("== {name}: {} s", started.elapsed().as_secs());
        if !status.success() {
            bail!("{} ended with {status}", show(command));
        }
        Ok(())
    }

    /// Licences, sources and bans; advisories only where their database can be reached.
    fn deny(&mut self) {
        let mut program = PathBuf::new();
        let installed = self.step("cargo-deny", || {
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
        self.stage("deny: bans, licences, sources", deny(&["check", "bans", "licenses", "sources"]));
        let reachable = Command::new("timeout")
            .arg(ADVISORY_SECONDS)
            .arg(&program)
            .args(["fetch", "db"])
            .current_dir(&self.root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if reachable {
            self.stage("deny: advisories", deny(&["check", "--disable-fetch", "advisories"]));
        } else {
            println!("SKIPPED deny advisories: the advisory database cannot be fetched from here");
            self.tally.skip("deny advisories", "the advisory database cannot be fetched from here");
        }
    }

    /// The chart, read by both Helm versions.
    fn chart(&mut self) {
        if !self.stage("cluster tools", xtask(["cluster", "tools"])) {
            return;
        }
        for helm in ["helm3", "helm4"] {
            let program = self.layout.bin.join(helm);
            let mut lint = Command::new(&program);
            lint.args(["lint", "--strict", "chart"]);
            self.stage(&format!("chart lint, {helm}"), lint);
        }
    }

    /// Image, cluster, tests, and the cluster gone again whatever happened.
    fn cluster_tests(&mut self, environment: &[(&str, String)], filter: Option<&str>) {
        if !self.stage("images", xtask(["images"])) {
            self.broken.push("end-to-end tests: not run, there is no image".into());
            return;
        }
        if self.stage("cluster up", xtask(["cluster", "up"])) {
            let mut tests = cargo(["test", "-p", "e2e", "--no-fail-fast", "--"]);
            tests.args(filter).args(["--test-threads=1", "--nocapture"]);
            tests.envs(environment.iter().map(|(key, value)| (key, value)));
            if !self.stage("end-to-end tests", tests) {
                eprintln!("== logs of the cluster: {}", self.layout.logs().display());
            }
        } else {
            eprintln!("== logs of the cluster: {}", self.layout.logs().display());
            self.broken.push("end-to-end tests: not run, the cluster did not come up".into());
        }
        self.stage("cluster down", xtask(["cluster", "down"]));
    }

    /// Prints the last lines: what failed, what was skipped and why, and the count alone on the last line.
    fn report(mut self, started: Instant) -> Result<ExitCode> {
        let failed = self.tally.failed + self.broken.len();
        let mut lines = vec![format!("\n== gate: {} s", started.elapsed().as_secs())];
        lines.extend(self.tally.failures.iter().chain(&self.broken).map(|what| format!("FAILED {what}")));
        lines.extend(self.tally.skipped.iter().map(|what| format!("SKIPPED {what}")));
        lines.push(format!(
            "{} passed, {failed} failed, {} skipped",
            self.tally.passed(),
            self.tally.skipped.len()
        ));
        for line in lines {
            writeln!(self.out, "{line}").context("cannot write to standard output")?;
        }
        Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The cargo that runs us.
pub(crate) fn cargo<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args);
    command
}

/// Another subcommand of ours, through cargo: `cargo test` may have replaced our own file by now.
pub(crate) fn xtask<I: IntoIterator<Item: AsRef<OsStr>>>(args: I) -> Command {
    let mut command = cargo(["run", "--quiet", "--package", "xtask", "--"]);
    command.args(args);
    command
}

/// Packages, toolchain components and targets. Each step is quick when there is nothing to do.
fn set_up() -> Result<()> {
    install_packages(PACKAGES)?;
    for (what, names) in [
        ("component", ["rustfmt", "clippy"]),
        ("target", ["x86_64-unknown-linux-musl", "aarch64-unknown-linux-musl"]),
    ] {
        let mut command = Command::new("rustup");
        succeed(command.args([what, "add"]).args(names))
            .context("rustup is missing or failed; see https://rustup.rs")?;
    }
    Ok(())
}

/// Installs those of the Debian packages that are missing.
fn install_packages(packages: &[&str]) -> Result<()> {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !package_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    succeed(Command::new("apt-get").args(["update", "-qq"])).with_context(|| {
        format!("install these packages by hand, then run this again: {}", missing.join(" "))
    })?;
    succeed(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&missing),
    )
}

fn package_installed(name: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f", "${Status}", name])
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

/// The pinned cargo-deny, built into the cache once.
fn install_deny() -> Result<PathBuf> {
    let folder = crate::cluster::cache()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = folder.join("bin/cargo-deny");
    if !program.exists() {
        println!("building cargo-deny {CARGO_DENY}, once; this takes some minutes");
        succeed(
            cargo(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"])
                .arg(&folder)
                .env_remove("CARGO_TARGET_DIR")
                // Built outside the workspace, so that its own settings do not apply.
                .current_dir(Path::new("/")),
        )?;
    }
    Ok(program)
}

/// Runs a command that prints for itself, and fails with its text when it fails.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", show(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", show(command));
    }
    Ok(())
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn failures_are_counted_once_and_later_stages_still_run() {
        let mut gate = Gate::new().unwrap();
        gate.out = Box::new(std::io::sink());
        // In two parts: the stage's failure shows its command, where the gate that runs this test would count it.
        let fails = "printf 'test %s\\n' 'result: FAILED. 3 passed; 2 failed;' >&2; exit 101";
        assert!(!gate.stage("tests", shell(fails)));
        assert!(!gate.stage("lint", shell("exit 1")));
        assert!(gate.stage("fine", shell("echo hello")));
        assert_eq!((gate.tally.passed(), gate.tally.failed), (3, 2));
        assert_eq!(gate.broken, ["lint: sh -c exit 1 ended with exit status: 1"]);
        assert_eq!(gate.report(Instant::now()).unwrap(), ExitCode::FAILURE);
    }
}
