//! A run of checks: stages one after another, their tests counted, and the last lines that say how it went.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::command::show;
use crate::tally::Tally;

/// What ran so far, and how it went.
pub(crate) struct Gate {
    tally: Tally,
    /// Stages that failed without a failed test: each counts as one failure.
    broken: Vec<String>,
    root: PathBuf,
    started: Instant,
    /// Where output goes. Standard output, but in tests: there it would be counted by the gate that runs them.
    out: Box<dyn Write>,
}

impl Gate {
    /// A gate through which nothing went yet.
    pub(crate) fn new() -> Self {
        Self {
            tally: Tally::default(),
            broken: Vec::new(),
            root: crate::tidy::repository(),
            started: Instant::now(),
            out: Box::new(std::io::stdout()),
        }
    }

    /// Runs a command as a stage, streaming what it prints. True when it held.
    pub(crate) fn stage(&mut self, name: &str, mut command: Command) -> bool {
        let failed = self.tally.failed;
        let result = self.stream(name, &mut command);
        self.close(name, failed, result)
    }

    /// Runs a stage that consists of tests: one that ran none has failed, whatever it says.
    pub(crate) fn tests(&mut self, name: &str, command: Command) -> bool {
        let (ran, empty) = (self.tally.ran(), self.tally.empty.len());
        let held = self.stage(name, command);
        let none = held && self.tally.ran() == ran;
        if none {
            self.broken(format!("{name}: not one test ran"));
        }
        let empty = self.tally.empty.split_off(empty);
        for program in &empty {
            self.broken(format!("{name}: {program} has no test that ran"));
        }
        held && !none && empty.is_empty()
    }

    /// Runs a function as a stage.
    pub(crate) fn step(&mut self, name: &str, body: impl FnOnce() -> Result<()>) -> bool {
        self.say(&format!("\n== {name}"));
        let result = body();
        self.close(name, self.tally.failed, result)
    }

    /// Notes a check that could not run here.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.say(&format!("SKIPPED {name}: {reason}"));
        self.tally.skip(name, reason);
    }

    /// Notes a failure that is no failed test.
    pub(crate) fn broken(&mut self, what: String) {
        self.say(&format!("== FAILED {what}"));
        self.broken.push(what);
    }

    fn close(&mut self, name: &str, failed_before: usize, result: Result<()>) -> bool {
        let Err(error) = result else { return true };
        self.say(&format!("== FAILED {name}: {error:#}"));
        if self.tally.failed == failed_before {
            self.broken.push(format!("{name}: {error:#}"));
        }
        false
    }

    fn say(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Whoever reads may have gone; the checks go on and the exit code still tells.
    fn write(&mut self, bytes: &[u8]) {
        drop(self.out.write_all(bytes));
    }

    /// Runs the command with both outputs in one pipe, so that their order is kept, and counts its tests.
    fn stream(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.say(&format!("\n== {name}"));
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
            self.write(&line);
            self.tally.line(&String::from_utf8_lossy(&line));
            line.clear();
        }
        let status = child.wait().context("cannot wait for the command")?;
        self.say(&format!("== {name}: {} s", started.elapsed().as_secs()));
        if !status.success() {
            bail!("{} ended with {status}", show(command));
        }
        Ok(())
    }

    /// Prints the last lines: what failed, what was skipped and why, and the count alone on the last line.
    pub(crate) fn report(mut self) -> ExitCode {
        let failed = self.tally.failed + self.broken.len();
        let mut lines = vec![format!("\n== gate: {} s", self.started.elapsed().as_secs())];
        lines.extend(self.tally.failures.iter().chain(&self.broken).map(|what| format!("FAILED {what}")));
        lines.extend(self.tally.skipped.iter().map(|what| format!("SKIPPED {what}")));
        lines.push(format!(
            "{} passed, {failed} failed, {} skipped",
            self.tally.passed(),
            self.tally.skipped.len()
        ));
        lines.iter().for_each(|line| self.say(line));
        if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Gate {
        Gate { out: Box::new(std::io::sink()), ..Gate::new() }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// Prints the line of the test harness, put together by the shell: as a whole it would be counted by the gate
    /// that runs these tests, for a failed stage shows its command.
    fn harness(program: &str, result: &str) -> Command {
        shell(&format!("printf 'Running %s\\ntest %s\\n' '{program} (x)' 'result: {result}'"))
    }

    #[test]
    fn failures_are_counted_once_and_later_stages_still_run() {
        let mut gate = silent();
        let fails = "printf 'test %s\\n' 'result: FAILED. 3 passed; 2 failed;' >&2; exit 101";
        assert!(!gate.stage("tests", shell(fails)));
        assert!(!gate.stage("lint", shell("exit 1")));
        assert!(gate.stage("fine", shell("echo hello")));
        assert_eq!((gate.tally.passed(), gate.tally.failed), (3, 2));
        assert_eq!(gate.broken, ["lint: sh -c exit 1 ended with exit status: 1"]);
        assert_eq!(gate.report(), ExitCode::FAILURE);
    }

    #[test]
    fn tests_that_do_not_run_fail_the_gate() {
        let some = "ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let none = "ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let all_filtered = "ok. 0 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out";

        let mut gate = silent();
        assert!(gate.tests("some", harness("tests/a.rs", some)));
        assert_eq!(gate.report(), ExitCode::SUCCESS);

        let mut gate = silent();
        assert!(gate.tests("some", harness("tests/a.rs", some)));
        assert!(!gate.tests("nothing", shell("echo all is well")));
        assert!(!gate.tests("filter", harness("tests/a.rs", all_filtered)));
        assert_eq!(gate.broken, ["nothing: not one test ran", "filter: not one test ran"]);
        assert_eq!(gate.report(), ExitCode::FAILURE);

        let mut gate = silent();
        let mixed =
            format!("printf 'Running tests/%s (x)\\ntest %s\\n' a.rs 'result: {some}' b.rs 'result: {none}'");
        assert!(!gate.tests("mixed", shell(&mixed)));
        assert_eq!(gate.broken, ["mixed: tests/b.rs has no test that ran"]);
        assert_eq!(gate.report(), ExitCode::FAILURE);

        // A crate's own tests may be elsewhere, and a filter of the soak leaves programs empty.
        let mut gate = silent();
        let mixed = format!(
            "printf 'Running %s (x)\\ntest %s\\n' unittests 'result: {none}' tests/a.rs 'result: {all_filtered}' tests/b.rs 'result: {some}'"
        );
        assert!(gate.tests("soak", shell(&mixed)));
    }
}
