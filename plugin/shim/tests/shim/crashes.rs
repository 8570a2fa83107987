//! What is on the disk when, and what is left of a plugin that is killed, or fails, at any of its system calls.

use std::{collections::BTreeMap, fs, process::Stdio};

use serde_json::{Value, json};
use testkit::{
    answer::Answer,
    strace::{self, Fault, Point},
};

use crate::{
    host::{Host, await_some},
    sources::file,
};

/// Points of each verb that the gate tries.
const SOME: usize = 25;

fn networks() -> Value {
    json!({"io.kubernetes.cri.pod-annotations": {"k8s.v1.cni.cncf.io/networks": "a,b"}})
}

fn host() -> Host {
    let host = Host::new();
    host.honest_daemon(&[
        ("demo/a", host.nad("second", &json!({}))),
        ("demo/b", host.nad("third", &json!({}))),
    ]);
    host
}

/// Runs a verb under strace, with the fault of `point`. Its exit code is strace's own where strace is all that is left.
fn traced(host: &Host, verb: &str, point: Option<&Point>, config: &Value) -> Answer {
    let mut command = strace::under(&host.command_for(&host.container, verb), &host.root("calls"), point);
    command.stdin(Stdio::piped());
    Answer::of(host.feed(command, verb, config).wait_with_output().unwrap())
}

/// The line of the log, from `from` on, that has all these words.
#[track_caller]
fn line_of(log: &[&str], from: usize, words: &[&str]) -> usize {
    let found = log.iter().skip(from).position(|line| words.iter().all(|word| line.contains(word)));
    from + found.unwrap_or_else(|| panic!("no {words:?} after line {from} of:\n{}", log.join("\n")))
}

// Holds: C29
#[test]
fn a_record_is_on_the_disk_before_the_first_delegate_runs_and_its_results_before_the_answer() {
    if !strace::available() {
        return;
    }
    let host = host();
    assert!(traced(&host, "ADD", None, &networks()).ok);
    let text = fs::read_to_string(host.root("calls")).unwrap();
    let log: Vec<&str> = text.lines().collect();
    let renamed = line_of(&log, 0, &["rename", "/journal/sandbox1.json"]);
    let synced = line_of(&log, renamed, &["fsync("]);
    let named = line_of(&log, synced + 1, &["fsync("]);
    let ran = line_of(&log, 0, &["execve(", "/first"]);
    assert!(named < ran, "a power cut would lose the record of what runs:\n{text}");
    let asked = line_of(&log, ran, &["POST /v1/publish"]);
    let results = line_of(&log, asked, &["fdatasync("]);
    let heard = line_of(&log, asked, &["recvfrom("]);
    assert!(results < heard, "the disk and the API server are awaited one after the other:\n{text}");
    line_of(&log, heard, &["write(1, "]);
    assert!(host.call("DEL", Some("a,b")).ok);
}

#[test]
fn a_plain_pod_syncs_nothing() {
    if !strace::available() {
        return;
    }
    let host = Host::new();
    let plain = json!({"io.kubernetes.cri.pod-annotations": {}});
    for verb in ["ADD", "DEL"] {
        assert!(traced(&host, verb, None, &plain).ok);
        let text = fs::read_to_string(host.root("calls")).unwrap();
        assert!(
            !["fsync(", "fdatasync(", "sync_file_range("].iter().any(|call| text.contains(call)),
            "{text}"
        );
    }
}

/// As the delegates saw it: whoever was called with ADD has been called with DEL since.
#[track_caller]
fn assert_all_detached(host: &Host, point: &Point) {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for call in host.calls() {
        let (verb, of) = call.split_once(' ').unwrap();
        last.insert(of.to_owned(), verb.to_owned());
    }
    assert!(last.values().all(|verb| verb == "DEL"), "{point:?}: {last:?}");
}

fn at_every_point_of(verb: &str, host: &Host, asked: &Value) {
    if !strace::available() {
        return;
    }
    if verb == "DEL" {
        assert!(host.call_with("ADD", asked).ok);
    }
    assert!(traced(host, verb, None, asked).ok);
    assert!(host.call_with("DEL", asked).ok);
    let points = strace::points(&host.root("calls"), &["ENOSPC", "EIO", "EROFS"]).unwrap();
    for point in strace::sample(points, SOME) {
        if verb == "DEL" {
            let answer = host.call_with("ADD", asked);
            assert!(answer.ok, "{point:?}: the sandbox cannot be attached anew: {answer:?}");
        }
        traced(host, verb, Some(&point), asked);
        let answer = host.call_with("DEL", asked);
        assert!(answer.ok, "{point:?}: {answer:?}");
        assert_all_detached(host, &point);
        assert_eq!(host.plugins.left().unwrap(), Vec::<String>::new(), "{point:?}");
    }
}

// Holds: D9, C29
#[test]
fn at_every_system_call_of_an_add_the_del_that_follows_detaches_all_and_leaves_nothing() {
    at_every_point_of("ADD", &host(), &networks());
}

// Holds: D9
#[test]
fn at_every_system_call_of_a_del_the_next_one_detaches_the_rest_and_leaves_nothing() {
    at_every_point_of("DEL", &host(), &networks());
}

/// One whose record may fail, with an auxiliary chain.
// Holds: D9, C29
#[test]
fn at_every_system_call_of_a_plain_add_the_del_that_follows_detaches_all_and_leaves_nothing() {
    let mut host = Host::new();
    host.options["auxiliaryCNIChainName"] = json!("aux");
    host.plugins.add("passthru").unwrap();
    file(&host, "net.d/aux/20-tuning.conf", "ignored", "third");
    at_every_point_of("ADD", &host, &json!({"io.kubernetes.cri.pod-annotations": {}}));
}

/// The note that follows the primary is lost, and the plugin is killed in the chain.
#[test]
fn a_plain_pod_whose_notes_fail_is_detached_whole() {
    if !strace::available() {
        return;
    }
    let mut host = Host::new();
    host.options["auxiliaryCNIChainName"] = json!("aux");
    host.plugins.add("passthru").unwrap();
    file(&host, "net.d/aux/20-tuning.conf", "ignored", "third");
    let plain = json!({"io.kubernetes.cri.pod-annotations": {}});
    assert!(traced(&host, "ADD", None, &plain).ok);
    assert!(host.call_with("DEL", &plain).ok);
    let text = fs::read_to_string(host.root("calls")).unwrap();
    let plugin = text.split_whitespace().next().unwrap();
    let mut writes = text.lines().filter(|line| line.starts_with(plugin) && line.contains(" write("));
    // strace shows what begins a later text of the record in octal.
    let nth = 1 + writes.position(|line| line.contains("\\36{")).expect("a note");
    let point = Point { call: "write".to_owned(), nth, fault: Fault::Error("ENOSPC") };
    let mut chained = host.delegate("third", &json!({"behaviour": {"ADD": "hang"}}));
    chained["cniVersion"] = json!("1.0.0");
    fs::write(host.root("net.d/aux/20-tuning.conf"), chained.to_string()).unwrap();
    let before = host.calls().len();
    let command = strace::under(&host.command_for(&host.container, "ADD"), &host.root("calls"), Some(&point));
    let mut stuck = host.feed(command, "ADD", &plain);
    await_some(|| host.calls()[before..].contains(&"ADD third eth0".to_owned()).then_some(()));
    let plugin = strace::traced(stuck.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(plugin), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(host.call_with("DEL", &plain).ok);
    stuck.wait().unwrap();
    assert_eq!(host.calls()[before + 2..], ["DEL third eth0", "DEL first eth0"]);
    assert_eq!(host.plugins.left().unwrap(), Vec::<String>::new());
}
