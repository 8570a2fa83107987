//! Runs one plugin binary as the leader of its own process group, under a deadline.
//!
//! The calling thread must live until the plugin ends, best the main thread: the kernel ends a plugin when
//! the *thread* that started it dies. What is left of the group when its leader ends is killed.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::{
    chain::Watcher,
    config::valid_plugin_type,
    env::Command,
    error::{Error, code, one_line},
    pipes::{Caught, Pipes},
    process::{KILL_GRACE, signal_group, start_time, wait_until_gone},
    raw::Object,
    result::{MAX_SIZE, error_object},
    spawn::{Plugin, spawn},
};

/// A plugin that takes longer than this is worth a line in the log, even when all is well.
const SLOW: Duration = Duration::from_secs(60);
/// A line on standard error with one of these may hold a secret.
const SECRET_WORDS: [&str; 7] =
    ["token", "password", "passwd", "secret", "authorization", "bearer", "private key"];

/// One run of a plugin.
pub struct Invocation<'a> {
    /// The plugin's `type`.
    pub kind: &'a str,
    /// The verb.
    pub command: Command,
    /// Folders to look in.
    pub path: &'a [PathBuf],
    /// `CNI_*` variables on top of this process's environment.
    pub env: &'a [(&'static str, String)],
    /// Its configuration.
    pub stdin: &'a str,
    /// When it is ended.
    pub deadline: Instant,
    /// How long it may take to end after SIGTERM; see [`Runner::grace`](crate::chain::Runner::grace).
    pub grace: Duration,
    /// Told of the process.
    pub watcher: &'a dyn Watcher,
}

impl Invocation<'_> {
    /// How long the kernel may take to end the group.
    fn kill_grace(&self) -> Duration {
        if self.grace.is_zero() { Duration::from_millis(100) } else { KILL_GRACE }
    }

    /// How long a process that left the group may hold the pipes.
    fn drain_grace(&self) -> Duration {
        if self.grace.is_zero() { Duration::from_millis(50) } else { Duration::from_secs(1) }
    }
}

/// The binary of a plugin: the first regular file of that name in `path`.
pub fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf, Error> {
    if !valid_plugin_type(kind) {
        let msg = format!("type {:?} is no bare name of a plugin", one_line(kind, 60));
        return Err(Error::new(code::INVALID_CONFIG, msg));
    }
    let found =
        path.iter().map(|dir| dir.join(kind)).find(|file| fs::metadata(file).is_ok_and(|m| m.is_file()));
    found.ok_or_else(|| {
        let dirs: Vec<String> = path.iter().map(|dir| dir.display().to_string()).collect();
        let dirs = one_line(&dirs.join(":"), 120);
        // Not the words of ENOENT: runtimes take a DEL error with those for success.
        let msg =
            format!("plugin {kind} is missing in CNI_PATH {dirs}: install it there or correct the type");
        Error::new(code::INVALID_CONFIG, msg)
    })
}

/// Runs a plugin and returns what it printed. Its own error object becomes the error, with its code.
pub fn run(invocation: &Invocation<'_>) -> Result<Vec<u8>, Error> {
    let kind = invocation.kind;
    run_unnamed(invocation).map_err(|e| Error { msg: format!("plugin {kind}: {}", e.msg), ..e })
}

fn run_unnamed(invocation: &Invocation<'_>) -> Result<Vec<u8>, Error> {
    let binary = find(invocation.kind, invocation.path)?;
    let begin = Instant::now();
    let plugin = spawn(&binary, invocation.env, invocation.deadline)?;
    let group = plugin.pid.as_raw();
    // The plugin is not reaped before the end of `attend`, so this is its own start time for sure.
    let started = start_time(group);
    let recorded = match started {
        Some(started) => invocation.watcher.started(group, started),
        // Without it, nobody could end this group safely after a crash.
        None => Err(internal(format!("/proc/{group}/stat cannot be read: is /proc mounted?"))),
    };
    let attended = recorded.and_then(|()| attend(invocation, plugin));
    let ended = end_group(group, started.unwrap_or_default(), invocation.kill_grace());
    // A group that does not end stays recorded, so that a later call can try again.
    if started.is_some() && ended.is_ok() {
        invocation.watcher.ended(group);
    }
    let mut attended = attended?;
    let status = ended?;
    // The rest of the group is dead, so only a process that left the group can still hold a pipe.
    attended.pipes.drain(invocation.drain_grace());
    let caught = attended.pipes.into_caught();
    forward_stderr(invocation, &caught, status.success());
    if begin.elapsed() > SLOW {
        let (kind, verb) = (invocation.kind, invocation.command.as_str());
        log::warn!("plugin {kind}: {verb} took {} s", begin.elapsed().as_secs());
    }
    verdict(invocation, status, attended.timed_out, caught)
}

struct Attended {
    pipes: Pipes,
    timed_out: bool,
}

/// Feeds the plugin and listens to it until it ends or is given up.
fn attend(invocation: &Invocation<'_>, plugin: Plugin) -> Result<Attended, Error> {
    let group = plugin.pid.as_raw();
    let mut pipes = Pipes::new(plugin, invocation.stdin.as_bytes().to_vec())?;
    if pipes.serve_until(invocation.deadline)? {
        return Ok(Attended { pipes, timed_out: false });
    }
    if pipes.overflowed() {
        return Ok(Attended { pipes, timed_out: false });
    }
    if !invocation.grace.is_zero() {
        signal_group(group, Signal::SIGTERM)?;
        // Its end is not asked for: whatever is left is killed by the caller.
        pipes.serve_until(Instant::now() + invocation.grace)?;
    }
    Ok(Attended { pipes, timed_out: true })
}

/// Kills what is left of the group, the leader too, and reaps the leader. Until then the leader holds the
/// group's number, so the signal can hit nobody else.
fn end_group(group: i32, started: u64, grace: Duration) -> Result<ExitStatus, Error> {
    signal_group(group, Signal::SIGKILL)?;
    let end = Instant::now() + grace;
    let status = loop {
        match waitpid(Pid::from_raw(group), WaitOptions::NOHANG) {
            Ok(None) => {}
            Ok(Some((_, status))) => break ExitStatus::from_raw(status.as_raw()),
            Err(e) => return Err(internal(format!("its end cannot be read: {e}"))),
        }
        if Instant::now() >= end {
            let msg = format!("process {group} does not end, not even by SIGKILL: look at its state");
            return Err(Error::new(code::TRY_AGAIN_LATER, msg));
        }
        thread::sleep(Duration::from_millis(1));
    };
    if !wait_until_gone(group, started, grace) {
        let msg = format!("children of process {group} do not end, not even by SIGKILL: look at their state");
        return Err(Error::new(code::TRY_AGAIN_LATER, msg));
    }
    Ok(status)
}

fn verdict(
    invocation: &Invocation<'_>,
    status: ExitStatus,
    timed_out: bool,
    caught: Caught,
) -> Result<Vec<u8>, Error> {
    let command = invocation.command.as_str();
    if timed_out {
        let msg = format!("{command} did not end before its deadline, so it was ended");
        return Err(Error::new(code::TRY_AGAIN_LATER, msg));
    }
    if caught.overflowed {
        let msg = format!("{command} printed more than {} MB, so it was ended", MAX_SIZE >> 20);
        return Err(Error::new(code::DECODE, msg));
    }
    let text = std::str::from_utf8(&caught.stdout).ok();
    let object = text.and_then(|text| Object::parse_capped(text.trim(), MAX_SIZE).ok());
    if let Some(error) = object.as_ref().and_then(error_object) {
        return Err(error);
    }
    if status.success() {
        return Ok(caught.stdout);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => {
            let name =
                Signal::try_from(number).map_or_else(|_| number.to_string(), |s| s.as_str().to_owned());
            format!("was killed by signal {name}")
        }
        (None, None) => status.to_string(),
    };
    Err(internal(format!("{command} {how} and gave no CNI error: see what it wrote in the log")))
}

/// What a plugin writes to standard error goes to our log and nowhere else: it may hold secrets.
fn forward_stderr(invocation: &Invocation<'_>, caught: &Caught, success: bool) {
    let level = if success { log::Level::Info } else { log::Level::Warn };
    for line in String::from_utf8_lossy(&caught.stderr).lines().filter(|line| !line.trim().is_empty()) {
        let lower = line.to_ascii_lowercase();
        let secret = SECRET_WORDS.iter().any(|word| lower.contains(word));
        let line = if secret { "(a line that may hold a secret)".to_owned() } else { one_line(line, 1000) };
        log::log!(level, "plugin {} {}: {line}", invocation.kind, invocation.command.as_str());
    }
}

fn internal(msg: String) -> Error {
    Error::new(code::INTERNAL, msg)
}
