//! A node's folders, and the config program running on them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A primary network as small as they come.
pub(crate) fn primary(name: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"bridge","capabilities":{{"ips":true,"mac":false}}}},{{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}"#
    )
}

pub(crate) struct Node {
    root: TempDir,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new() -> Node {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("net.d")).unwrap();
        Node { root, child: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn conf(&self, name: &str) -> PathBuf {
        self.path("net.d").join(name)
    }

    /// Puts a config in place as a careful CNI does.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let temp = self.conf(".put.tmp");
        fs::write(&temp, text).unwrap();
        fs::rename(temp, self.conf(name)).unwrap();
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_config"));
        command.arg("--cni-conf-dir").arg(self.path("net.d"));
        command.arg("--state-file").arg(self.path("state.json"));
        command
    }

    /// As the container runs it.
    pub(crate) fn keeper(&self, args: &[&str]) -> Command {
        let mut command = self.command();
        command.arg("--state-dir").arg(self.path("state"));
        command.arg("--options").arg(self.path("options.json")).args(args);
        command
    }

    pub(crate) fn start(&mut self, args: &[&str]) {
        self.spawn(self.keeper(args));
    }

    pub(crate) fn spawn(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        self.child = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Whether the child has ended by itself; then it is gone.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.child = None;
        }
        ended
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn probe(&self) -> Result<(), String> {
        let done = self.command().arg("probe").output().unwrap();
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// Our config, if it is there; a half-written one fails the test.
    pub(crate) fn ours(&self) -> Option<Value> {
        let text = fs::read(self.conf("00-multus.conflist")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    /// What the program tells the daemon.
    pub(crate) fn state(&self) -> Value {
        fs::read(self.path("state.json"))
            .map(|text| serde_json::from_slice(&text).unwrap())
            .unwrap_or_default()
    }

    pub(crate) fn cluster_network(&self) -> String {
        let ours = self.ours().unwrap_or_default();
        ours["plugins"][0]["clusterNetwork"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !holds(self) {
            assert!(Instant::now() < end, "not within 10 s: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub(crate) fn until_serving(&self, file: &str) {
        let host = format!("/etc/cni/net.d/{file}");
        self.until(&host, |n| n.cluster_network() == host);
        self.until("ready", |n| n.probe().is_ok());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Which file a path is, and when it was last written.
pub(crate) fn identity(path: &Path) -> (u64, i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}
