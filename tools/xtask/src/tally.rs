//! Reads the output of `cargo test` as it streams by and keeps count.
//!
//! `cargo test` calls a skipped test passed. Here a skipped test is one that printed `SKIPPED name: reason`
//! (see `testkit::skip`), and it does not count as passed.

use std::collections::BTreeSet;

/// Counts over all test programs of a run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What `test result:` lines call passed, skipped ones included.
    reported: usize,
    /// How many of [`Tally::skipped`] are tests, which were reported as passed.
    skipped_tests: usize,
    /// Tests that failed.
    pub(crate) failed: usize,
    /// `name: reason` of each skipped test, in the order seen.
    pub(crate) skipped: Vec<String>,
    /// Names of tests that failed.
    pub(crate) failures: Vec<String>,
    /// Programs below `tests/` that have no test at all: what was in them has gone.
    pub(crate) empty: Vec<String>,
    /// Two tests of different programs may share a name, so names are told apart by program.
    seen: BTreeSet<(String, String)>,
    program: String,
    current: String,
}

impl Tally {
    /// Tests that ran, whatever came of it; one that skipped itself ran too.
    pub(crate) fn ran(&self) -> usize {
        self.reported + self.failed
    }

    /// Tests that ran and held.
    pub(crate) fn passed(&self) -> usize {
        self.reported.saturating_sub(self.skipped_tests)
    }

    /// Counts a check that could not run here.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(format!("{name}: {reason}"));
    }

    /// Takes in one line of output.
    pub(crate) fn line(&mut self, line: &str) {
        let text = line.trim();
        if let Some(program) = text.strip_prefix("Running ").or_else(|| text.strip_prefix("Doc-tests ")) {
            self.program = program.to_owned();
            return;
        }
        // Output of a test may stand before or after what the harness says on the same line.
        if let Some(at) = line.find("test result: ") {
            let count = |what| number_before(&line[at..], what);
            let (passed, failed) = (count(" passed"), count(" failed"));
            self.reported += passed;
            self.failed += failed;
            if self.program.starts_with("tests/") && passed + failed + count(" filtered") == 0 {
                self.empty.push(self.program.split(' ').next().unwrap_or_default().to_owned());
            }
            return;
        }
        if let Some((name, _)) = text.strip_prefix("test ").and_then(|rest| rest.split_once(" ...")) {
            self.current = name.to_owned();
            if text.ends_with("... FAILED") {
                self.failures.push(name.to_owned());
            }
        } else if text == "FAILED" && !self.current.is_empty() {
            self.failures.push(self.current.clone());
        }
        if let Some(at) = line.find("SKIPPED ") {
            self.skip_line(&line[at + "SKIPPED ".len()..]);
        }
    }

    fn skip_line(&mut self, text: &str) {
        let Some((name, reason)) = text.split_once(": ") else { return };
        // With one thread the harness runs tests on its main thread, which has no test's name.
        let name = if name == "main" && !self.current.is_empty() { self.current.as_str() } else { name };
        if self.seen.insert((self.program.clone(), name.to_owned())) {
            self.skipped.push(format!("{name}: {}", reason.trim()));
            self.skipped_tests += 1;
        }
    }
}

/// The number that stands right before `word`, else 0.
fn number_before(text: &str, word: &str) -> usize {
    text.split(word)
        .next()
        .filter(|before| before.len() < text.len())
        .and_then(|before| before.rsplit(' ').next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally
    }

    #[test]
    fn a_skipped_test_is_not_a_passed_one() {
        let tally = tally(
            "     Running unittests src/lib.rs (target/debug/deps/a-1)\n\
             SKIPPED tests::needs_root: not root\n\
             SKIPPED tests::needs_root: not root\n\
             test tests::needs_root ... ok\ntest tests::b ... ok\ntest tests::c ... FAILED\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!((tally.passed(), tally.failed), (1, 1));
        assert_eq!(tally.skipped, ["tests::needs_root: not root"]);
        assert_eq!(tally.failures, ["tests::c"]);
    }

    #[test]
    fn with_one_thread_the_name_comes_from_the_harness() {
        let tally = tally(
            "     Running tests/net.rs (x)\n\
             test two_nodes ... SKIPPED main: one node only\nok\n\
             test breaks ... some output\nFAILED\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!(tally.skipped, ["two_nodes: one node only"]);
        assert_eq!(tally.failures, ["breaks"]);
        assert_eq!((tally.passed(), tally.failed), (0, 1));
    }

    #[test]
    fn programs_add_up_and_keep_their_names_apart() {
        let one = "     Running a (x)\nSKIPPED t: why\ntest result: ok. 2 passed; 0 failed;\n";
        let two = "     Running b (y)\nSKIPPED t: why\nnoise test result: ok. 3 passed; 0 failed;\n";
        let mut tally = tally(&format!("{one}{two}"));
        assert_eq!((tally.passed(), tally.failed, tally.skipped.len()), (3, 0, 2));
        tally.skip("advisories", "offline");
        assert_eq!((tally.passed(), tally.skipped.len()), (3, 3));
    }
}
