//! One call of a plugin as a runtime makes it, timed from before the start of the process to after its end.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// What a runtime starts, and what it hands over.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) binary: PathBuf,
    pub(crate) env: Vec<(&'static str, String)>,
    pub(crate) stdin: String,
}

/// Runs the calls one after the other. The time is that of all of them.
pub(crate) fn run(calls: &[Call], log: &Path) -> Result<Duration> {
    let mut took = Duration::ZERO;
    for call in calls {
        took += once(call, log)?;
    }
    Ok(took)
}

fn once(call: &Call, log: &Path) -> Result<Duration> {
    let errors = File::options().append(true).create(true).open(log)?;
    let mut command = Command::new(&call.binary);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(call.env.iter().cloned());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
    let begin = Instant::now();
    let mut child = command.spawn().with_context(|| call.binary.display().to_string())?;
    // Dropped right after: the end of the pipe is the end of the config.
    child.stdin.take().context("no pipe")?.write_all(call.stdin.as_bytes())?;
    let mut answer = String::new();
    child.stdout.take().context("no pipe")?.read_to_string(&mut answer)?;
    let status = child.wait()?;
    let took = begin.elapsed();
    if !status.success() {
        bail!("{} failed ({status}): {answer}; its log: {}", call.binary.display(), log.display());
    }
    Ok(took)
}
