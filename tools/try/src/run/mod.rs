//! Running networks: what is done, where, and what came of it.
//!
//! This process makes the task and shows the report. A child process is the host ([`host`]): throw-away in namespaces
//! that end with it ([`veil`]), or the machine itself ([`machine`]). There, [`pods`] makes the calls that a container
//! runtime would make, to the code that a runtime would run. [`record`] stands between Multus and the plugins.

pub mod cluster;
pub mod events;
pub mod host;
pub mod ip;
pub mod leaks;
pub mod machine;
pub mod plugins;
pub mod pods;
pub mod preflight;
pub mod reach;
pub mod record;
pub mod report;
pub mod sandbox;
pub mod task;
pub mod veil;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, getegid, geteuid},
};

use events::Event;
use report::Report;
use task::Task;

/// Does the task on a host of its own, and tells `progress` what is being done.
///
/// # Errors
/// When the host cannot be made; what a network does is in the report.
pub fn run(task: &Task, mut progress: impl FnMut(&str)) -> Result<Report> {
    if !task.machine {
        namespaces()?;
    }
    let mut host = Command::new("/proc/self/exe")
        .env(sandbox::ROLE, host::ROLE)
        .envs(host::environment(&task.base, &task.plugin_dirs)?)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the host's process")?;
    let mut line = serde_json::to_string(task).context("cannot write the task")?;
    line.push('\n');
    let mut stdin = host.stdin.take().ok_or_else(|| anyhow!("the host's process has no input"))?;
    stdin.write_all(line.as_bytes()).context("the host's process ended at once")?;
    let stdout = host.stdout.take().ok_or_else(|| anyhow!("the host's process has no output"))?;
    let mut outcome = None;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the host says")?;
        match serde_json::from_str(&line)
            .with_context(|| format!("cannot read what the host says: {line}"))?
        {
            Event::Progress(text) => progress(&text),
            Event::Done(report) => outcome = Some(Ok(*report)),
            Event::Failed(why) => outcome = Some(Err(anyhow!(why))),
        }
    }
    let status = host.wait().context("cannot await the host's process")?;
    outcome.unwrap_or_else(|| bail!("the host's process ended before its work ({status})"))
}

/// Namespaces for the host's process: of processes, so that none survives it; of users, where we are not root.
fn namespaces() -> Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return unshare(CloneFlags::CLONE_NEWPID).context(
            "cannot make namespaces: this container lacks CAP_SYS_ADMIN; run it privileged, or use --lint",
        );
    }
    let refused = "needs root: this kernel gives users no namespaces of their own; use sudo, or --lint, which needs none";
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWPID).context(refused)?;
    let write = |file: &str, text: String| {
        fs::write(Path::new("/proc/self").join(file), text)
            .with_context(|| format!("{refused} (/proc/self/{file})"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

/// Whether this process may change the machine.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}
