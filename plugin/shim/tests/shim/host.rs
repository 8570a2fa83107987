//! A throw-away host for the binary: CNI folder, plugin folder, state, and a daemon's double on the socket.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::{Plugins, answer::Answer};

/// What a double answers to `(path, body)`: the bytes on the wire, or nothing and a closed connection.
type Script = dyn Fn(&str, &Value) -> Vec<u8> + Send + Sync;

pub(crate) struct Host {
    pub(crate) plugins: Plugins,
    pub(crate) options: Value,
    /// `CNI_NETNS`; the test's own namespace unless set.
    pub(crate) netns: String,
    /// `CNI_CONTAINERID`.
    pub(crate) container: String,
    /// The whole config on stdin, where it is not the usual one.
    pub(crate) stdin: Option<String>,
    /// Says that the test's own namespace does not stand for the pod's.
    pub(crate) own_netns_is_an_error: bool,
    secret: bool,
    /// Requests that reached the socket: path and body.
    pub(crate) asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Host {
    pub(crate) fn new() -> Self {
        let host = Self {
            plugins: Plugins::new(&["first", "second", "third"]).unwrap(),
            options: json!({ "daemonWaitSeconds": 0 }),
            netns: format!("/proc/{}/ns/net", std::process::id()),
            container: "sandbox1".to_owned(),
            stdin: None,
            own_netns_is_an_error: false,
            secret: false,
            asked: Arc::default(),
        };
        fs::create_dir_all(host.root("net.d")).unwrap();
        host.primary(&json!({}));
        host
    }

    pub(crate) fn root(&self, below: &str) -> PathBuf {
        self.plugins.root().join(below)
    }

    /// Writes the primary network's config: the delegate `first`, with these keys.
    pub(crate) fn primary(&self, keys: &Value) {
        let config =
            json!({"cniVersion": "1.0.0", "name": "cluster", "plugins": [self.delegate("first", keys)]});
        fs::write(self.root("net.d/10-primary.conflist"), config.to_string()).unwrap();
    }

    /// Every config of this host holds a word that no error may show.
    pub(crate) fn secret_in_config(&mut self) {
        self.secret = true;
        self.options["token"] = json!("s3cret");
        self.primary(&json!({}));
    }

    /// A plugin entry that records its calls.
    pub(crate) fn delegate(&self, kind: &str, keys: &Value) -> Value {
        let mut entry = json!({"type": kind, "record": self.plugins.record_file(), "network": kind});
        if self.secret {
            entry["password"] = json!("s3cret");
        }
        entry.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        entry
    }

    /// `spec.config` with one plugin.
    pub(crate) fn nad(&self, kind: &str, keys: &Value) -> String {
        let mut entry = self.delegate(kind, keys);
        entry["cniVersion"] = json!("1.0.0");
        entry.to_string()
    }

    /// Puts a daemon's double on the socket.
    pub(crate) fn daemon(&self, script: impl Fn(&str, &Value) -> Vec<u8> + Send + Sync + 'static) {
        let script: Box<Script> = Box::new(script);
        fs::create_dir_all(self.root("run/daemon")).unwrap();
        let listener = UnixListener::bind(self.root("run/daemon/multus.sock")).unwrap();
        let asked = Arc::clone(&self.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some((stream, path, body)) = stream.ok().and_then(read_request) else { continue };
                asked.lock().unwrap().push((path.clone(), body.clone()));
                let answer = script(&path, &body);
                let mut stream = stream;
                // A shim that has heard enough hangs up; that is its right.
                drop(stream.write_all(&answer));
            }
        });
    }

    /// A daemon that knows these networks, `(namespace/name, spec.config)`, and takes every status.
    pub(crate) fn honest_daemon(&self, networks: &[(&str, String)]) {
        let networks: Vec<(String, String)> =
            networks.iter().map(|(name, config)| ((*name).to_owned(), config.clone())).collect();
        self.daemon(move |path, body| {
            if path != "/v1/resolve" {
                return http(200, "{}");
            }
            let found: Option<Vec<Value>> = body["selections"]
                .as_array()
                .unwrap()
                .iter()
                .map(|wanted| {
                    let name = format!(
                        "{}/{}",
                        wanted["namespace"].as_str().unwrap(),
                        wanted["name"].as_str().unwrap()
                    );
                    let (_, config) = networks.iter().find(|(known, _)| *known == name)?;
                    Some(json!({"namespace": wanted["namespace"], "name": wanted["name"], "config": config}))
                })
                .collect();
            match found {
                Some(found) => http(200, &json!({ "networks": found }).to_string()),
                None => http(
                    404,
                    r#"{"code":7,"reason":"NAD_NOT_FOUND","message":"network is unknown; create it"}"#,
                ),
            }
        });
    }

    /// The bodies that reached one path of the socket.
    pub(crate) fn asked_for(&self, path: &str) -> Vec<Value> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .filter(|(asked, _)| asked == path)
            .map(|(_, body)| body.clone())
            .collect()
    }

    /// Runs the plugin for a pod with this networks annotation (`None`: annotations handed over, but not that one).
    pub(crate) fn call(&self, command: &str, networks: Option<&str>) -> Answer {
        let annotations = networks.map_or(json!({}), |text| json!({ "k8s.v1.cni.cncf.io/networks": text }));
        self.call_with(command, &json!({ "io.kubernetes.cri.pod-annotations": annotations }))
    }

    pub(crate) fn call_with(&self, command: &str, runtime_config: &Value) -> Answer {
        Answer::of(self.start(command, runtime_config).wait_with_output().unwrap())
    }

    pub(crate) fn start(&self, command: &str, runtime_config: &Value) -> Child {
        self.start_for(&self.container, command, runtime_config)
    }

    /// Runs the plugin for a sandbox of another name.
    pub(crate) fn start_for(&self, sandbox: &str, command: &str, runtime_config: &Value) -> Child {
        self.feed(self.command_for(sandbox, command), command, runtime_config)
    }

    /// Starts what [`Host::command_for`] prepared, or what stands around it, and hands it the config.
    pub(crate) fn feed(&self, mut prepared: Command, command: &str, runtime_config: &Value) -> Child {
        // These verbs came with 1.1.0; a runtime does not call older configs with them.
        let version = if matches!(command, "STATUS" | "GC") { "1.1.0" } else { "1.0.0" };
        let mut config = json!({
            "cniVersion": version, "name": "cluster", "type": "multus-shim",
            "clusterNetwork": self.root("net.d/10-primary.conflist"),
            "stateDir": self.root("state"), "runDir": self.root("run"), "runtimeConfig": runtime_config,
        });
        config.as_object_mut().unwrap().extend(self.options.as_object().unwrap().clone());
        let mut child =
            prepared.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let text = self.stdin.clone().unwrap_or_else(|| config.to_string());
        // One that is killed before it reads hears nothing.
        drop(child.stdin.take().unwrap().write_all(text.as_bytes()));
        child
    }

    /// The plugin's process for a verb of a sandbox, not started.
    pub(crate) fn command_for(&self, sandbox: &str, command: &str) -> Command {
        let mut plugin = Command::new(env!("CARGO_BIN_EXE_multus-shim"));
        plugin
            .env_clear()
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", sandbox)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "eth0")
            // The delegates only record, so the test's own namespace can stand for the pod's.
            .env("CNI_NETNS_OVERRIDE", if self.own_netns_is_an_error { "" } else { "1" })
            .env("CNI_PATH", self.plugins.bin())
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod;K8S_POD_UID=u1");
        plugin
    }

    /// `VERB delegate ifname` of every call a delegate saw, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.plugins.calls().unwrap()
    }

    /// Awaits a call of a delegate, as [`Host::calls`] shows it.
    #[track_caller]
    pub(crate) fn await_call(&self, call: &str) {
        await_some(|| self.calls().iter().any(|seen| seen == call).then_some(()));
    }

    /// Names of the files in a folder below the host, sorted; none where there is no folder.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        self.plugins.files(below).unwrap()
    }

    /// Asserts that nothing of a sandbox is left on the host.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.plugins.left().unwrap(), Vec::<String>::new());
    }
}

/// Looks until there is something.
#[track_caller]
pub(crate) fn await_some<T>(look: impl Fn() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "the awaited state did not come");
        std::thread::yield_now();
    }
}

/// What a call says, and whether it ended by itself in time; it is killed else.
pub(crate) fn ended(mut plugin: Child, within: Duration) -> (Answer, bool) {
    let until = Instant::now() + within;
    while plugin.try_wait().unwrap().is_none() {
        if Instant::now() >= until {
            plugin.kill().unwrap();
            return (Answer::of(plugin.wait_with_output().unwrap()), false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    (Answer::of(plugin.wait_with_output().unwrap()), true)
}

/// An HTTP answer.
pub(crate) fn http(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn read_request(mut stream: UnixStream) -> Option<(UnixStream, String, Value)> {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let read = stream.read(&mut part).ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&part[..read]);
        let all = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = all.split_once("\r\n\r\n") else { continue };
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())?;
        if body.len() >= length {
            let path = head.split(' ').nth(1)?.to_owned();
            return Some((stream, path, serde_json::from_str(body).ok()?));
        }
    }
}
