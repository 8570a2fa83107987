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
    answer::Answer,
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
        Answer::of(child.wait_with_output().unwrap())
    }

    /// `VERB delegate ifname` of every call a delegate saw, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.plugins.calls().unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert_eq!(self.plugins.left().unwrap(), Vec::<String>::new());
    }
}
