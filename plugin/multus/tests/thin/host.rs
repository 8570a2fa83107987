//! A throw-away host for the binary: plugin folder, state, a kubeconfig, and an API server.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use testkit::{
    Plugins,
    api::{self, Api},
};

pub(crate) struct Host {
    pub(crate) plugins: Plugins,
    pub(crate) api: Api,
    /// Variables that the runtime itself was started with.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Host {
    /// With the pod `demo/pod` of uid `u1`, which asks for nothing, and no definitions.
    pub(crate) fn new() -> Self {
        let host = Self {
            plugins: Plugins::new(&["first", "second", "third"]).unwrap(),
            api: Api::start().unwrap(),
            environment: Vec::new(),
        };
        host.api.with(|state| {
            state.listed.clear();
            state.unlisted.clear();
            state.pods = vec![api::pod("demo", "pod", "u1", &json!({}))];
        });
        fs::write(host.root("kubeconfig"), api::kubeconfig(&host.api.address)).unwrap();
        host
    }

    pub(crate) fn root(&self, below: &str) -> PathBuf {
        self.plugins.root().join(below)
    }

    /// A plugin entry that records its calls.
    pub(crate) fn delegate(&self, kind: &str) -> Value {
        json!({"cniVersion": "1.0.0", "name": kind, "type": kind, "record": self.plugins.record_file(), "network": kind})
    }

    /// Adds a definition whose config is one recording delegate.
    pub(crate) fn define(&self, namespace: &str, name: &str, kind: &str) {
        let nad = api::nad_in(namespace, name, &self.delegate(kind).to_string());
        self.api.with(|state| state.listed.push(nad));
    }

    /// The pod's annotations in the API.
    pub(crate) fn annotate(&self, annotations: &Value) {
        self.api.with(|state| state.pods[0]["metadata"]["annotations"] = annotations.clone());
    }

    /// A config as the thin plugin of Multus is given: the primary inline, a kubeconfig, and nothing of ours but where
    /// state goes in a test.
    pub(crate) fn config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "multus-cni-network", "type": "multus",
            "kubeconfig": self.root("kubeconfig"), "delegates": [self.delegate("first")],
            "stateDir": self.root("state"), "runDir": self.root("run"), "cniDir": self.root("go"),
        })
    }

    pub(crate) fn call(&self, command: &str, config: &Value) -> Answer {
        let mut child = Command::new(env!("CARGO_BIN_EXE_multus"))
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", "sandbox1")
            // The delegates only record, so the test's own namespace can stand for the pod's.
            .env("CNI_NETNS", format!("/proc/{}/ns/net", std::process::id()))
            .env("CNI_NETNS_OVERRIDE", "1")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.plugins.bin())
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=pod;K8S_POD_UID=u1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Answer { ok: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `VERB delegate ifname` of every call a delegate saw, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        let shown = |call: &testkit::Record| {
            let network = call.config()["network"].as_str().unwrap_or("?").to_owned();
            format!("{} {network} {}", call.command(), call.var("CNI_IFNAME"))
        };
        self.plugins.records().unwrap().iter().map(shown).collect()
    }

    /// Names of the files in a folder below the host; none where there is no folder.
    pub(crate) fn files(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root(below)) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        for folder in ["state/journal", "state/given-up", "run/plain", "run/lock"] {
            assert_eq!(self.files(folder), Vec::<String>::new(), "left in {folder}");
        }
    }
}

/// What the plugin said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn result(&self) -> Value {
        assert!(self.ok, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Code and line of a failure; asserts that the line is one and fits an event.
    #[track_caller]
    pub(crate) fn failure(&self) -> (u64, String) {
        assert!(!self.ok, "{self:?}");
        let error: Value = serde_json::from_str(&self.stdout).unwrap();
        let line = error["msg"].as_str().unwrap().to_owned();
        assert!(line.chars().count() < 300 && !line.contains('\n'), "not one short line: {line}");
        (error["code"].as_u64().unwrap(), line)
    }
}
