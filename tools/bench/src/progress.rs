//! What one sees while the measurements run, on standard error.

use std::{io::IsTerminal, time::Instant};

/// Tells what runs.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), terminal: std::io::stderr().is_terminal() }
    }

    /// A part begins.
    pub(crate) fn begin(&self, what: &str) {
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            eprint!("\r\x1b[K{seconds:>4} s  {what}");
        } else {
            eprintln!("{seconds:>4} s  {what}");
        }
    }

    /// So much of it is done; a log file gets no line for each step.
    pub(crate) fn step(&self, what: &str, done: usize, of: usize) {
        if self.terminal {
            let seconds = self.started.elapsed().as_secs();
            let end = if done == of { "\n" } else { "" };
            eprint!("\r\x1b[K{seconds:>4} s  {what}: {done} of {of}{end}");
        }
    }
}
