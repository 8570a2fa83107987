//! A folder of plugins, and everything to run them.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use cni::{
    chain::{Attachment, Runner, Watcher},
    config::NetworkConfig,
    error::Error,
    process::TERM_GRACE,
    raw::Object,
};
use serde_json::{Value, json};
use testkit::{Plugins, Record};

static NO_ARGS: LazyLock<Object> = LazyLock::new(Object::default);

/// Remembers what it was told.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) started: Mutex<Vec<(i32, u64)>>,
    pub(crate) ended: Mutex<Vec<i32>>,
    pub(crate) refuse: bool,
}

impl Watcher for Log {
    fn started(&self, pid: i32, start_time: u64) -> Result<(), Error> {
        self.started.lock().unwrap().push((pid, start_time));
        if self.refuse { Err(Error::new(5, "the journal is full")) } else { Ok(()) }
    }

    fn ended(&self, pid: i32) {
        self.ended.lock().unwrap().push(pid);
    }
}

/// A folder of recording delegates with everything to run them.
pub(crate) struct Bench {
    pub(crate) plugins: Plugins,
    pub(crate) path: Vec<PathBuf>,
    pub(crate) log: Log,
}

impl Bench {
    pub(crate) fn new(names: &[&str]) -> Self {
        let plugins = Plugins::new(names).unwrap();
        Self { path: vec![plugins.bin()], plugins, log: Log::default() }
    }

    pub(crate) fn runner(&self) -> Runner<'_> {
        self.runner_for(Duration::from_secs(60))
    }

    pub(crate) fn runner_for(&self, time: Duration) -> Runner<'_> {
        Runner { path: &self.path, deadline: Instant::now() + time, grace: TERM_GRACE, watcher: &self.log }
    }

    /// A network of these plugins that record here.
    pub(crate) fn list(&self, version: &str, mut plugins: Value) -> NetworkConfig {
        for plugin in plugins.as_array_mut().unwrap() {
            plugin["record"] = json!(self.plugins.record_file());
        }
        let text = json!({"cniVersion": version, "name": "testnet", "plugins": plugins}).to_string();
        NetworkConfig::parse(&text, None).unwrap()
    }

    /// Puts a shell script into the folder, as a plugin.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.plugins.bin().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.plugins.records().unwrap()
    }
}

pub(crate) fn attachment() -> Attachment<'static> {
    Attachment {
        container_id: "c1",
        netns: Some("/run/netns/x"),
        ifname: "net1",
        args: "IgnoreUnknown=1;K8S_POD_NAME=p",
        capability_args: &NO_ARGS,
    }
}
