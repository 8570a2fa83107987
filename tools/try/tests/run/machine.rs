//! `--host`, on a machine that tests may spoil: a process with its own network, `/run` and `/var/lib`.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use testkit::random::{Random, number};

use crate::support::{BINARY, await_that, example, plugins, unable};

/// The machine; it ends with its process.
struct Spoiled {
    init: Child,
}

impl Spoiled {
    fn new() -> Self {
        let script = "mount -t tmpfs t /run && mount -t tmpfs t /var/lib && ip link set lo up && \
            ip link add eth0 type veth peer name far && ip link set eth0 up && ip link set far up && \
            ip address add 192.0.2.2/24 dev eth0 && ip route add default via 192.0.2.1 && echo up && exec sleep infinity";
        let mut init = Command::new("unshare")
            .args(["-nm", "--propagation", "private", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 3];
        std::io::Read::read_exact(&mut init.stdout.take().unwrap(), &mut word).unwrap();
        Self { init }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init.id().to_string(), "-n", "-m", program]);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }

    /// Links, files and mounts of the machine.
    fn state(&self) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
        let lines = |program: &str, args: &[&str]| -> BTreeSet<String> {
            let output = self.run(program, args);
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
        };
        let links = lines("ls", &["/proc/self/net/dev_snmp6"]);
        let files = lines("find", &["/run", "/var/lib", "-type", "f"]);
        // The lock of iptables is kept by design.
        let files = files.into_iter().filter(|file| !file.ends_with("xtables.lock")).collect();
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.init.id())).unwrap();
        // Others of this machine run tests too, and their mounts come and go.
        let ours = mounts.lines().filter(|line| line.contains("multus-try"));
        (links, files, ours.map(str::to_owned).collect())
    }

    fn processes(&self) -> usize {
        let netns = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = netns(self.init.id());
        let pids = fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| netns(*pid) == own).count()
    }
}

impl Drop for Spoiled {
    fn drop(&mut self) {
        drop(self.init.kill());
        drop(self.init.wait());
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn plugin_dir() -> Option<PathBuf> {
    if unable() { None } else { plugins() }
}

#[test]
fn a_run_on_the_machine_says_so_uses_its_interfaces_and_cleans_up() {
    let Some(plugins) = plugin_dir() else { return };
    let machine = Spoiled::new();
    let before = machine.state();
    let dir = plugins.display().to_string();
    let args =
        ["--host", "--plugin-dir", &dir, &example("bridge.yaml"), &example("macvlan.yaml"), "--pods", "2"];
    let output = machine.run(BINARY, &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let shown = text(&output);
    assert!(shown.contains("--host: this machine's own interfaces"), "{shown}");
    assert!(shown.contains("this machine with eth0, far"), "{shown}");
    assert!(shown.contains("over default/macvlan-net: reached"), "{shown}");
    assert_eq!(machine.state(), before);
}

#[test]
fn a_bridge_and_addresses_that_were_there_before_stay() {
    let Some(plugins) = plugin_dir() else { return };
    let machine = Spoiled::new();
    let prepare = "ip link add br-demo type bridge; mkdir -p /var/lib/cni/networks/bridge-net; \
        echo other > /var/lib/cni/networks/bridge-net/10.61.0.2; touch /var/lib/cni/networks/bridge-net/lock";
    assert!(machine.run("sh", &["-c", prepare]).status.success());
    let before = machine.state();
    let dir = plugins.display().to_string();
    let output = machine.run(BINARY, &["--host", "--plugin-dir", &dir, &example("bridge.yaml")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("10.61.0.3/24"), "{}", text(&output));
    let (links, mut files, mounts) = machine.state();
    // The network was in use before: what host-local remembers of it is the machine's.
    files.remove("/var/lib/cni/networks/bridge-net/last_reserved_ip.0");
    assert_eq!((links, files, mounts), before);
}

#[test]
fn what_a_killed_run_on_the_machine_leaves_is_removed_by_clean_or_by_the_next_run() {
    let Some(plugins) = plugin_dir() else { return };
    let kills = number("TRY_KILLS").unwrap_or(12);
    let machine = Spoiled::new();
    let before = machine.state();
    let processes = machine.processes();
    let dir = plugins.display().to_string();
    let args =
        ["--host", "--plugin-dir", &dir, &example("bridge.yaml"), &example("macvlan.yaml"), "--pods", "2"];
    let mut random = Random::seeded("TRY_SEED");
    let mut left = 0;
    for round in 0..kills {
        let mut child =
            machine.command(BINARY).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(random.below(900_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        await_that("the end of a killed run", || machine.processes() == processes);
        left += u32::from(machine.state() != before);
        let output = match round % 2 {
            0 => machine.run(BINARY, &["clean"]),
            _ => machine.run(BINARY, &["--host", "--plugin-dir", &dir, &example("macvlan.yaml")]),
        };
        assert_eq!(output.status.code(), Some(0), "round {round}: {}", text(&output));
        assert_eq!(machine.state(), before, "round {round}: {}", text(&output));
    }
    // Else the test would have shown nothing.
    assert!(left > 0, "no kill came at a moment that leaves anything");
}

#[test]
fn clean_without_anything_to_clean_says_nothing() {
    if unable() {
        return;
    }
    let machine = Spoiled::new();
    let output = machine.run(BINARY, &["clean"]);
    assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()));
}
