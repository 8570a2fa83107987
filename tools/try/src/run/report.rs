//! What came of a run: built by the throw-away host, read by people and programs. `docs/try.md` documents its JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Layout of the report.
pub const FORMAT_VERSION: u32 = 1;

/// The whole run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// `works`, `fails` or `not-tried`.
    pub verdict: Verdict,
    /// `throw-away` or `machine`.
    pub host: String,
    /// Interfaces that the host had for the networks.
    pub interfaces: Vec<String>,
    /// Folders of plugins that were used.
    pub plugin_dirs: Vec<String>,
    /// Mistakes that the lint found in the files.
    pub findings: Vec<Value>,
    /// The pods, in the order of their ADD.
    pub pods: Vec<Pod>,
    /// Whether pods of one network reach each other.
    pub reach: Vec<Reach>,
    /// What the networks left behind after DEL.
    pub leaks: Vec<Leak>,
    /// What stays by design of a plugin, such as a bridge.
    pub stays: Vec<String>,
    /// How long the whole took.
    pub milliseconds: f64,
}

/// What the run comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every network attached, checked, detached and left nothing.
    Works,
    /// Something did not.
    #[default]
    Fails,
    /// Nothing failed, but this machine lacks something for at least one network.
    NotTried,
}

/// One throw-away pod.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The networks that it asks for, as `NAMESPACE/NAME`.
    pub networks: Vec<String>,
    /// Why it was not tried; empty if it was.
    pub not_tried: Vec<String>,
    /// ADD, CHECK and DEL, as far as they were reached.
    pub steps: Vec<Step>,
    /// What the networks were resolved to, the sandbox's own eth0 first.
    pub attachments: Vec<Attachment>,
    /// Interfaces after ADD, without `lo`.
    pub interfaces: Vec<Interface>,
    /// Routes after ADD, as `ip route` says them.
    pub routes: Vec<String>,
    /// The `network-status` annotation that was published.
    pub status: Option<Value>,
}

/// One verb.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `ADD`, `CHECK` or `DEL`.
    pub verb: String,
    /// How long it took.
    pub milliseconds: f64,
    /// Why it failed.
    pub error: Option<Failure>,
    /// The plugins that ran, in the order they began.
    pub calls: Vec<Call>,
    /// What the plugin's log said, without its routine.
    pub log: Vec<String>,
}

/// Why a verb failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The CNI error code.
    pub code: u32,
    /// The line that a pod's owner would see.
    pub message: String,
}

/// One plugin that ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Its type.
    pub plugin: String,
    /// `CNI_COMMAND`.
    pub verb: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// 0 for a delegate of Multus, 1 for what a delegate runs, as its IPAM plugin.
    pub depth: u32,
    /// Microseconds since 1970 when it began.
    pub began: u64,
    /// How long it took.
    pub milliseconds: f64,
    /// Its exit code; none after a signal.
    pub exit: Option<i32>,
    /// What it received.
    pub received: String,
    /// What it answered.
    pub answered: String,
}

/// One network of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `NAMESPACE/NAME`; for eth0 the name of the sandbox's own network.
    pub network: String,
    /// The interface.
    pub interface: String,
    /// Types of its plugins, in order.
    pub plugins: Vec<String>,
}

/// One interface of a pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What the kernel calls its kind; empty for a device.
    pub kind: String,
    /// Its hardware address.
    pub mac: String,
    /// Its MTU.
    pub mtu: u64,
    /// Its addresses with prefix length, without link-local ones.
    pub addresses: Vec<String>,
    /// It is up.
    pub up: bool,
}

/// One attempt of a pod to reach another.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// The network.
    pub network: String,
    /// From this pod.
    pub from: String,
    /// To this one.
    pub to: String,
    /// At this address; empty where there is none to try.
    pub address: String,
    /// Whether it answered.
    pub ok: bool,
    /// How long a connection took.
    pub milliseconds: f64,
    /// Why it did not.
    pub why: String,
}

/// Something that is there after DEL and was not before ADD.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// `link`, `file` or `journal`.
    pub kind: String,
    /// Which.
    pub what: String,
}

impl Report {
    /// What the pods, the connections between them and the leaks come to.
    pub fn judge(&self) -> Verdict {
        let failed = |pod: &Pod| pod.steps.iter().any(|step| step.error.is_some());
        if self.pods.iter().any(failed) || self.reach.iter().any(|reach| !reach.ok) || !self.leaks.is_empty()
        {
            Verdict::Fails
        } else if self.pods.iter().any(|pod| !pod.not_tried.is_empty()) || self.pods.is_empty() {
            Verdict::NotTried
        } else {
            Verdict::Works
        }
    }
}
