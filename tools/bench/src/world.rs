//! A cluster for measuring: API server with an audit log, namespaces, pods and networks, all of one run.
//!
//! The process leaves the machine's network and mount namespaces first ([`isolate`]), so that nothing of a run is
//! seen outside and the usual folders below `/run` are its own, on a tmpfs as on a node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, bail};
use conformance::{api::Api, stage::Netns};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::{Value, json};

/// The node that all pods of subjects are on.
pub(crate) const NODE: &str = "node1";
/// Annotation that asks for networks.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// Networks of a small cluster, of each kind.
pub(crate) const FEW: usize = 10;
/// How names of networks with real plugins begin.
pub(crate) const REAL: &str = "real";
/// The link of this namespace that macvlan works on.
const UPLINK: &str = "up0";
/// Requests at a time while objects are made.
const MAKERS: usize = 8;

/// Leaves the machine's network and mounts. To be called before there is a second thread.
pub(crate) fn isolate() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("cannot make namespaces; run as root")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("making mounts private")?;
    mount(Some("bench"), "/run", Some("tmpfs"), MsFlags::empty(), none).context("mounting /run")?;
    let uplink = ["link", "add", UPLINK, "type", "veth", "peer", "name", "other"];
    let up = |name| ["link", "set", name, "up"];
    [&up("lo")[..], &uplink, &up(UPLINK), &up("other")].into_iter().try_for_each(ip)
}

fn ip(words: &[&str]) -> Result<()> {
    let done = Command::new("ip").args(words).status().context("cannot run ip")?;
    if !done.success() {
        bail!("ip {} failed", words.join(" "));
    }
    Ok(())
}

/// A pod, once for each ADD that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Names of the networks that it asks for.
    pub(crate) networks: Vec<String>,
}

impl Pod {
    /// The annotation's value; nothing for a plain pod.
    pub(crate) fn request(&self) -> Option<String> {
        (!self.networks.is_empty()).then(|| self.networks.join(","))
    }
}

/// One API server and what belongs to it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) folder: PathBuf,
    /// Where all pods of this run are said to be.
    pub(crate) netns: Netns,
}

impl World {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let server = folder.join("api");
        fs::create_dir_all(&server)?;
        let policy = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}],
            "omitStages": ["RequestReceived", "ResponseStarted"]});
        fs::write(server.join("audit-policy.yaml"), policy.to_string())?;
        let flags = [
            // This network namespace has no address but loopback.
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--audit-policy-file={}", server.join("audit-policy.yaml").display()),
            format!("--audit-log-path={}", server.join("audit.log").display()),
        ];
        let api = Api::start_with(&server, &flags)?;
        let netns = Netns::new(&folder.join("netns"))?;
        Ok(Self { api, folder: folder.to_owned(), netns })
    }

    /// The config of a network with real plugins: each has addresses of its own, noted in this world's folder.
    pub(crate) fn real_config(&self, number: usize) -> Value {
        json!({"cniVersion": "1.0.0", "name": format!("{REAL}-{number}"), "type": "macvlan", "master": UPLINK,
            "ipam": {"type": "host-local", "dataDir": self.folder.join("addresses"),
                "ranges": [[{"subnet": format!("10.98.{number}.0/24")}]]}})
    }

    /// The requests that the API server answered.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.join("api/audit.log")
    }

    /// A folder below this world's.
    pub(crate) fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    pub(crate) fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.api.create("/api/v1/namespaces", &object).map(drop)
    }

    /// Networks `PREFIX-N` with these numbers, and for each number a config.
    pub(crate) fn networks(
        &self,
        namespace: &str,
        prefix: &str,
        numbers: std::ops::Range<usize>,
        config: impl Fn(usize) -> String + Sync,
    ) -> Result<()> {
        let path = format!("/apis/k8s.cni.cncf.io/v1/namespaces/{namespace}/network-attachment-definitions");
        let make = |number: usize| {
            let object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": format!("{prefix}-{number}")}, "spec": {"config": config(number)}});
            self.api.create(&path, &object)
        };
        many(numbers, make).map(drop)
    }

    /// Pods `PREFIX-N` on a node, which nothing runs.
    pub(crate) fn pods(
        &self,
        namespace: &str,
        prefix: &str,
        count: usize,
        node: &str,
        networks: &[String],
    ) -> Result<Vec<Pod>> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let wanted = |number: usize| Pod {
            namespace: namespace.to_owned(),
            name: format!("{prefix}-{number}"),
            uid: String::new(),
            networks: networks.to_vec(),
        };
        let make = |number: usize| {
            let pod = wanted(number);
            let annotations = pod.request().map_or(json!({}), |request| json!({ NETWORKS: request }));
            let object = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod.name, "annotations": annotations},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.invalid/none"}]}});
            self.api.create(&path, &object)
        };
        let made = many(0..count, make)?;
        let with_uid = |(number, object): (usize, Value)| {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            Pod { uid, ..wanted(number) }
        };
        Ok(made.into_iter().enumerate().map(with_uid).collect())
    }
}

/// Makes objects, some at a time; gives them in their order.
fn many(numbers: std::ops::Range<usize>, make: impl Fn(usize) -> Result<Value> + Sync) -> Result<Vec<Value>> {
    let next = AtomicUsize::new(numbers.start);
    let work = || -> Result<Vec<(usize, Value)>> {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return Ok(made);
            }
            made.push((number, make(number)?));
        }
    };
    let mut made = thread::scope(|scope| -> Result<Vec<(usize, Value)>> {
        let workers: Vec<_> = (0..MAKERS).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow::anyhow!("a maker of objects broke off"))??);
        }
        Ok(all)
    })?;
    made.sort_by_key(|(number, _)| *number);
    Ok(made.into_iter().map(|(_, object)| object).collect())
}
