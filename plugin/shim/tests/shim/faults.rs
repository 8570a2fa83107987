//! What the plugin does when something breaks: nothing half-done, nothing lost, one line that helps.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::answer::Answer;

use crate::host::{Host, await_some, ended, http};

// Holds: P9, B27, C4, C29
#[test]
fn a_pod_with_networks_awaits_the_daemon_and_says_so() {
    let host = Host::new();
    let (code, line) = host.call("ADD", Some("a")).failure();
    assert_eq!(code, 11);
    assert!(line.contains("awaits the multus daemon") && line.contains("kubectl"), "{line}");
    assert_eq!(host.calls(), Vec::<String>::new());
    assert!(host.call("DEL", Some("a")).ok);
}

// Holds: B27
#[test]
fn a_daemon_that_takes_no_connection_is_awaited_no_longer_than_one_that_is_away() {
    let host = Host::new();
    fs::create_dir_all(host.root("run/daemon")).unwrap();
    let path = host.root("run/daemon/multus.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // The kernel keeps one connection more than it is told.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _queued = UnixStream::connect(&path).unwrap();
    let plugin = host.start("ADD", &networks("a"));
    let (answer, in_time) = ended(plugin, Duration::from_secs(5));
    let (code, line) = answer.failure();
    assert!(in_time && code == 11 && line.starts_with("DAEMON_AWAITED"), "{line}");
}

// Holds: N51, N52, D9, D18, C4, B17
#[test]
fn a_failing_network_undoes_what_was_attached_and_keeps_its_code() {
    let host = Host::new();
    host.honest_daemon(&[
        (
            "demo/a",
            host.nad("second", &json!({"behaviour": {"ADD": "fail"}, "code": 123, "msg": "no address left"})),
        ),
        ("demo/b", host.nad("third", &json!({}))),
    ]);
    let (code, line) = host.call("ADD", Some("a,b")).failure();
    assert_eq!(code, 123);
    assert!(line.contains("demo/a (net1)") && line.contains("no address left"), "{line}");
    assert_eq!(host.calls(), ["ADD first eth0", "ADD second net1", "DEL second net1", "DEL first eth0"]);
    assert_eq!(host.asked_for("/v1/event")[0]["message"], line, "the pod's event says the same line");
    host.assert_nothing_left();
}

// Holds: P11, B29
#[test]
fn a_refused_publish_undoes_the_whole_pod() {
    let host = Host::new();
    let config = host.nad("second", &json!({}));
    host.daemon(move |path, _| match path {
        "/v1/resolve" => http(
            200,
            &json!({"networks": [{"namespace": "demo", "name": "a", "config": config}]}).to_string(),
        ),
        "/v1/publish" => {
            http(409, r#"{"code":7,"reason":"POD_REPLACED","message":"the pod has another uid now"}"#)
        }
        _ => http(200, "{}"),
    });
    let (code, line) = host.call("ADD", Some("a")).failure();
    assert_eq!((code, line.as_str()), (7, "POD_REPLACED: the pod has another uid now"));
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: N52, N53, C13, C14, B5
#[test]
fn a_del_that_fails_is_kept_for_the_next_and_reaches_the_others() {
    let host = Host::new();
    let nad = host.nad("second", &json!({"behaviour": {"DEL": "fail"}, "msg": "device not found"}));
    host.honest_daemon(&[("demo/a", nad)]);
    assert!(host.call("ADD", Some("a")).ok);
    let (_, line) = host.call("DEL", Some("a")).failure();
    assert!(!line.contains("not found"), "the runtime takes these words for success: {line}");
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
    assert_eq!(host.files("state/journal"), ["sandbox1.json"]);
    host.call("DEL", Some("a")).failure();
    assert_eq!(host.calls()[4..], ["DEL second net1"], "what is detached stays so");
}

// Holds: N52
#[test]
fn a_network_that_hangs_leaves_the_others_time_to_be_detached() {
    let mut host = Host::new();
    // The half of it, and the grace of a plugin that ignores SIGTERM, leave the primary some seconds.
    host.options["delDeadlineSeconds"] = json!(8);
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({"behaviour": {"DEL": "hang"}})))]);
    assert!(host.call("ADD", Some("a")).ok);
    let (code, line) = host.call("DEL", Some("a")).failure();
    assert!(code == 11 && line.contains("demo/a"), "{line}");
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
}

#[test]
fn no_failure_of_a_del_has_words_that_the_runtime_takes_for_success() {
    let host = Host::new();
    host.primary(&json!({"behaviour": {"DEL": "fail"}, "msg": "link not found: no such file or directory"}));
    let (_, line) = host.call("DEL", None).failure();
    assert!(!line.contains("not found") && !line.contains("no such file"), "{line}");
}

// Holds: C9, C10
#[test]
fn a_previous_result_that_cannot_be_used_does_not_keep_a_pod() {
    for unusable in [json!({"cniVersion": "7.0.0"}), json!("x")] {
        let mut host = Host::new();
        host.options["prevResult"] = unusable;
        let answer = host.call("DEL", None);
        assert!(answer.ok && answer.stderr.contains("prevResult"), "{answer:?}");
        assert_eq!(host.calls(), ["DEL first eth0"]);
    }
}

// Holds: C10
#[test]
fn a_record_that_cannot_be_removed_does_not_keep_a_pod() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("ADD", Some("a")).ok);
    let journal = host.root("state/journal");
    let immutable = |switch| Command::new("chattr").arg(switch).arg(&journal).output();
    if !immutable("+i").is_ok_and(|done| done.status.success()) {
        testkit::skip("the file system has no immutable folders");
        return;
    }
    let answer = host.call("DEL", Some("a"));
    immutable("-i").unwrap();
    assert!(answer.ok && answer.stderr.contains("sandbox1.json"), "{answer:?}");
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
}

// Holds: B3, P9, C10, C11, D10, D11
#[test]
fn del_needs_neither_daemon_nor_definition_nor_primary() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("ADD", Some("a")).ok);
    fs::remove_dir_all(host.root("run/daemon")).unwrap();
    fs::remove_file(host.root("net.d/10-primary.conflist")).unwrap();
    assert!(host.call("DEL", Some("a")).ok);
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
    assert!(host.call("DEL", Some("a")).ok, "again is fine");
    host.assert_nothing_left();
}

// Holds: B4, P4, P5, C10
#[test]
fn a_journal_torn_anywhere_neither_crashes_del_nor_keeps_the_pod() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("ADD", Some("a")).ok);
    let journal = host.root("state/journal/sandbox1.json");
    let whole = fs::read(&journal).unwrap();
    let first = whole.iter().position(|byte| *byte == 0x1e).expect("steps after the first");
    let cuts = (1..first - 1).step_by(97);
    for text in cuts.map(|cut| whole[..cut].to_vec()).chain([b"[]".to_vec(), b"null".to_vec()]) {
        fs::write(&journal, &text).unwrap();
        let answer = host.call("DEL", Some("a"));
        assert!(answer.ok, "{answer:?}");
        assert_eq!(fs::read(host.root("state/given-up/sandbox1.json")).unwrap(), text, "kept for a look");
        assert_eq!(host.calls().last().unwrap(), "DEL first eth0");
    }
}

/// As a power cut leaves a record that was never synced.
// Holds: P4
#[test]
fn an_empty_record_is_of_a_pod_of_which_nothing_was_attached() {
    let host = Host::new();
    for text in [&b""[..], &[0; 4096]] {
        fs::create_dir_all(host.root("state/journal")).unwrap();
        fs::write(host.root("state/journal/sandbox1.json"), text).unwrap();
        let answer = host.call("DEL", Some("a"));
        assert!(answer.ok && answer.stderr.contains("lost power"), "{answer:?}");
        assert_eq!(host.calls().last().unwrap(), "DEL first eth0", "the runtime's own list of the primary");
        host.assert_nothing_left();
    }
}

/// As a power cut leaves it: the first step was synced, of the second a part is there, or zeros in its length.
// Holds: B4, P4, P5, C10
#[test]
fn a_journal_whose_later_steps_are_torn_still_detaches_everything() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({"behaviour": {"ADD": "hang"}})))]);
    let journal = host.root("state/journal/sandbox1.json");
    // Killed amid the second network, when two steps are written.
    let mut plugin = host.start("ADD", &networks("a"));
    host.await_call("ADD second net1");
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    let whole = fs::read(&journal).unwrap();
    let first = whole.iter().position(|byte| *byte == 0x1e).expect("a second step");
    let cuts = (first + 1..=whole.len()).step_by(61).map(|cut| whole[..cut].to_vec());
    let zeros = [1, 700].map(|count| [&whole[..first - 1], &vec![0; count][..]].concat());
    for text in cuts.chain(zeros) {
        fs::write(&journal, &text).unwrap();
        let before = host.calls().len();
        let answer = host.call("DEL", Some("a"));
        assert!(answer.ok, "{answer:?}");
        let length = text.len();
        assert_eq!(
            host.calls()[before..],
            ["DEL second net1", "DEL first eth0"],
            "{length} of {}",
            whole.len()
        );
        assert!(!journal.exists());
    }
}

/// So that a daemon with little memory can read it.
#[test]
fn the_record_of_many_large_networks_stays_small() {
    let host = Host::new();
    let names: Vec<String> = (0..40).map(|number| format!("demo/n{number}")).collect();
    let large = json!({"notes": "x".repeat(20_000)});
    let known: Vec<(&str, String)> =
        names.iter().map(|name| (name.as_str(), host.nad("second", &large))).collect();
    host.honest_daemon(&known);
    let journal = host.root("state/journal/sandbox1.json");
    let mut plugin = host.start("ADD", &networks(&names.join(",")));
    let mut largest = 0;
    while plugin.try_wait().unwrap().is_none() {
        largest = fs::metadata(&journal).map_or(0, |file| file.len()).max(largest);
    }
    // About a megabyte for each of its 42 steps.
    assert!((800_000..20_000_000).contains(&largest), "{largest}");
    assert!(host.call("DEL", Some(&names.join(","))).ok);
    host.assert_nothing_left();
}

// Holds: C8, B29
#[test]
fn a_second_add_of_a_sandbox_is_refused_and_touches_nothing() {
    let host = Host::new();
    assert!(host.call("ADD", None).ok);
    assert_eq!(host.call("ADD", None).failure().0, 101);
    assert_eq!(host.calls(), ["ADD first eth0"]);
}

// Holds: D8, D9, C29, N54
#[test]
fn a_plugin_killed_amid_a_delegate_leaves_nothing_running_and_nothing_attached() {
    // A runtime may call DEL before it has reaped what it killed.
    for reaped in [true, false] {
        killed_amid_a_delegate(reaped);
    }
}

#[track_caller]
fn killed_amid_a_delegate(reaped: bool) {
    let host = Host::new();
    // It ignores SIGTERM, and so does the grandchild that it starts.
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({"behaviour": {"ADD": "hang"}})))]);
    let mut plugin = host.start("ADD", &networks("a"));
    let hanging = await_some(|| {
        host.plugins.records().unwrap().into_iter().find(|call| call.config()["network"] == "second")
    });
    plugin.kill().unwrap();
    if reaped {
        plugin.wait().unwrap();
    }
    assert!(host.call("DEL", Some("a")).ok);
    plugin.wait().unwrap();
    for pid in [Some(hanging.pid), hanging.grandchild].into_iter().flatten() {
        assert!(!runs(pid), "process {pid} runs beside the DEL");
    }
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: N54, D8
#[test]
fn a_del_waits_for_the_add_of_its_sandbox() {
    let host = Host::new();
    host.honest_daemon(&[(
        "demo/a",
        host.nad("second", &json!({"behaviour": {"ADD": "slow"}, "milliseconds": 700})),
    )]);
    let add = host.start("ADD", &networks("a"));
    host.await_call("ADD second net1");
    assert!(host.call("DEL", Some("a")).ok);
    assert!(Answer::of(add.wait_with_output().unwrap()).ok);
    assert_eq!(host.calls()[2..], ["DEL second net1", "DEL first eth0"]);
    host.assert_nothing_left();
}

// Holds: P7
#[test]
fn a_broken_primary_is_served_from_its_last_good_state() {
    let host = Host::new();
    let file = host.root("net.d/10-primary.conflist");
    let good = fs::read_to_string(&file).unwrap();
    fs::create_dir_all(host.root("state/primary")).unwrap();
    fs::write(
        host.root("state/primary/file.json"),
        json!({"formatVersion": 1, "path": file, "config": good}).to_string(),
    )
    .unwrap();
    fs::write(&file, "{ half").unwrap();
    let answer = host.call("ADD", None);
    assert!(answer.ok && answer.stderr.contains("last good state"), "{answer:?}");
    fs::remove_file(&file).unwrap();
    let (code, line) = host.call("ADD", None).failure();
    assert!(code == 11 || code == 101, "{line}");
}

fn networks(annotation: &str) -> Value {
    json!({"io.kubernetes.cri.pod-annotations": {"k8s.v1.cni.cncf.io/networks": annotation}})
}

// Holds: C19, C21, C22
#[test]
fn a_primary_that_hangs_in_status_is_not_available_and_does_not_keep_the_runtime_waiting() {
    let host = Host::new();
    let plugin = host.delegate("first", &json!({"behaviour": {"STATUS": "hang"}}));
    let config = json!({"cniVersion": "1.1.0", "name": "cluster", "plugins": [plugin]});
    fs::write(host.root("net.d/10-primary.conflist"), config.to_string()).unwrap();
    let begin = Instant::now();
    let (code, line) = host.call("STATUS", None).failure();
    assert!(code == 50 && line.starts_with("PRIMARY_STATUS"), "{code} {line}");
    // kubelet gives up after five; the deadline itself is below one.
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    let hanging = &host.plugins.records().unwrap()[0];
    for pid in [Some(hanging.pid), hanging.grandchild].into_iter().flatten() {
        assert!(!runs(pid), "process {pid} goes on");
    }
}

// Holds: C11, C12
#[test]
fn any_number_of_dels_succeed_for_a_sandbox_that_is_gone_or_never_was() {
    let mut host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    assert!(host.call("DEL", Some("a")).ok, "never added");
    assert!(host.call("ADD", Some("a")).ok);
    for netns in [String::new(), "/run/netns/gone".to_owned(), host.netns.clone()] {
        host.netns = netns;
        assert!(host.call("DEL", Some("a")).ok);
    }
    let calls = host.calls();
    assert_eq!(calls.iter().filter(|call| *call == "DEL second net1").count(), 1, "{calls:?}");
    host.assert_nothing_left();
}

// Holds: C28
#[test]
fn sandboxes_are_served_side_by_side() {
    let host = Host::new();
    host.honest_daemon(&[("demo/a", host.nad("second", &json!({})))]);
    let annotations = json!({"io.kubernetes.cri.pod-annotations": {"k8s.v1.cni.cncf.io/networks": "a"}});
    for (verb, left) in [("ADD", 32), ("DEL", 0)] {
        let all: Vec<_> =
            (0..32).map(|n| host.start_for(&format!("sandbox{n}"), verb, &annotations)).collect();
        for one in all {
            let answer = Answer::of(one.wait_with_output().unwrap());
            assert!(answer.ok, "{answer:?}");
        }
        assert_eq!(host.files("state/journal").len(), left, "{verb}");
    }
    assert_eq!(host.calls().len(), 4 * 32);
    host.assert_nothing_left();
}

fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
