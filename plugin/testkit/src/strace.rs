//! Faults at system calls: strace runs a program and, at the n-th call of a name, kills it or makes the call fail.
//!
//! A point is `(name, n)`. All points of a program are found by one run without faults. The gate tries a sample of
//! them, whose seed is printed and can be given back as `FAULT_SEED`; `FAULT_POINTS=all` tries every one.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::random::Random;

/// Calls that change a file system, or bring a change to the disk.
const WRITING: [&str; 18] = [
    "openat",
    "write",
    "pwrite64",
    "writev",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "fchmod",
    "fchmodat",
    "ftruncate",
    "flock",
];

/// What happens at a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, before the call is carried out.
    Kill,
    /// The call fails with this error.
    Error(&'static str),
}

/// The `nth` call of that name, by any thread or child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Name of the system call.
    pub call: String,
    /// Counted from one.
    pub nth: usize,
    /// What happens there.
    pub fault: Fault,
}

/// Whether strace can be used here; else the test is skipped, visibly.
pub fn available() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if works.is_ok_and(|done| done.status.success()) {
        return true;
    }
    crate::skip("strace is missing or may not trace here; apt-get install strace");
    false
}

/// `command` under strace, writing what it calls to `log`, with the fault of `point`.
pub fn under(command: &Command, log: &Path, point: Option<&Point>) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o"]).arg(log);
    if let Some(Point { call, nth, fault }) = point {
        let fault = match fault {
            Fault::Kill => "signal=SIGKILL".to_owned(),
            Fault::Error(name) => format!("error={name}"),
        };
        traced.arg("-e").arg(format!("inject={call}:{fault}:when={nth}"));
    }
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

/// The process that a running strace started, once it has.
pub fn traced(strace: u32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{strace}/task/{strace}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Every point of a run that strace wrote to `log`: a kill at each call, and each error at those that write.
pub fn points(log: &Path, errors: &[&'static str]) -> Result<Vec<Point>> {
    let text = fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        if !call.is_empty() && call.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            *counts.entry(call).or_default().entry(pid).or_default() += 1;
        }
    }
    let mut points = Vec::new();
    for (call, by_process) in counts {
        // strace counts for each thread.
        for nth in 1..=by_process.values().copied().max().unwrap_or(0) {
            let mut add = |fault| points.push(Point { call: call.to_owned(), nth, fault });
            add(Fault::Kill);
            if WRITING.contains(&call) {
                errors.iter().for_each(|error| add(Fault::Error(error)));
            }
        }
    }
    if points.is_empty() {
        bail!("{} has no system calls", log.display());
    }
    Ok(points)
}

/// All of them when `FAULT_POINTS=all`, else `most` of them by a seed, which is printed.
pub fn sample(mut points: Vec<Point>, most: usize) -> Vec<Point> {
    let all = points.len();
    if std::env::var("FAULT_POINTS").is_ok_and(|text| text == "all") {
        println!("fault points: all {all}");
        return points;
    }
    println!("fault points: {} of {all}", most.min(all));
    let mut random = Random::seeded("FAULT_SEED");
    // Calls that write are where files could break: each stands for many of the others.
    let mut chosen = Vec::new();
    while chosen.len() < most && !points.is_empty() {
        let at = random.below(points.len());
        let point = points.swap_remove(at);
        if WRITING.contains(&point.call.as_str()) || random.below(6) == 0 {
            chosen.push(point);
        }
    }
    chosen
}
