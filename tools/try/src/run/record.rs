//! A plugin in the place of another: notes what it received and answered, and lets the other do the work.
//!
//! The throw-away host's folder of plugins holds this binary under the name of every plugin. So the calls that a
//! plugin makes itself, as to its IPAM plugin, are seen too.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{report::Call, sandbox};

/// File that calls are noted in.
pub const CALLS: &str = "MULTUS_TRY_CALLS";
/// Folders of the plugins that do the work.
pub const PLUGINS: &str = "MULTUS_TRY_PLUGINS";
/// How deep in a chain of calls this one is.
const DEPTH: &str = "MULTUS_TRY_DEPTH";

/// A line of the file: a call as it begins, or how it ended.
#[derive(Serialize, Deserialize)]
enum Line {
    Began { pid: u32, call: Call },
    Ended { pid: u32, milliseconds: f64, exit: Option<i32>, answered: String },
}

/// Serves one call in the place of the plugin `name`.
pub fn serve(name: &str) -> ExitCode {
    match forward(name) {
        Ok(code) => code,
        Err(error) => {
            let error = cni::error::Error::new(cni::error::code::INTERNAL, format!("multus-try: {error:#}"));
            println!("{}", error.to_json("1.0.0"));
            ExitCode::FAILURE
        }
    }
}

fn forward(name: &str) -> Result<ExitCode> {
    let mut received = Vec::new();
    io::stdin().read_to_end(&mut received).context("reading the config")?;
    let var = |key: &str| std::env::var(key).unwrap_or_default();
    let depth: u32 = var(DEPTH).parse().unwrap_or_default();
    let calls = PathBuf::from(var(CALLS));
    let pid = std::process::id();
    let call = Call {
        plugin: name.to_owned(),
        verb: var("CNI_COMMAND"),
        interface: var("CNI_IFNAME"),
        args: var("CNI_ARGS"),
        depth,
        began: now(),
        received: String::from_utf8_lossy(&received).into_owned(),
        ..Call::default()
    };
    note(&calls, &Line::Began { pid, call })?;
    let begin = Instant::now();
    let mut child = real(name, &var(PLUGINS))?
        .env(DEPTH, (depth + 1).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that does not read its config has its own reasons.
        drop(stdin.write_all(&received));
    }
    let output = child.wait_with_output().with_context(|| format!("awaiting {name}"))?;
    let exit = output.status.code();
    let answered = String::from_utf8_lossy(&output.stdout).into_owned();
    note(&calls, &Line::Ended { pid, milliseconds: begin.elapsed().as_secs_f64() * 1000.0, exit, answered })?;
    io::stdout().write_all(&output.stdout).context("answering")?;
    Ok(exit.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The plugin that does the work.
fn real(name: &str, folders: &str) -> Result<Command> {
    if name == sandbox::TYPE {
        let mut command = Command::new("/proc/self/exe");
        command.env(sandbox::ROLE, sandbox::TYPE);
        return Ok(command);
    }
    let folders: Vec<PathBuf> = std::env::split_paths(folders).collect();
    let path = cni::exec::find(name, &folders).map_err(|error| anyhow::anyhow!("{}", error.msg))?;
    Ok(Command::new(path))
}

fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// In one write, so that calls that run side by side do not split each other's lines.
fn note(file: &Path, line: &Line) -> Result<()> {
    let mut text = serde_json::to_string(line).context("writing down the call")?;
    text.push('\n');
    let mut file =
        OpenOptions::new().append(true).create(true).open(file).context("opening the file of calls")?;
    file.write_all(text.as_bytes()).context("writing down the call")
}

/// The calls noted behind the first `skip` bytes, in the order they began, and how long the file is now.
///
/// # Errors
/// When the file cannot be read.
pub fn calls(file: &Path, skip: usize) -> Result<(Vec<Call>, usize)> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        other => other.context("reading the file of calls")?,
    };
    let mut calls: Vec<(u32, Call)> = Vec::new();
    for line in text.get(skip..).unwrap_or_default().lines() {
        match serde_json::from_str(line).context("reading a noted call")? {
            Line::Began { pid, call } => calls.push((pid, call)),
            Line::Ended { pid, milliseconds, exit, answered } => {
                if let Some((_, call)) = calls.iter_mut().rev().find(|(known, _)| *known == pid) {
                    *call = Call { milliseconds, exit, answered, ..call.clone() };
                }
            }
        }
    }
    Ok((calls.into_iter().map(|(_, call)| call).collect(), text.len()))
}
