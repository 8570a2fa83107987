//! Requests per pod, counted in the API server's own audit log.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::{serial::Load, stats::median, subject::Kind, world::Pod};

/// How long nothing may be logged until all is said to be logged: events and the status of plain pods come later.
const QUIET: Duration = Duration::from_secs(3);

/// When the ADD of a pod ran, and later its DEL.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pod: String,
    begin: f64,
    added: f64,
    deleting: f64,
    deleted: f64,
}

impl Window {
    pub(crate) fn new(pod: &Pod, [begin, added, deleting, deleted]: [SystemTime; 4]) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let [begin, added, deleting, deleted] = [begin, added, deleting, deleted].map(seconds);
        Self { pod: pod.name.clone(), begin, added, deleting, deleted }
    }
}

/// What one subject asked of the API server for the pods of one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Requests {
    pub(crate) subject: Kind,
    pub(crate) load: Load,
    /// Requests per pod that its ADD waits for: all but events, received while it ran.
    pub(crate) awaited: f64,
    /// The same of its DEL.
    pub(crate) awaited_by_del: f64,
    /// Requests per pod of every kind, before or after the end of the ADD, as `VERB RESOURCE`.
    pub(crate) all: BTreeMap<String, f64>,
    /// The API server's own time for one write of the status, in microseconds, the median.
    pub(crate) status_write: f64,
}

/// An answered request.
struct Entry {
    kind: String,
    name: String,
    event: bool,
    received: f64,
    answered: f64,
}

/// Waits until the log stays as it is.
pub(crate) fn settle(log: &Path) -> Result<()> {
    let size = || fs::metadata(log).map(|file| file.len()).context("the audit log");
    let mut before = size()?;
    loop {
        thread::sleep(QUIET);
        let now = size()?;
        // Watches and leases of the server itself go on; a pod is several hundred bytes.
        if now.saturating_sub(before) < 100 * 1024 {
            return Ok(());
        }
        before = now;
    }
}

/// Counts what concerns the pods of these windows.
pub(crate) fn count(log: &Path, subject: Kind, load: Load, windows: &[Window]) -> Result<Requests> {
    let text = fs::read_to_string(log).context("the audit log")?;
    let mine: Vec<Entry> = text.lines().filter_map(|line| read(line, subject.namespace())).collect();
    let pods: HashMap<&str, &Window> = windows.iter().map(|window| (window.pod.as_str(), window)).collect();
    // An event's name begins with the pod's.
    let of_pod = |entry: &Entry| {
        let pod = entry.name.split('.').next().unwrap_or_default();
        pods.contains_key(pod)
    };
    let inside = |entry: &Entry, part: fn(&Window) -> (f64, f64)| {
        !entry.event
            && windows.iter().map(part).any(|(from, to)| from <= entry.received && entry.received <= to)
    };
    let (mut awaited, mut awaited_by_del) = (0_usize, 0_usize);
    let (mut all, mut writes) = (BTreeMap::<String, usize>::new(), Vec::new());
    for entry in &mine {
        let waited = inside(entry, |window| (window.begin, window.added));
        let waited_by_del = !waited && inside(entry, |window| (window.deleting, window.deleted));
        awaited_by_del += usize::from(waited_by_del);
        if !waited && !waited_by_del && !of_pod(entry) {
            continue;
        }
        awaited += usize::from(waited);
        *all.entry(entry.kind.clone()).or_default() += 1;
        if waited && entry.kind.ends_with("pods/status") {
            writes.push((entry.answered - entry.received) * 1e6);
        }
    }
    let per_pod = |count: usize| count as f64 / windows.len().max(1) as f64;
    Ok(Requests {
        subject,
        load,
        awaited: per_pod(awaited),
        awaited_by_del: per_pod(awaited_by_del),
        all: all.into_iter().map(|(kind, count)| (kind, per_pod(count))).collect(),
        status_write: median(&writes),
    })
}

/// A line of the log, if it is of this namespace and not of the benchmark itself, which alone creates pods.
fn read(line: &str, namespace: &str) -> Option<Entry> {
    // Most lines are of others; this is quicker than parsing them.
    if !line.contains(&format!("\"namespace\":\"{namespace}\"")) {
        return None;
    }
    let entry: Value = serde_json::from_str(line).ok()?;
    let object = &entry["objectRef"];
    let (verb, resource) = (entry["verb"].as_str()?, object["resource"].as_str()?);
    let created = verb == "create" && resource != "events";
    if object["namespace"] != namespace || created || verb == "watch" {
        return None;
    }
    let sub = object["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
    Some(Entry {
        kind: format!("{} {resource}{sub}", verb.to_uppercase()),
        name: object["name"].as_str().unwrap_or_default().to_owned(),
        event: resource == "events",
        received: seconds(entry["requestReceivedTimestamp"].as_str()?)?,
        answered: seconds(entry["stageTimestamp"].as_str()?)?,
    })
}

/// `2026-01-31T12:00:00.000000Z` as seconds since 1970.
fn seconds(text: &str) -> Option<f64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':').map(str::parse::<f64>);
    let (hours, minutes, rest) = (time.next()?.ok()?, time.next()?.ok()?, time.next()?.ok()?);
    // Years that begin in March put the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    Some(days as f64 * 86_400.0 + hours * 3600.0 + minutes * 60.0 + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_log_is_seconds_since_1970() {
        assert!((seconds("1970-01-01T00:00:00.000000Z").unwrap() - 0.0).abs() < 1e-6);
        assert!((seconds("2024-02-29T12:00:01.500000Z").unwrap() - 1_709_208_001.5).abs() < 1e-3);
        assert!((seconds("2026-03-01T00:00:00.000000Z").unwrap() - 1_772_323_200.0).abs() < 1e-3);
        assert!(seconds("yesterday").is_none());
    }
}
