//! Killed or failed at its system calls, the program leaves the old config or the new one.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cni::config::NetworkConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testkit::strace::{self, Point};

use crate::node::{Node, primary};

/// What a runtime would load at this moment: the first config by name, which has to be valid.
fn loaded(node: &Node) -> String {
    let names =
        fs::read_dir(node.path("net.d")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let config = |name: &String| [".conf", ".conflist", ".json"].iter().any(|e| name.ends_with(e));
    let first = names.filter(config).min().unwrap();
    let text = fs::read_to_string(node.conf(&first)).unwrap();
    NetworkConfig::parse(&text, None).unwrap_or_else(|e| panic!("{first}: {}", e.msg)).name
}

fn done(node: &Node, name: &str) -> bool {
    let state = node.state();
    state["ready"] == true && state["primary"]["network"] == name
}

/// One run of the program, until it ended or its work is done, while a reader looks without pause.
fn run(node: &mut Node, point: Option<&Point>, old: &str, new: &str) {
    let keeper = node.keeper(&["--rescan-seconds", "1"]);
    node.spawn(strace::under(&keeper, &node.path("calls"), point));
    let over = AtomicBool::new(false);
    let end = Instant::now() + Duration::from_secs(20);
    std::thread::scope(|scope| {
        let reader = {
            let (dir, over) = (node.path("net.d"), &over);
            scope.spawn(move || {
                let ours = dir.join("00-multus.conflist");
                while !over.load(Ordering::Relaxed) {
                    let text = fs::read_to_string(&ours).unwrap();
                    let name = NetworkConfig::parse(&text, None).unwrap().name;
                    assert!(name == old || name == new, "{point:?}: network {name}");
                    std::thread::yield_now();
                }
            })
        };
        while !node.has_ended() {
            assert!(Instant::now() < end, "{point:?}: neither done nor ended\n{}", node.log());
            if done(node, new)
                && let Some(pid) = strace::traced(node.pid())
            {
                // It may end at this very moment.
                kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
            }
            assert!([old, new].contains(&loaded(node).as_str()), "{point:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

// Holds: FB1, FB2, FB15, P13, B9
#[test]
fn at_every_system_call_a_reader_sees_the_old_or_the_new_config_and_the_next_run_converges() {
    if !strace::available() {
        return;
    }
    let mut node = Node::new();
    node.put("10-net.conflist", &primary("net-0"));
    node.start(&[]);
    node.until_serving("10-net.conflist");
    node.kill();
    // What a change of the primary calls, without a fault.
    node.put("10-net.conflist", &primary("net-1"));
    run(&mut node, None, "net-0", "net-1");
    // The folder itself is never removed: containerd stops for good when it is.
    let calls = fs::read_to_string(node.path("calls")).unwrap();
    assert!(!calls.contains("rmdir") && !calls.contains("AT_REMOVEDIR"), "a folder was removed");
    let points = strace::points(&node.path("calls"), &["ENOSPC", "EIO", "EROFS"]).unwrap();
    let mut old = "net-1".to_owned();
    for (number, point) in strace::sample(points, 30).iter().enumerate() {
        let new = format!("net-{}", number + 2);
        node.put("10-net.conflist", &primary(&new));
        run(&mut node, Some(point), &old, &new);
        // What it said is not what the next run says.
        if node.path("state.json").exists() {
            fs::remove_file(node.path("state.json")).unwrap();
        }
        node.start(&[]);
        node.until("the next run converges", |n| n.ours().unwrap()["name"] == new.as_str() && done(n, &new));
        assert!(node.terminate().success());
        for dir in ["net.d", "state/primary", "state/ledger"] {
            let litter = fs::read_dir(node.path(dir)).unwrap();
            let litter: Vec<_> = litter.map(|e| e.unwrap().file_name()).collect();
            assert!(
                !litter.iter().any(|n| n.to_string_lossy().starts_with(".multus-rs")),
                "{point:?}: {litter:?}"
            );
        }
        old = new;
    }
}
