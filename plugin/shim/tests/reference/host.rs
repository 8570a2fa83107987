//! A throw-away host: its own network and mount namespace, so that links, rules and `/var/lib/cni` of this machine
//! are never touched.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{answer::Answer, netns::Netns};

use crate::{
    daemon::Daemon,
    pod::{PATIENCE, Pod},
};

pub(crate) struct Host {
    pub(crate) net: Netns,
    /// Another machine: `10.9.0.2` and `fd09::2` on `up0`, wired to the host's `up0`.
    pub(crate) outside: Netns,
    mounts: File,
    folder: TempDir,
    pub(crate) daemon: Arc<Daemon>,
    pub(crate) plugins: PathBuf,
    /// Whether a pod has come and gone.
    pub(crate) used: AtomicBool,
    /// Keys of our own configuration beside the usual ones.
    pub(crate) options: Value,
}

impl Host {
    /// A host where these plugins can run, or a visible skip.
    pub(crate) fn or_skip(plugins: &[&str]) -> Option<Self> {
        let folder = plugin_folder();
        if let Some(missing) = plugins.iter().find(|name| !folder.join(name).is_file()) {
            testkit::skip(&format!(
                "no reference plugin {missing} in {}: run `cargo xtask cluster up` once, or set MULTUS_CACHE",
                folder.display()
            ));
            return None;
        }
        let net = Netns::or_skip().unwrap()?;
        let temporary = TempDir::new().unwrap();
        let host = Self {
            outside: Netns::new().unwrap(),
            mounts: net.inside(|| Ok(private_mounts())).unwrap(),
            net,
            daemon: Daemon::start(&temporary.path().join("run/daemon/multus.sock")),
            folder: temporary,
            plugins: folder,
            used: AtomicBool::new(false),
            options: json!({}),
        };
        std::fs::create_dir(host.folder.path().join("net.d")).unwrap();
        host.sysctl("net.ipv6.conf.default.accept_dad=0");
        host.sysctl("net.ipv6.conf.all.forwarding=1");
        host.net.wire("up0", &host.outside, "up0").unwrap();
        for (side, number) in [(&host.net, 1), (&host.outside, 2)] {
            side.ip(&format!("address add 10.9.0.{number}/24 dev up0")).unwrap();
            side.ip(&format!("address add fd09::{number}/64 dev up0 nodad")).unwrap();
        }
        Some(host)
    }

    /// The versions that a plugin speaks and we do.
    pub(crate) fn versions(&self, plugin: &str) -> Vec<&'static str> {
        let mut command = Command::new(self.plugins.join(plugin));
        let output = self.run(command.env("CNI_COMMAND", "VERSION").stdin(Stdio::null()));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let spoken = answer["supportedVersions"].as_array().unwrap();
        let both = cni::version::SUPPORTED.into_iter().filter(|version| spoken.contains(&json!(version)));
        both.collect()
    }

    /// Runs a program on the host.
    pub(crate) fn run(&self, command: &mut Command) -> Output {
        self.run_with(command, "")
    }

    fn run_with(&self, command: &mut Command, stdin: &str) -> Output {
        let mut child =
            self.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        // A program that does not read its input is free not to.
        drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
        child.wait_with_output().unwrap()
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let work = || {
            // A thread that shares its working directory with others cannot change its mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS)?;
            Ok(command.spawn()?)
        };
        self.net.inside(work).unwrap()
    }

    /// Starts a service of the host.
    pub(crate) fn start(&self, command: &mut Command) -> Service {
        Service(self.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())))
    }

    /// Starts a service of the machine outside.
    pub(crate) fn start_outside(&self, command: &mut Command) -> Service {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Service(self.outside.inside(|| Ok(command.spawn()?)).unwrap())
    }

    /// Waits until a program of the host succeeds.
    #[track_caller]
    pub(crate) fn awaits(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let deadline = Instant::now() + PATIENCE;
        while !self.run(Command::new(words[0]).args(&words[1..])).status.success() {
            assert!(Instant::now() < deadline, "{line}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A folder for files of the test.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What a program of the host prints; empty where it fails or is missing.
    pub(crate) fn read(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        String::from_utf8(self.run(command.args(words)).stdout).unwrap()
    }

    /// Whether the kernel cannot make a link of this kind; the one tried is `probe0`.
    pub(crate) fn lacks(&self, adding: &str) -> bool {
        self.net.ip(adding).is_err() || self.net.ip("link delete probe0").is_err()
    }

    fn sysctl(&self, setting: &str) {
        let (key, value) = setting.split_once('=').unwrap();
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.net.inside(|| Ok(std::fs::write(&path, value)?)).unwrap();
    }

    /// Calls the plugin as a runtime would whose config has this version.
    pub(crate) fn call(&self, command: &str, version: &str, pod: &Pod) -> Answer {
        let folder = self.folder.path();
        let primary = json!({"cniVersion": version, "name": "cluster", "plugins": pod.primary});
        std::fs::write(folder.join("net.d/10-primary.conflist"), primary.to_string()).unwrap();
        let definitions = pod.seconds.iter().map(|second| {
            let mut config = json!({"cniVersion": version, "name": second.name});
            config.as_object_mut().unwrap().extend(second.config.as_object().unwrap().clone());
            (second.name.to_owned(), config)
        });
        *self.daemon.networks.lock().unwrap() = definitions.collect();
        let mut runtime_config = pod.runtime_config.clone();
        runtime_config["io.kubernetes.cri.pod-annotations"] = pod.annotations();
        let mut config = json!({
            "cniVersion": version, "name": "cluster", "type": "multus-shim",
            "clusterNetwork": folder.join("net.d/10-primary.conflist"),
            "stateDir": folder.join("state"), "runDir": folder.join("run"),
            "runtimeConfig": runtime_config,
        });
        config.as_object_mut().unwrap().extend(self.options.as_object().unwrap().clone());
        let mut shim = Command::new(env!("CARGO_BIN_EXE_multus-shim"));
        shim.env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.id)
            .env("CNI_NETNS", pod.netns.path())
            .env("CNI_IFNAME", pod.ifname)
            .env("CNI_PATH", &self.plugins)
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod;K8S_POD_UID=u1");
        Answer::of(self.run_with(&mut shim, &config.to_string()))
    }

    /// What of the host the plugins may have changed, in lines that do not depend on time.
    pub(crate) fn state(&self) -> Vec<String> {
        let folder = self.folder.path().display();
        let mut lines = Vec::new();
        for line in self.read("ip -o link").lines() {
            // The peer of a wire is named by a number.
            let name = line.split_whitespace().nth(1).unwrap_or_default();
            lines.push(format!("link {}", name.split(['@', ':']).next().unwrap_or_default()));
        }
        for command in [
            "ip -o address",
            "ip route",
            "ip -6 route",
            "ip rule",
            "ip -6 rule",
            "tc qdisc",
            "nft --stateless list ruleset",
            "find /var/lib/cni /run/cni -type f",
            &format!("find {folder}/state {folder}/run -type f"),
        ] {
            lines.extend(self.read(command).lines().filter_map(|line| steady(command, line)));
        }
        lines.sort();
        lines
    }

    /// Asserts that the host comes to this state; the kernel takes links away in its own time.
    #[track_caller]
    pub(crate) fn settles_to(&self, state: &[String]) {
        let deadline = Instant::now() + PATIENCE;
        while self.state() != state && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.state(), state);
    }
}

/// A line of the host's state without what passes; `None` for one that comes and goes by itself.
fn steady(command: &str, line: &str) -> Option<String> {
    // Link-local addresses come and go with the carrier, and their routes with them.
    if line.contains("fe80:") || line.contains("ff00::") {
        return None;
    }
    let words = line.split_whitespace().skip(usize::from(command == "ip -o address"));
    let words = words.filter(|word| !["linkdown", "dadfailed", "tentative"].contains(word));
    Some(format!("{command}: {}", words.collect::<Vec<_>>().join(" ")))
}

fn plugin_folder() -> PathBuf {
    let cache = std::env::var_os("MULTUS_CACHE").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/multus-rs");
    cache.unwrap_or_else(home).join("bin/cni")
}

/// Mounts of its own for the calling thread, with empty folders where plugins keep their state.
fn private_mounts() -> File {
    const NOTHING: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
    let kept = Path::new("/var/lib/cni");
    let kept = if kept.is_dir() { kept } else { Path::new("/var/lib") };
    for folder in [Path::new("/run"), kept] {
        mount(Some("none"), folder, Some("tmpfs"), MsFlags::empty(), NOTHING).unwrap();
    }
    File::open("/proc/thread-self/ns/mnt").unwrap()
}

/// A program that ends with the test.
pub(crate) struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
