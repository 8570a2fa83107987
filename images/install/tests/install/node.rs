//! A node's folders, an image's folder, and the installer running on them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// As small as a plugin of ours can be: it answers, and it bears the mark.
pub(crate) const PLUGIN: &str = "#!/bin/sh\n# /var/lib/cni/multus-rs\necho '{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"1.0.0\",\"1.1.0\"]}'\n";
/// A plugin of somebody else.
pub(crate) const OTHER: &str =
    "#!/bin/sh\n# other\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}'\n";

pub(crate) struct Node {
    root: TempDir,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new() -> Node {
        let root = TempDir::new().unwrap();
        for dir in ["image", "bin"] {
            fs::create_dir(root.path().join(dir)).unwrap();
        }
        let node = Node { root, child: None };
        node.ship("multus-shim", PLUGIN);
        node
    }

    /// Puts a plugin into the image.
    pub(crate) fn ship(&self, name: &str, plugin: &str) {
        fs::write(self.path("image").join(name), plugin).unwrap();
    }

    /// Puts a program on the host.
    pub(crate) fn plant(&self, name: &str, program: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("bin").join(name);
        fs::write(&path, program).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn installed(&self) -> PathBuf {
        self.path("bin/multus-shim")
    }

    /// Without the plugins' names.
    pub(crate) fn bare(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_install"));
        command.arg("--source-dir").arg(self.path("image"));
        command.arg("--state-dir").arg(self.path("state"));
        command
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.bare();
        command.arg("--bin-dir").arg(self.path("bin")).args(["--plugin", "multus-shim"]);
        command
    }

    pub(crate) fn install(&self) -> Output {
        self.command().output().unwrap()
    }

    pub(crate) fn install_with(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// Runs in the background, its log in a file.
    pub(crate) fn start(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        self.child = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Node) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < end, "not within 20 s: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn ledger(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("state/ledger/install.json")).unwrap()).unwrap()
    }

    /// What the ledger has for a path of the host.
    pub(crate) fn entry(&self, host: &str) -> Value {
        let ledger = self.ledger();
        let entries = ledger["entries"].as_array().unwrap().iter();
        entries.clone().find(|e| e["path"] == host).cloned().unwrap_or_default()
    }

    /// The copy that was kept of a file that was replaced.
    pub(crate) fn copy(&self, host: &str) -> String {
        let entry = self.entry(host);
        let copy = entry["replaced"]["copy"].as_str().unwrap();
        fs::read_to_string(self.path("state/replaced").join(copy)).unwrap()
    }

    pub(crate) fn names(&self, dir: &str) -> Vec<String> {
        let dir = fs::read_dir(self.path(dir)).unwrap();
        let mut names: Vec<_> = dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one line that says why it failed.
#[track_caller]
pub(crate) fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    let said = said(output);
    let line = said.lines().last().unwrap().to_owned();
    assert!(line.len() < 300, "{line}");
    line
}

/// Which file a path is, and when it was last written.
pub(crate) fn identity(path: &Path) -> (u64, i64, i64) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec())
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A file system of its own on a folder, until it is dropped.
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// A tmpfs with these options; skips the test where none can be mounted.
    pub(crate) fn tmpfs(at: &Path, options: &str) -> Option<Mounted> {
        fs::create_dir_all(at).unwrap();
        let done =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).output().unwrap();
        if !done.status.success() {
            testkit::skip("a tmpfs cannot be mounted here; run as root");
            return None;
        }
        Some(Mounted(at.to_owned()))
    }

    pub(crate) fn again(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("-l").arg(&self.0).status().unwrap().success());
    }
}
