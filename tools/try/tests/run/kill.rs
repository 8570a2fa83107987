//! A run that is killed at any moment leaves nothing.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use testkit::random::{Random, number};

use crate::support::{BINARY, Machine, await_that, example, hosts, plugins, unable};

/// Kills of one run of the test; `TRY_KILLS` asks for more.
fn kills() -> u64 {
    number("TRY_KILLS").unwrap_or(12)
}

#[test]
fn a_killed_run_on_a_throw_away_host_leaves_nothing() {
    if unable() || plugins().is_none() {
        return;
    }
    let before = Machine::now();
    let mut random = Random::seeded("TRY_SEED");
    for round in 0..kills() {
        let mut child = Command::new(BINARY)
            .args([&example("bridge.yaml"), &example("macvlan.yaml"), "--pods", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(random.below(900_000) as u64));
        // It may have ended by itself.
        child.kill().unwrap();
        child.wait().unwrap();
        await_that("the end of the host's process", || hosts().is_empty());
        assert_eq!(Machine::now(), before, "round {round}");
    }
}
