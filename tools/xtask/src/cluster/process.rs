//! Starting processes in a node (or in the control plane's network namespace), finding and ending them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::layout::{Layout, netns};
use super::{cgroup, probe};

/// Enters the cgroups that are named first, then becomes the command.
const ENTER: &str = r#"for group in $1; do echo 0 > "$group/cgroup.procs"; done; shift; exec "$@""#;

/// A started process. A pid alone may be somebody else's by now, so its start time is kept with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) group: String,
    pub(super) component: String,
    pub(super) pid: i32,
    started: u64,
}

/// State and start time of a process, as `/proc/PID/stat` has them.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: the fields are counted after the last bracket.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

fn is_live(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

impl Record {
    pub(super) fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }
    pub(super) fn is_stopped(&self) -> bool {
        stat(self.pid).is_some_and(|(state, _)| state == 'T')
    }
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            bail!("{}/{} does not run; see `cargo xtask cluster status`", self.group, self.component);
        }
        kill(Pid::from_raw(self.pid), signal).with_context(|| {
            format!("cannot send {signal} to {}/{} (pid {})", self.group, self.component, self.pid)
        })
    }
}

/// Reads the records of all processes that were started.
pub(super) fn records(layout: &Layout) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    let folder = layout.records();
    if !folder.exists() {
        return Ok(found);
    }
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // A crash while writing leaves a record that says nothing; the process is then found by its cgroup.
        if let Ok(record) = serde_json::from_slice(&text) {
            found.push(record);
        }
    }
    found.sort_by(|a: &Record, b| (&a.group, &a.component).cmp(&(&b.group, &b.component)));
    Ok(found)
}

/// The record of one process.
pub(super) fn record(layout: &Layout, group: &str, component: &str) -> Result<Record> {
    records(layout)?.into_iter().find(|r| r.group == group && r.component == component).ok_or_else(|| {
        anyhow!("no {component} was started for {group}; start the cluster with `cargo xtask cluster up`")
    })
}

/// A command inside the namespaces and cgroups of `group`; `holder` keeps the mount namespace, if it has one.
pub(super) fn command_in(group: &str, holder: Option<i32>, program: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", netns(group)));
    if let Some(pid) = holder {
        command.arg(format!("--mount=/proc/{pid}/ns/mnt"));
    }
    command.args(["--", "sh", "-c", ENTER, "sh"]).arg(cgroup::service_groups(group)?.join(" ")).arg(program);
    Ok(command)
}

/// Starts a process that outlives this one, with its output in a file of the log folder.
pub(super) fn start(layout: &Layout, group: &str, component: &str, inner: &Command) -> Result<Record> {
    let log = log_path(layout, group, component);
    let file = fs::OpenOptions::new().create(true).append(true).open(&log);
    let file = file.with_context(|| format!("cannot write the log {}", log.display()))?;
    // A session of its own, or Ctrl-C in the terminal of `up` would end the cluster.
    let mut command = Command::new("setsid");
    command.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let child = command.spawn().with_context(|| format!("cannot start {component}"))?;
    let pid = i32::try_from(child.id())?;
    let (_, started) =
        stat(pid).ok_or_else(|| anyhow!("{component} ended at once; its log: {}", log.display()))?;
    let record = Record { group: group.into(), component: component.into(), pid, started };
    let path = layout.records().join(format!("{group}.{component}.json"));
    fs::write(&path, serde_json::to_vec(&record)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(record)
}

fn log_path(layout: &Layout, group: &str, component: &str) -> std::path::PathBuf {
    let prefix = if group == super::layout::CONTROL { String::new() } else { format!("{group}-") };
    layout.logs().join(format!("{prefix}{component}.log"))
}

/// Fails with the end of the log if the process has ended.
pub(super) fn check_alive(layout: &Layout, record: &Record) -> Result<()> {
    if record.is_alive() {
        return Ok(());
    }
    let log = log_path(layout, &record.group, &record.component);
    let text = fs::read_to_string(&log).unwrap_or_default();
    let last: String = text.lines().last().unwrap_or("(empty)").chars().take(160).collect();
    bail!("{}/{} ended: {last}; its log: {}", record.group, record.component, log.display())
}

/// Ends every process of a group: those in its cgroups, in its network namespace, and those recorded.
/// SIGKILL and no farewell, as a power cut.
pub(super) fn kill_group(layout: &Layout, group: &str) -> Result<usize> {
    let mut killed = BTreeSet::new();
    probe::until(&format!("the end of all processes of {group}"), Duration::from_secs(20), || {
        // Looked up again each time: what is alive may have forked meanwhile.
        let live = members(layout, group)?;
        for &pid in &live {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => killed.insert(pid),
                Err(error) => bail!("cannot kill pid {pid} of {group}: {error}"),
            };
        }
        Ok(live.is_empty())
    })?;
    for record in records(layout)?.iter().filter(|record| record.group == group) {
        let path = layout.records().join(format!("{group}.{}.json", record.component));
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(killed.len())
}

fn members(layout: &Layout, group: &str) -> Result<BTreeSet<i32>> {
    let mut pids = cgroup::members(group)?;
    pids.extend(records(layout)?.iter().filter(|r| r.group == group && r.is_alive()).map(|r| r.pid));
    if let Ok(wanted) = fs::metadata(Path::new("/run/netns").join(netns(group))) {
        for entry in fs::read_dir("/proc").context("cannot list /proc")? {
            let entry = entry?;
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // It may have ended since it was listed.
            let Ok(found) = fs::metadata(entry.path().join("ns/net")) else { continue };
            if (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()) {
                pids.insert(pid);
            }
        }
    }
    pids.retain(|&pid| is_live(pid));
    Ok(pids)
}
