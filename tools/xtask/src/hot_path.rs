//! The regression gate of the hot path: what the real plugin does for a pod without networks, in instructions and
//! system calls. Both are counted, not timed, so a busy machine changes nothing.
//!
//! The numbers are in `tools/bench/hot-path.txt`, with the reason of every system call; the page of the benchmark shows
//! that file. `UPDATE_HOT_PATH=1` writes the numbers anew and keeps the reasons.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{binaries, cluster};

/// How far the number of instructions may be from the one that is written down.
const TOLERANCE: f64 = 0.03;
/// How often these are made depends on how pipes fill and where the allocator finds room: at most twice what is written
/// down, and two more.
const UNSTEADY: [&str; 6] = ["brk", "futex", "mmap", "munmap", "poll", "read"];
/// Answers as a plugin does. It starts no process of its own, which would be counted as ours.
const DELEGATE: &str = r#"#!/bin/sh
while read -r line; do :; done
echo '{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/netns"}],"ips":[{"address":"10.1.0.2/24"}]}'
"#;
const INSTRUCTIONS: &str = "instructions";

/// Numbers by name: the system calls, and the instructions.
type Counts = BTreeMap<String, u64>;

/// A node in small for the plugin, with one network namespace that is not ours.
struct Node {
    folder: tempfile::TempDir,
    netns: PathBuf,
    plugin: PathBuf,
}

impl Node {
    fn new(netns: PathBuf) -> Result<Self> {
        let plugin =
            binaries::of_this_source(&cluster::workspace()?, &cluster::cache()?, binaries::Arch::here()?)?
                .join("multus-shim");
        let node = Self { folder: tempfile::tempdir()?, netns, plugin };
        let bin = node.folder.path().join("bin");
        fs::create_dir(&bin)?;
        fs::write(bin.join("first"), DELEGATE)?;
        fs::set_permissions(bin.join("first"), fs::Permissions::from_mode(0o755))?;
        let primary = r#"{"cniVersion":"1.0.0","name":"cluster","plugins":[{"type":"first"}]}"#;
        fs::write(node.folder.path().join("10-primary.conflist"), primary)?;
        // The first pod of a boot makes folders; every other finds them.
        node.add(&[], "first")?;
        Ok(node)
    }

    /// Runs ADD of a plain pod below these words of a command.
    fn add(&self, below: &[&str], sandbox: &str) -> Result<()> {
        let root = self.folder.path();
        let capability = "io.kubernetes.cri.pod-annotations";
        let config = serde_json::json!({"cniVersion": "1.0.0", "name": "cluster", "type": "multus-shim",
            "clusterNetwork": root.join("10-primary.conflist"), "stateDir": root.join("state"),
            "runDir": root.join("run"), "capabilities": {capability: true}, "runtimeConfig": {capability: {}}});
        let plugin = self.plugin.to_str().context("the target folder's path is not text")?;
        let words: Vec<&str> = below.iter().copied().chain([plugin]).collect();
        let (program, arguments) = words.split_first().context("nothing to run")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", sandbox).env("CNI_NETNS", &self.netns);
        command.env("CNI_IFNAME", "eth0").env("CNI_PATH", root.join("bin"));
        command.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod;K8S_POD_UID=u1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
        child.stdin.take().context("no pipe")?.write_all(config.to_string().as_bytes())?;
        let done = child.wait_with_output()?;
        let said = || String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success() && done.stdout.starts_with(b"{"), "{words:?} failed: {}", said());
        Ok(())
    }

    /// Instructions of the plugin, without its delegate's.
    fn instructions(&self) -> Result<u64> {
        let log = self.folder.path().join("valgrind.log");
        let log_flag = format!("--log-file={}", log.display());
        let tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"];
        let below: Vec<&str> = tool.into_iter().chain([log_flag.as_str()]).collect();
        // The least: a wait that is interrupted costs some more.
        let mut least = u64::MAX;
        for round in 0..3 {
            self.add(&below, &format!("counted{round}"))?;
            let text = fs::read_to_string(&log)?;
            let line =
                text.lines().find_map(|line| line.split_once("refs:")).context("no count in the log")?;
            least = least.min(line.1.trim().replace(',', "").parse()?);
        }
        Ok(least)
    }

    /// System calls of the plugin, its threads, and the child that becomes the delegate until it does.
    fn calls(&self) -> Result<Counts> {
        let log = self.folder.path().join("strace.log");
        let log_text = log.to_str().context("the temporary folder's path is not text")?;
        self.add(&["strace", "-f", "-o", log_text], "traced")?;
        Ok(count(&fs::read_to_string(&log)?))
    }
}

/// Counts the calls of a trace: each line begins with the process's number.
fn count(trace: &str) -> Counts {
    let mut counts = Counts::new();
    let (mut first, mut gone) = (None, BTreeSet::new());
    for line in trace.lines() {
        let Some((process, rest)) = line.split_once(char::is_whitespace) else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        // Ends of calls that were interrupted by another's line, and signals.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            continue;
        }
        let first = *first.get_or_insert(process);
        // A call that the tracer itself interrupted goes on.
        if gone.contains(process) || name == "restart_syscall" {
            continue;
        }
        if name == "execve" {
            // What another process runs from here on is the delegate.
            if process == first {
                continue;
            }
            gone.insert(process);
        }
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// One line of the file.
struct Noted {
    count: u64,
    why: String,
}

fn read(text: &str) -> BTreeMap<String, Noted> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let noted = lines.filter_map(|line| {
        let (name, rest) = line.split_once(char::is_whitespace)?;
        let (count, why) = rest.trim_start().split_once(char::is_whitespace)?;
        Some((name.to_owned(), Noted { count: count.parse().ok()?, why: why.trim().to_owned() }))
    });
    noted.collect()
}

/// What differs from what is written down, one line each.
fn compare(noted: &BTreeMap<String, Noted>, counted: &Counts) -> Vec<String> {
    let names: BTreeSet<&String> = noted.keys().chain(counted.keys()).collect();
    let differs = |name: &&String| {
        let before = noted.get(*name).map_or(0, |noted| noted.count);
        let now = counted.get(*name).copied().unwrap_or(0);
        let holds = match name.as_str() {
            INSTRUCTIONS => (now as f64 / before as f64 - 1.0).abs() <= TOLERANCE,
            name if UNSTEADY.contains(&name) => now <= 2 * before + 2 && (before > 0 || now == 0),
            _ => before == now,
        };
        (!holds).then(|| format!("{name}: {now}, and {before} is written down"))
    };
    names.iter().filter_map(differs).collect()
}

fn write(file: &Path, noted: &BTreeMap<String, Noted>, counted: &Counts) -> Result<()> {
    let mut text = String::from(
        "# What the plugin does for a plain pod's ADD on linux/amd64: name, number, reason. UPDATE_HOT_PATH=1 writes the numbers.\n",
    );
    for (name, count) in counted {
        let why = noted.get(name).map_or("?", |noted| noted.why.as_str());
        text += &format!("{name:<16} {count:>7} {why}\n");
    }
    fs::write(file, text).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian;

    fn file() -> PathBuf {
        crate::tidy::repository().join("tools/bench/hot-path.txt")
    }

    #[test]
    fn a_plain_pods_add_costs_what_is_written_down() {
        if std::env::consts::ARCH != "x86_64" {
            testkit::skip("the numbers are those of x86_64");
            return;
        }
        if let Err(error) = debian::ensure(&[("valgrind", "valgrind"), ("strace", "strace")]) {
            testkit::skip(&format!("{error:#}"));
            return;
        }
        let Some(netns) = testkit::netns::Netns::or_skip().unwrap() else { return };
        let node = Node::new(netns.path()).unwrap();
        let mut counted = node.calls().unwrap();
        counted.insert(INSTRUCTIONS.to_owned(), node.instructions().unwrap());
        let noted = read(&fs::read_to_string(file()).unwrap());
        if std::env::var_os("UPDATE_HOT_PATH").is_some() {
            write(&file(), &noted, &counted).unwrap();
            return;
        }
        let differences = compare(&noted, &counted);
        assert!(
            differences.is_empty(),
            "the way of a plain pod has changed:\n{}\nIf it must, UPDATE_HOT_PATH=1 writes the new numbers, and a new call needs its reason.",
            differences.join("\n")
        );
    }

    #[test]
    fn every_system_call_has_a_reason() {
        let noted = read(&fs::read_to_string(file()).unwrap());
        let without: Vec<&String> =
            noted.iter().filter(|(_, noted)| noted.why.len() < 4).map(|(name, _)| name).collect();
        assert!(noted.len() > 10 && without.is_empty(), "no reason for {without:?}");
    }

    #[test]
    fn the_delegates_own_calls_are_not_counted() {
        let trace = "10 execve(\"x\") = 0\n10 fork( <unfinished ...>\n11 setpgid(0, 0) = 0\n10 <... fork resumed>) = 11\n\
            11 execve(\"d\") = 0\n11 open(\"y\") = 3\n10 open(\"z\") = 3\n10 +++ exited with 0 +++\n";
        let expected = [("execve", 1), ("fork", 1), ("open", 1), ("setpgid", 1)];
        assert_eq!(count(trace), expected.map(|(name, count)| (name.to_owned(), count)).into());
    }

    #[test]
    fn more_than_three_percent_more_instructions_or_one_more_call_is_too_much() {
        let noted = read("instructions 1000 of the program\nopen 3 files\npoll 4 pipes\n");
        let counted = |instructions, open, poll| {
            [("instructions", instructions), ("open", open), ("poll", poll)]
                .map(|(name, count): (&str, u64)| (name.to_owned(), count))
                .into()
        };
        assert!(compare(&noted, &counted(1029, 3, 7)).is_empty());
        assert_eq!(compare(&noted, &counted(1031, 3, 4)).len(), 1);
        assert_eq!(compare(&noted, &counted(1000, 4, 4)).len(), 1);
        assert_eq!(compare(&noted, &counted(1000, 3, 11)).len(), 1);
    }
}
