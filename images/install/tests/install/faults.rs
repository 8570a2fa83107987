//! Killed or failed at its system calls, the installer leaves the old plugin or the new one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use testkit::strace::{self, Point};

use crate::node::{Node, PLUGIN, said};

fn version(number: usize) -> String {
    format!("{PLUGIN}# {number} {}\n", "x".repeat(4096))
}

/// One run with the fault of `point`, while a reader looks without pause. Returns what stands there after it.
fn run(node: &Node, point: &Point, old: &str, new: &str) -> String {
    let log = node.path("calls");
    let mut command = strace::under(&node.command(), &log, Some(point));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let now = fs::read_to_string(node.installed()).unwrap();
                let mode = fs::metadata(node.installed()).unwrap().mode() & 0o7777;
                assert!(now == old || now == new, "{point:?}: neither the old nor the new plugin");
                assert_eq!(mode, 0o755, "{point:?}");
            }
        });
        command.output().unwrap();
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = reader.join() {
            std::panic::resume_unwind(panic);
        }
    });
    fs::read_to_string(node.installed()).unwrap()
}

// Holds: FA1, FA3, P18, P13
#[test]
fn at_every_system_call_the_plugin_is_the_old_or_the_new_one_and_the_next_run_converges() {
    if !strace::available() {
        return;
    }
    let node = Node::new();
    node.ship("multus-shim", &version(0));
    assert!(node.install().status.success());
    let mut old = version(0);
    // What an upgrade calls, without a fault.
    node.ship("multus-shim", &version(1));
    let calls = node.path("calls");
    assert!(strace::under(&node.command(), &calls, None).output().unwrap().status.success());
    old.clone_from(&version(1));
    let points = strace::points(&calls, &["ENOSPC", "EIO", "EROFS"]).unwrap();
    for (number, point) in strace::sample(points, 30).iter().enumerate() {
        let new = version(number + 2);
        node.ship("multus-shim", &new);
        let after = run(&node, point, &old, &new);
        assert!(
            Command::new(node.installed()).output().unwrap().status.success(),
            "{point:?}: it does not run"
        );
        // The next run, or the one after it where this one was not even begun.
        let done = node.install();
        assert!(done.status.success(), "{point:?}: {}", said(&done));
        assert_eq!(
            fs::read_to_string(node.installed()).unwrap(),
            new,
            "{point:?}, after it {} bytes",
            after.len()
        );
        assert_eq!(node.names("bin"), ["multus-shim"], "{point:?}: litter");
        assert!(
            node.entry("/opt/cni/bin/multus-shim").get("replaced").is_none(),
            "{point:?}: took ours for foreign"
        );
        old = new;
    }
}
