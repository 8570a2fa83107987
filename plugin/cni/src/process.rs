//! Processes by their kernel identity, and how a group of them is ended.

use std::{
    fs,
    io::Read,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::error::{Error, code};

/// How long a group may take to end after SIGTERM.
pub const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the kernel may take to end a group after SIGKILL.
pub const KILL_GRACE: Duration = Duration::from_secs(5);
/// These processes are not our children, so there is nothing to wait on: their end is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What `/proc/PID/stat` says and is needed here.
struct Stat {
    state: char,
    group: i32,
    start_time: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    // In one read: such a file does not say its size, and none is longer.
    let mut text = [0; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut text).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    // The second field is the program's name and may itself contain blanks and brackets.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let start_time = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, group, start_time })
}

/// When a process started, in ticks since boot (field 22 of its `stat`). With the pid it names one process of
/// this boot for good.
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|s| s.start_time)
}

/// Members of a group that still run, without those that only wait to be reaped.
fn running_members(group: i32, not_before: u64) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        stat(*pid)
            .is_some_and(|s| s.group == group && s.start_time >= not_before && !matches!(s.state, 'Z' | 'X'))
    })
    .collect()
}

/// Ends a group recorded earlier by its leader's pid and start time: SIGTERM, a bounded wait, SIGKILL, and a
/// wait until no member runs. Members whose leader is gone are ended too. A group that no longer exists, or
/// whose number now belongs to another process, is success: the kernel reuses the number only when no member
/// is left.
pub fn kill_group(group: i32, start_time_of_leader: u64) -> Result<(), Error> {
    // 0 and 1 would mean our own group or everything.
    if group <= 1 || stat(group).is_some_and(|s| s.start_time != start_time_of_leader) {
        return Ok(());
    }
    for (signal, grace) in [(Signal::SIGTERM, TERM_GRACE), (Signal::SIGKILL, KILL_GRACE)] {
        if running_members(group, start_time_of_leader).is_empty() {
            return Ok(());
        }
        signal_group(group, signal)?;
        if wait_until_gone(group, start_time_of_leader, grace) {
            return Ok(());
        }
    }
    let left = running_members(group, start_time_of_leader);
    let msg =
        format!("processes {left:?} of an earlier call do not end, not even by SIGKILL: look at their state");
    Err(Error::new(code::TRY_AGAIN_LATER, msg))
}

/// Signals a group; one that is already gone is success.
pub(crate) fn signal_group(group: i32, signal: Signal) -> Result<(), Error> {
    match killpg(Pid::from_raw(group), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(Error::new(code::INTERNAL, format!("process group {group} cannot be signalled: {e}"))),
    }
}

/// True when no member of the group runs any more within `grace`.
pub(crate) fn wait_until_gone(group: i32, not_before: u64, grace: Duration) -> bool {
    let end = Instant::now() + grace;
    loop {
        // The cheap question first: an empty group needs no look at every process of the machine.
        let empty = killpg(Pid::from_raw(group), None) == Err(Errno::ESRCH);
        if empty || running_members(group, not_before).is_empty() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
}
