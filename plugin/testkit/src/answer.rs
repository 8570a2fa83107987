//! What a plugin said to its runtime.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::process::Output;

use serde_json::Value;

/// How a call ended, and what was printed.
#[derive(Debug)]
pub struct Answer {
    /// Exit code 0.
    pub ok: bool,
    /// A result or an error object.
    pub stdout: String,
    /// The log.
    pub stderr: String,
}

impl Answer {
    /// From a process that has ended.
    pub fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Asserts that the call went well.
    #[track_caller]
    pub fn worked(&self) {
        assert!(self.ok, "{}{}", self.stdout, self.stderr);
    }

    /// The result of a call that went well.
    #[track_caller]
    pub fn result(&self) -> Value {
        self.worked();
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Code and line of a failure; asserts that the line is one and fits an event.
    #[track_caller]
    pub fn failure(&self) -> (u64, String) {
        assert!(!self.ok, "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        let line = error["msg"].as_str().unwrap().to_owned();
        assert!(line.chars().count() < 300 && !line.contains('\n'), "not one short line: {line}");
        (error["code"].as_u64().unwrap(), line)
    }
}
