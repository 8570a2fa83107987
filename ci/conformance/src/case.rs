//! The format of a case.
//!
//! ```yaml
//! - name: a network asked for by name is attached after the primary
//!   holds: [N8, N10, N46]
//!   networks: {a: {type: second}}            # NADs of the pod's namespace; `$other/a` is in another one
//!   pod: a                                   # the networks annotation
//!   calls: [ADD first eth0, ADD second net1]
//! ```
//!
//! Words that stand for what a run decides: `$ns` and `$other` (namespaces that no other case has), `$pod`, `$uid`,
//! `$id` (sandbox), `$each`, `$netns`, `$root` (folder of the case), `$bin` (folder of plugins), `$v` (see `versions`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// One case as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Case {
    /// The promise, as a sentence.
    pub name: String,
    /// Clauses that it holds: N1 to N58, C1 to C30, D1 to D20, B1 to B31, P1 to P18.
    pub holds: Vec<String>,
    /// Why Go Multus differs here, for the comparison; it starts with the bug's or clause's number.
    #[serde(default)]
    pub peer: Option<String>,
    /// The case runs once for each, as `$v`.
    #[serde(default = "default_versions")]
    pub versions: Vec<String>,
    /// The case runs once for each, as `$each`.
    #[serde(default)]
    pub each: Vec<String>,
    /// It is known to fail for now, and why; the run then calls it skipped.
    #[serde(default)]
    pub not_yet: Option<String>,
    /// Keys of our own config, in Go Multus's spelling; a null takes one away that the runner would set.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The primary's config: a list, a single plugin, or text as it stands. Null writes no file.
    #[serde(default = "default_primary")]
    pub primary: Value,
    /// `spec.config` by name: a mapping gets `cniVersion: $v` unless it has one, text is taken as it stands, null
    /// makes a definition without one.
    #[serde(default)]
    pub networks: BTreeMap<String, Value>,
    /// Files below `$root`, as mapping or text.
    #[serde(default)]
    pub files: BTreeMap<String, Value>,
    /// The pod.
    #[serde(default)]
    pub pod: Pod,
    /// What the runtime does.
    #[serde(default)]
    pub runtime: Runtime,
    /// Interfaces that the network namespace has before the first step.
    #[serde(default)]
    pub links: Vec<String>,
    /// Plugin types whose binary is not there.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Where the plugins are, below `$root`, by type; `bin` unless said.
    #[serde(default)]
    pub plugin_folders: BTreeMap<String, String>,
    /// A case with one ADD says here what is expected of it; the runner then adds a DEL that undoes it.
    #[serde(flatten)]
    pub add: Expected,
    /// Otherwise: all steps.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What is no key of this format; the loader refuses it.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// The pod, and what is known of it in the cluster.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "PodForm")]
pub struct Pod {
    /// Its annotations; values that are no text are written as JSON.
    pub annotations: BTreeMap<String, Value>,
    /// Not in the cluster.
    pub absent: bool,
    /// Its namespace; `$ns` unless said.
    pub namespace: Option<String>,
    /// The runtime is told another uid than the cluster knows.
    pub uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PodForm {
    Networks(String),
    Whole(WholePod),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WholePod {
    #[serde(default)]
    networks: Option<Value>,
    #[serde(default)]
    default_network: Option<Value>,
    #[serde(default)]
    annotations: BTreeMap<String, Value>,
    #[serde(default)]
    absent: bool,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    uid: Option<String>,
}

impl From<PodForm> for Pod {
    fn from(form: PodForm) -> Self {
        let whole = match form {
            PodForm::Networks(text) => WholePod { networks: Some(text.into()), ..WholePod::default() },
            PodForm::Whole(whole) => whole,
        };
        let mut annotations = whole.annotations;
        annotations.extend(whole.networks.map(|value| (crate::pod::NETWORKS.to_owned(), value)));
        annotations
            .extend(whole.default_network.map(|value| (crate::pod::DEFAULT_NETWORK.to_owned(), value)));
        Self { annotations, absent: whole.absent, namespace: whole.namespace, uid: whole.uid }
    }
}

/// What the container runtime does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Runtime {
    /// It hands over the pod's annotations.
    pub annotations: bool,
    /// It hands over these capability arguments.
    pub config: Map<String, Value>,
    /// It sends this as `CNI_ARGS`, instead of what containerd sends.
    pub args: Option<String>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_PATH`; `$bin` unless said.
    pub path: Option<String>,
}

impl Default for Runtime {
    fn default() -> Self {
        Self { annotations: true, config: Map::new(), args: None, ifname: "eth0".to_owned(), path: None }
    }
}

/// One step: a call, or changes to the world.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// `ADD`, `DEL`, `CHECK`, `GC`, `STATUS` or `VERSION`.
    #[serde(rename = "do", default)]
    pub verb: Option<String>,
    /// Happens before the call.
    #[serde(default)]
    pub change: Vec<Change>,
    /// Variables other than the runner would set; null unsets one.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// Keys of standard input other than the runner would set; null takes one away.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// Standard input as it stands.
    #[serde(default)]
    pub stdin: Option<String>,
    /// What is expected of the call.
    #[serde(flatten)]
    pub expected: Expected,
    /// What is no key of this format; the loader refuses it.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// A change to the world between two calls.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Change {
    /// Deletes a network definition.
    DeleteNetwork(String),
    /// Gives a network definition another config.
    SetNetwork(String, Value),
    /// Deletes the pod.
    DeletePod,
    /// Writes a file below `$root`.
    Write(String, Value),
    /// Removes a file or folder below `$root`.
    Remove(String),
    /// Dates everything that the plugin wrote of the sandbox two hours back.
    Age,
    /// Makes an interface in the network namespace.
    Link(String),
    /// Puts a missing plugin into its folder.
    Install(String),
}

/// What is expected of one call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Expected {
    /// Calls that delegates receive, in order. Not given: any.
    #[serde(default)]
    pub calls: Option<Vec<Call>>,
    /// The answer comes within this time.
    #[serde(default)]
    pub within_ms: Option<u64>,
    /// The call fails so. Not given: it succeeds.
    #[serde(default)]
    pub error: Option<Failure>,
    /// What is printed. Not given, after an ADD: the primary's result.
    #[serde(default)]
    pub prints: Option<Value>,
    /// The pod's network-status afterwards: a list whose elements are `NAME IFNAME` (with what the delegate
    /// answers when nothing tells it otherwise) or whole entries; `none` where there is no such annotation; `any`.
    /// Not given: what the delegates' own answers amount to, if the pod asks for networks.
    #[serde(default)]
    pub status: Option<Value>,
    /// Texts in events of the pod.
    #[serde(default)]
    pub events: Vec<String>,
    /// Routes of the network namespace afterwards, as `ip route` prints them, in any order.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
}

/// A failure.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// CNI error code; several where the specification leaves it open.
    pub code: OneOrMore,
    /// Our stable word for it.
    #[serde(default)]
    pub slug: Option<String>,
    /// Words that the line must have.
    #[serde(default)]
    pub says: Vec<String>,
}

/// A number or a list of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// That one.
    One(u32),
    /// Any of these.
    More(Vec<u32>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

/// One call of a delegate.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "CallForm")]
pub struct Call {
    /// `VERB PLUGIN IFNAME`; without an interface for GC and STATUS.
    pub call: String,
    /// The network whose plugin it is, where several have one of that type.
    pub of: Option<String>,
    /// Standard input has these keys besides those of the plugin's entry; null takes one away.
    pub with: Map<String, Value>,
    /// Standard input is this, whole.
    pub stdin: Option<Value>,
    /// Standard input has these texts, byte for byte.
    pub bytes: Vec<String>,
    /// `CNI_ARGS` has these pairs besides those of the runtime.
    pub args: BTreeMap<String, String>,
    /// Other variables.
    pub env: BTreeMap<String, String>,
    /// `prevResult`, where it is not what the delegate answered; null for none.
    pub prev: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CallForm {
    Short(String),
    Whole(Box<WholeCall>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeCall {
    call: String,
    #[serde(default)]
    of: Option<String>,
    #[serde(default)]
    with: Map<String, Value>,
    #[serde(default)]
    stdin: Option<Value>,
    #[serde(default)]
    bytes: Vec<String>,
    #[serde(default)]
    args: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "present")]
    prev: Option<Value>,
}

/// A null that is written is not the same as nothing.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl From<CallForm> for Call {
    fn from(form: CallForm) -> Self {
        let whole = match form {
            CallForm::Short(call) => WholeCall { call, ..WholeCall::default() },
            CallForm::Whole(whole) => *whole,
        };
        let WholeCall { call, of, with, stdin, bytes, args, env, prev } = whole;
        Self { call, of, with, stdin, bytes, args, env, prev }
    }
}

fn default_versions() -> Vec<String> {
    vec!["1.0.0".to_owned()]
}

fn default_primary() -> Value {
    serde_json::json!({"plugins": [{"type": "first"}]})
}

impl Call {
    /// A call of which only this is said.
    pub fn named(call: &str) -> Self {
        CallForm::Short(call.to_owned()).into()
    }
}
