//! Delegates that hang, crash, print rubbish or leave processes behind.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use crate::bench::{Bench, Log, attachment};
use cni::{chain::Runner, config::NetworkConfig, error::code, process};
use serde_json::json;

/// True for a process that still runs; one that only waits to be reaped does not.
fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| !matches!(rest.trim().chars().next(), Some('Z' | 'X') | None))
}

#[test]
fn a_hanging_delegate_is_ended_with_its_grandchildren() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one", "behaviour": "hang"}]));
    let begin = Instant::now();
    let error = bench.runner_for(Duration::from_secs(1)).add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN_LATER, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let record = bench.records().pop().unwrap();
    assert!(!runs(record.pid) && !runs(record.grandchild.unwrap()));
    assert_eq!(*bench.log.ended.lock().unwrap(), [record.pid]);
    assert_eq!(bench.log.started.lock().unwrap()[0].0, record.pid);
}

// Holds: C22
#[test]
fn without_grace_a_hanging_status_ends_at_its_deadline() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.1.0", json!([{"type": "one", "behaviour": "hang"}]));
    let runner = Runner { grace: Duration::ZERO, ..bench.runner_for(Duration::from_millis(700)) };
    let begin = Instant::now();
    let error = runner.status(&network).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN_LATER, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    for record in bench.records() {
        assert!(!runs(record.pid) && !runs(record.grandchild.unwrap()));
    }
}

#[test]
fn a_grandchild_that_holds_the_pipe_neither_delays_the_answer_nor_survives() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one", "behaviour": "leave"}]));
    let begin = Instant::now();
    bench.runner().add(&network, &attachment()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    assert!(!runs(bench.records()[0].grandchild.unwrap()));
}

#[test]
fn a_recorded_group_is_ended_also_when_its_leader_is_gone() {
    use std::os::unix::process::CommandExt;
    // The shell leads the group, leaves two sleepers behind that ignore SIGTERM, and ends.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' TERM; sleep 300 & echo $!; sleep 300 & echo $!; read wait"]).process_group(0);
    shell.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let group = i32::try_from(child.id()).unwrap();
    let started = process::start_time(group).unwrap();
    let mut pids = Vec::new();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut lines, &mut line).unwrap();
        pids.push(line.trim().parse::<i32>().unwrap());
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(pids.iter().all(|pid| runs(*pid)));
    process::kill_group(group, started).unwrap();
    assert!(!pids.iter().any(|pid| runs(*pid)));
    process::kill_group(group, started).unwrap();
}

#[test]
fn a_group_number_that_belongs_to_another_process_now_is_left_alone() {
    use std::os::unix::process::CommandExt;
    let mut child = std::process::Command::new("sleep").arg("300").process_group(0).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let started = process::start_time(pid).unwrap();
    process::kill_group(pid, started + 1).unwrap();
    process::kill_group(0, 0).unwrap();
    process::kill_group(1, 0).unwrap();
    assert!(runs(pid));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn bad_ends_and_bad_output_are_told_apart() {
    let bench = Bench::new(&["one"]);
    for (behaviour, expected, word) in [
        ("garbage", code::DECODE, "no CNI result"),
        ("big", code::DECODE, "more than 4 MB"),
        ("crash", code::INTERNAL, "SIGKILL"),
        ("exit", code::INTERNAL, "exit code 3"),
        ("fail-exit-zero", 100, "told to fail"),
    ] {
        let network = bench.list("1.0.0", json!([{"type": "one", "behaviour": behaviour}]));
        let error = bench.runner().add(&network, &attachment()).unwrap_err();
        assert_eq!(error.code, expected, "{behaviour}: {error}");
        assert!(error.msg.contains(word), "{behaviour}: {error}");
        assert!(error.to_string().chars().count() < 300);
    }
}

#[test]
fn much_on_standard_error_is_no_failure() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one", "behaviour": "noisy"}]));
    bench.runner().add(&network, &attachment()).unwrap();
}

#[test]
fn a_big_configuration_reaches_a_plugin_and_one_that_reads_none_is_no_failure() {
    let bench = Bench::new(&["one"]);
    let pad = "p".repeat(200 * 1024);
    let network = bench.list("1.0.0", json!([{"type": "one", "pad": pad}]));
    bench.runner().add(&network, &attachment()).unwrap();
    assert_eq!(bench.records()[0].config()["pad"], pad);

    let deaf = bench.plugins.bin().join("deaf");
    fs::write(&deaf, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&deaf, fs::Permissions::from_mode(0o755)).unwrap();
    let network = bench.list("1.0.0", json!([{"type": "deaf", "pad": pad}]));
    bench.runner().add(&network, &attachment()).unwrap();
}

#[test]
fn a_missing_or_unusable_binary_is_named() {
    let bench = Bench::new(&[]);
    let network = bench.list("1.0.0", json!([{"type": "absent"}]));
    let error = bench.runner().add(&network, &attachment()).unwrap_err();
    assert!(error.msg.contains("absent") && error.msg.contains("CNI_PATH"), "{error}");
    // containerd takes these words for a DEL that succeeded.
    let text = error.to_string().to_lowercase();
    assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");

    fs::write(bench.plugins.bin().join("plain"), "text").unwrap();
    let network = bench.list("1.0.0", json!([{"type": "plain"}]));
    let error = bench.runner().add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, code::IO);
    assert!(error.msg.contains("not executable"), "{error}");
}

// Holds: D2
#[test]
fn a_type_with_a_path_is_refused_before_anything_runs() {
    let bench = Bench::new(&["one"]);
    for kind in ["../one", "a/b", "/bin/true", "a\\b", "", "-v", ".", "..", "a\u{0}b"] {
        let single = json!({"cniVersion": "1.0.0", "name": "n", "type": kind}).to_string();
        assert_eq!(NetworkConfig::parse(&single, None).unwrap_err().code, code::INVALID_CONFIG, "{kind:?}");
        let mut network = bench.list("1.0.0", json!([{"type": "one"}]));
        network.plugins[0].set("type", &kind).unwrap();
        bench.runner().add(&network, &attachment()).unwrap_err();
    }
    assert!(bench.records().is_empty());
}

#[test]
fn a_process_that_cannot_be_recorded_gets_no_configuration_and_is_ended() {
    let bench = Bench { log: Log { refuse: true, ..Log::default() }, ..Bench::new(&["one"]) };
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    let error = bench.runner().add(&network, &attachment()).unwrap_err();
    assert!(error.msg.contains("journal"), "{error}");
    assert!(bench.records().is_empty());
    let (pid, _) = bench.log.started.lock().unwrap()[0];
    assert!(!runs(pid));
}

#[test]
fn nothing_starts_after_the_deadline() {
    let bench = Bench::new(&["one"]);
    let network = bench.list("1.0.0", json!([{"type": "one"}]));
    let error = bench.runner_for(Duration::ZERO).add(&network, &attachment()).unwrap_err();
    assert_eq!(error.code, code::TRY_AGAIN_LATER);
    assert!(bench.records().is_empty());
}

/// Names the record file to the helper below, which runs in a process of its own.
const CALLER_RECORDS: &str = "CNI_TEST_CALLER_RECORDS";

/// No test by itself: the caller that `a_delegate_dies_with_its_caller` kills.
#[test]
fn caller_with_a_hanging_delegate() {
    let Ok(records) = std::env::var(CALLER_RECORDS) else { return };
    let bench = Bench::new(&["one"]);
    let mut network = bench.list("1.0.0", json!([{"type": "one", "behaviour": "hang"}]));
    network.plugins[0].set("record", &records).unwrap();
    let _ = bench.runner().add(&network, &attachment());
}

#[test]
fn a_delegate_dies_with_its_caller_and_its_group_can_be_ended_after() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("records");
    let mut caller = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "misbehaviour::caller_with_a_hanging_delegate"])
        .env(CALLER_RECORDS, &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &str, done: &mut dyn FnMut() -> bool| {
        let end = Instant::now() + Duration::from_secs(30);
        while !done() {
            assert!(Instant::now() < end, "{what} did not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until("the delegate's start", &mut || testkit::records(&file).is_ok_and(|r| !r.is_empty()));
    let record = testkit::records(&file).unwrap().remove(0);
    let started = process::start_time(record.pid).unwrap();
    caller.kill().unwrap();
    caller.wait().unwrap();
    until("the delegate's end", &mut || !runs(record.pid));
    // Its child ignores SIGTERM and has no parent left: this is what a later DEL finds in its journal.
    assert!(runs(record.grandchild.unwrap()));
    process::kill_group(record.pid, started).unwrap();
    assert!(!runs(record.grandchild.unwrap()));
}

/// Linux before 5.3 has no descriptors of processes: each test here that ends a plugin in some way, without them.
#[test]
fn a_kernel_without_process_descriptors_serves_plugins_as_well() {
    if !testkit::strace::available() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("calls");
    let done = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=pidfd_open", "-e", "inject=pidfd_open:error=ENOSYS", "-o"])
        .arg(&log)
        .arg(std::env::current_exe().unwrap())
        .args([
            "a_hanging_delegate_is_ended",
            "without_grace",
            "a_grandchild",
            "bad_ends",
            "much_on_standard_error",
        ])
        .args(["a_big_configuration", "nothing_starts_after"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("7 passed"), "{said}");
    assert!(fs::read_to_string(&log).unwrap().contains("INJECTED"), "no process descriptor was asked for");
}
