//! A daemon under test and a client for its socket.

use std::{
    fs,
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::api;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_multus-daemon");
const PATIENCE: Duration = Duration::from_secs(20);

/// The daemon's binary, in a folder of its own, ended with the test.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts the daemon against an API server at `address`; returns when its socket answers.
    /// Nothing where the test cannot run: the daemon talks to root only.
    pub(crate) fn start(address: &str) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), &api::kubeconfig(address))
    }

    /// Starts it in a folder in which the plugin may have worked before.
    pub(crate) fn start_in(folder: tempfile::TempDir, kubeconfig_text: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            testkit::skip("the daemon answers root only: run as root");
            return None;
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(folder.path().join("journal")).unwrap();
        fs::write(folder.path().join("journal/sandbox1.json"), "{}").unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_text).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(BINARY)
            .arg("--socket")
            .arg(folder.path().join("run/daemon/multus.sock"))
            .arg("--journal-dir")
            .arg(folder.path().join("journal"))
            .arg("--plain-dir")
            .arg(folder.path().join("plain"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--node-name", "node1", "--log-level", "debug"])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { child, folder };
        daemon.wait("answers /livez", || UnixStream::connect(daemon.socket()).is_ok());
        Some(daemon)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/daemon/multus.sock")
    }

    pub(crate) fn wait_ready(&self) {
        self.wait("is ready", || self.call("GET", "/readyz", "").0 == 200);
    }

    /// Waits until `condition` holds, bounded.
    pub(crate) fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "waited in vain until the daemon {what}; its log:\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// One request; status and body. Status 0 means that the connection was closed without an answer.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        call(&self.socket(), method, path, body)
    }

    /// One POST; status and JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.call("POST", path, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) fn resolve(&self, name: &str) -> (u16, Value) {
        self.post("/v1/resolve", &resolve(name))
    }

    /// Ends the daemon as a crash does and gives the folder for the next one.
    pub(crate) fn crash(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        if let Err(error) = ended {
            eprintln!("daemon did not end: {error}");
        }
    }
}

pub(crate) fn call(socket: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let Ok(mut stream) = UnixStream::connect(socket) else { return (0, "cannot connect".to_owned()) };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}", body.len());
    // A daemon that refuses early stops reading; what it answered is still to be read.
    let written = stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if answer.is_empty() {
        return (0, format!("{written:?} {read:?}"));
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

pub(crate) fn pod(uid: &str) -> Value {
    json!({"namespace": "default", "name": "pod1", "uid": uid})
}

pub(crate) fn resolve(name: &str) -> Value {
    json!({"pod": pod("uid1"), "sandbox": "sandbox1", "selections": [{"namespace": "default", "name": name}]})
}

pub(crate) fn publish(uid: &str, sandbox: &str) -> Value {
    json!({"pod": pod(uid), "sandbox": sandbox, "status": "[{\"name\":\"x\"}]"})
}

/// Every failure: the reason, a CNI code and one short line.
pub(crate) fn assert_failure(answer: &(u16, Value), reason: &str, code: u64) {
    assert_eq!(answer.1["reason"], reason, "{answer:?}");
    assert_eq!(answer.1["code"], code, "{answer:?}");
    assert_ne!(answer.0, 200);
    let message = answer.1["message"].as_str().unwrap();
    assert!(!message.contains('\n') && message.chars().count() < 300 && message.len() > 10, "{message}");
}
