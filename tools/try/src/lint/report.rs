//! Findings, as people and as programs read them.

use std::fmt::Write;

use serde_json::json;

use super::Finding;

/// Layout of the JSON report.
pub const FORMAT_VERSION: u32 = 1;

/// For people: place, rule and message on one line, so that editors can jump there; reason and remedy below.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding { rule, file, line, column, message, why, fix } = finding;
        // Writing into a string cannot fail.
        let _ = writeln!(out, "{file}:{line}:{column}: {message} [{rule}]\n    why: {why}\n    fix: {fix}");
    }
    out
}

/// For programs.
pub fn json(findings: &[Finding]) -> serde_json::Value {
    json!({ "formatVersion": FORMAT_VERSION, "findings": findings })
}
