//! What every delegate's call has in common, from the CNI specification (section 3) and the standard (section 4.2.1).
//!
//! A case names its calls; this module says what the environment and standard input of such a call then are:
//! the plugin's entry as written, `cniVersion` and `name` of its network, no `capabilities`, the previous
//! result. It keeps what the delegates answered, since a later call receives it. It is written from the
//! specification and shares no code with the plugins.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use testkit::default_result;

use crate::case::Call;

/// Keys of an entry that tell the recording delegate what to do; they are its own affair.
const OWN_KEYS: [&str; 5] = ["behaviour", "result", "code", "msg", "milliseconds"];

/// A network of the case, as written.
#[derive(Debug, Clone)]
pub struct Network {
    /// What a case calls it: `primary`, a definition's name as in `networks`, or a file's name.
    pub key: String,
    /// What the pod's network-status calls it.
    pub shown: String,
    /// Its `cniVersion`.
    pub version: String,
    /// Its `name`, or the one that it gets.
    pub name: String,
    /// Entries of its plugins.
    pub plugins: Vec<Map<String, Value>>,
}

impl Network {
    /// Reads a config; nothing where it is none, since a case may mean it to be broken.
    pub fn read(key: &str, shown: &str, default_name: &str, config: &Value) -> Option<Self> {
        let config = config.as_object()?;
        let plugins = match config.get("plugins") {
            Some(Value::Array(list)) => list.iter().map(Value::as_object).collect::<Option<Vec<_>>>()?,
            _ => vec![config],
        };
        let text = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self {
            key: key.to_owned(),
            shown: shown.to_owned(),
            version: chosen_version(config).unwrap_or_else(|| "0.1.0".to_owned()),
            name: text("name").unwrap_or(default_name).to_owned(),
            plugins: plugins.into_iter().cloned().collect(),
        })
    }
}

/// A call as a delegate must receive it.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// The plugin's name.
    pub plugin: String,
    /// The `CNI_*` variables but `CNI_ARGS`; an empty one may also be unset.
    pub env: BTreeMap<String, String>,
    /// The pairs of `CNI_ARGS`, sorted.
    pub args: Vec<String>,
    /// Standard input, without the keys that are the recording delegate's own.
    pub stdin: Value,
    /// Texts that standard input has.
    pub bytes: Vec<String>,
}

/// One attachment: a network and an interface.
#[derive(Debug, Clone)]
struct Attachment {
    network: usize,
    ifname: String,
    /// Result of the plugin that ran last.
    running: Option<Value>,
    /// Result of the whole chain.
    last: Option<Value>,
    /// The ADD calls, as the case has them.
    calls: Vec<Call>,
}

/// The networks of a case and what became of them so far.
#[derive(Debug, Clone)]
pub struct Model {
    networks: Vec<Network>,
    attachments: Vec<Attachment>,
    sandbox: String,
    netns: String,
    path: String,
    args: Vec<String>,
}

impl Model {
    /// Nothing is attached yet. `args` is what the runtime sends as `CNI_ARGS`.
    pub fn new(networks: Vec<Network>, sandbox: &str, netns: &str, path: &str, args: &str) -> Self {
        let mut args: Vec<String> = args.split(';').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        if !args.iter().any(|pair| pair.starts_with("IgnoreUnknown=")) {
            args.push("IgnoreUnknown=true".to_owned());
        }
        let (sandbox, netns, path) = (sandbox.to_owned(), netns.to_owned(), path.to_owned());
        Self { networks, attachments: Vec::new(), sandbox, netns, path, args }
    }

    /// What the calls of a step look like, and takes note of their outcome.
    pub fn expect(&mut self, calls: &[Call]) -> Result<Vec<Expectation>> {
        calls.iter().map(|call| self.one(call).with_context(|| format!("call {:?}", call.call))).collect()
    }

    fn one(&mut self, call: &Call) -> Result<Expectation> {
        let words: Vec<&str> = call.call.split(' ').collect();
        let (verb, plugin, ifname) = match words[..] {
            [verb, plugin] => (verb, plugin, ""),
            [verb, plugin, ifname] => (verb, plugin, ifname),
            _ => bail!("not of the form VERB PLUGIN IFNAME"),
        };
        let (index, position) = self.find(plugin, call.of.as_deref())?;
        let network = self.networks[index].clone();
        let entry = &network.plugins[position];
        let attachment = (!ifname.is_empty()).then(|| self.attachment(index, ifname));
        // A teardown and a check have what the ADD had, unless the case says otherwise.
        let mut call = call.clone();
        if verb != "ADD"
            && let Some(added) = attachment.and_then(|a| self.added(a, plugin))
        {
            let whole = added.stdin.clone().map(|mut stdin| {
                remove_prev(&mut stdin);
                stdin
            });
            call.stdin = call.stdin.or(whole);
            call.with = added.with.clone().into_iter().chain(call.with).collect();
            call.args = added.args.clone().into_iter().chain(call.args).collect();
            call.env = added.env.clone().into_iter().chain(call.env).collect();
        }
        let prev = match (&call.prev, attachment) {
            (Some(given), _) => Some(given.clone()).filter(|value| !value.is_null()),
            (None, Some(attachment)) => {
                let attachment = &self.attachments[attachment];
                match verb {
                    "ADD" if position > 0 => attachment.running.clone(),
                    "DEL" if at_least(&network.version, "0.4.0") => attachment.last.clone(),
                    "CHECK" => attachment.last.clone(),
                    _ => None,
                }
            }
            (None, None) => None,
        };
        let stdin = stdin(&network, entry, &call, prev.clone());
        if verb == "ADD"
            && let Some(attachment) = attachment
        {
            let result = answer(entry, prev, &network.version, ifname, &self.netns);
            let attachment = &mut self.attachments[attachment];
            if position == 0 {
                attachment.calls.clear();
            }
            attachment.calls.push(call.clone());
            attachment.last = if position + 1 == network.plugins.len() { result.clone() } else { None };
            attachment.running = result;
        }
        Ok(Expectation {
            plugin: plugin.to_owned(),
            env: self.env(verb, ifname, &call),
            args: self.args(ifname, &call),
            stdin,
            bytes: call.bytes.clone(),
        })
    }

    /// The calls that undo what was attached: networks last first, and each of their plugins last first.
    pub fn undo(&self) -> Vec<Call> {
        let last_first = |attachment: &Attachment| -> Vec<Call> {
            let turned = |call: &Call| Call {
                call: call.call.replacen("ADD", "DEL", 1),
                of: call.of.clone(),
                // All else is what the ADD had.
                ..crate::case::Call::named(&call.call)
            };
            attachment.calls.iter().rev().map(turned).collect()
        };
        self.attachments.iter().rev().flat_map(last_first).collect()
    }

    /// What the whole chain of the primary answered.
    pub fn primary_result(&self) -> Option<&Value> {
        self.attachments.first()?.last.as_ref()
    }

    /// The entries of network-status that follow from what the delegates answer by themselves; nothing where one
    /// of them was told what to answer.
    pub fn status(&self) -> Option<Vec<Value>> {
        let mut entries = Vec::new();
        for (position, attachment) in self.attachments.iter().enumerate() {
            let network = &self.networks[attachment.network];
            let told =
                network.plugins.iter().any(|p| p.contains_key("result") || p.contains_key("behaviour"));
            if told || !at_least(&network.version, "0.3.0") || attachment.last.is_none() {
                return None;
            }
            entries.push(status_entry(&network.shown, &attachment.ifname, position == 0));
        }
        Some(entries)
    }

    fn find(&self, plugin: &str, of: Option<&str>) -> Result<(usize, usize)> {
        let mut found = Vec::new();
        for (index, network) in self.networks.iter().enumerate() {
            if of.is_some_and(|key| key != network.key) {
                continue;
            }
            let is = |entry: &Map<String, Value>| entry.get("type").and_then(Value::as_str) == Some(plugin);
            found.extend(network.plugins.iter().position(is).map(|position| (index, position)));
        }
        match found[..] {
            [one] => Ok(one),
            [] => bail!("no network has a plugin {plugin}"),
            _ => bail!("several networks have a plugin {plugin}: say `of`"),
        }
    }

    fn attachment(&mut self, network: usize, ifname: &str) -> usize {
        let known = self.attachments.iter().position(|a| a.network == network && a.ifname == ifname);
        known.unwrap_or_else(|| {
            let ifname = ifname.to_owned();
            self.attachments.push(Attachment {
                network,
                ifname,
                running: None,
                last: None,
                calls: Vec::new(),
            });
            self.attachments.len() - 1
        })
    }

    fn added(&self, attachment: usize, plugin: &str) -> Option<&Call> {
        let is = |call: &&Call| call.call.split(' ').nth(1) == Some(plugin);
        self.attachments[attachment].calls.iter().find(is)
    }

    fn env(&self, verb: &str, ifname: &str, call: &Call) -> BTreeMap<String, String> {
        let mut env = BTreeMap::from([
            ("CNI_COMMAND".to_owned(), verb.to_owned()),
            ("CNI_PATH".to_owned(), self.path.clone()),
        ]);
        if !ifname.is_empty() {
            env.insert("CNI_CONTAINERID".to_owned(), self.sandbox.clone());
            env.insert("CNI_NETNS".to_owned(), self.netns.clone());
            env.insert("CNI_IFNAME".to_owned(), ifname.to_owned());
        }
        env.extend(call.env.clone());
        env
    }

    fn args(&self, ifname: &str, call: &Call) -> Vec<String> {
        let mut args = if ifname.is_empty() { Vec::new() } else { self.args.clone() };
        args.extend(call.args.iter().map(|(key, value)| format!("{key}={value}")));
        args.sort();
        args
    }
}

/// One entry of network-status for what a delegate answers by itself.
pub fn status_entry(shown: &str, ifname: &str, default: bool) -> Value {
    let mut entry =
        json!({"name": shown, "interface": ifname, "ips": ["192.0.2.10"], "mac": "02:00:00:00:00:01"});
    if default {
        entry["default"] = true.into();
    }
    entry
}

/// Deriving the request configuration (CNI specification, section 3).
fn stdin(network: &Network, entry: &Map<String, Value>, call: &Call, prev: Option<Value>) -> Value {
    let mut stdin = match &call.stdin {
        Some(Value::Object(whole)) => whole.clone(),
        _ => {
            let mut derived = entry.clone();
            derived.retain(|key, _| {
                !matches!(
                    key.as_str(),
                    "capabilities" | "prevResult" | "runtimeConfig" | "plugins" | "cniVersions"
                ) && !key.starts_with("cni.dev/")
            });
            derived.insert("cniVersion".to_owned(), network.version.clone().into());
            derived.insert("name".to_owned(), network.name.clone().into());
            derived
        }
    };
    if let Some(prev) = prev {
        stdin.insert("prevResult".to_owned(), prev);
    }
    for (key, value) in &call.with {
        if value.is_null() {
            stdin.remove(key);
        } else {
            stdin.insert(key.clone(), value.clone());
        }
    }
    without_own_keys(Value::Object(stdin))
}

fn remove_prev(stdin: &mut Value) {
    if let Some(stdin) = stdin.as_object_mut() {
        stdin.remove("prevResult");
    }
}

/// Standard input without what is the recording delegate's own affair.
pub fn without_own_keys(mut stdin: Value) -> Value {
    if let Some(object) = stdin.as_object_mut() {
        object.retain(|key, _| !OWN_KEYS.contains(&key.as_str()));
    }
    stdin
}

/// What the recording delegate answers to ADD; nothing where it is told to fail.
fn answer(
    entry: &Map<String, Value>,
    prev: Option<Value>,
    version: &str,
    ifname: &str,
    netns: &str,
) -> Option<Value> {
    let behaviour = match entry.get("behaviour") {
        Some(Value::Object(by_verb)) => by_verb.get("ADD").and_then(Value::as_str),
        other => other.and_then(Value::as_str),
    };
    match behaviour.unwrap_or("ok") {
        "ok" | "leave" | "slow" | "noisy" => {
            entry.get("result").cloned().or(prev).or_else(|| Some(default_result(version, ifname, netns)))
        }
        "empty" => Some(json!({"cniVersion": version})),
        _ => None,
    }
}

/// The newest version that a config names and the specification has.
fn chosen_version(config: &Map<String, Value>) -> Option<String> {
    let listed = config.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let named = listed.chain(config.get("cniVersion")).filter_map(Value::as_str);
    let known = named.filter(|version| !version.is_empty() && at_least("1.1.0", version));
    known.max_by_key(|version| numbers(version)).map(str::to_owned)
}

/// Whether a version of the specification is that one or newer.
pub fn at_least(version: &str, least: &str) -> bool {
    numbers(version) >= numbers(least)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').filter_map(|number| number.parse().ok()).collect()
}
