//! Runs the plugins of a network in the order that the specification asks for.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    config::{NetworkConfig, declared_capabilities, plugin_type},
    env::Command,
    error::{Error, code},
    exec::{self, Invocation},
    raw::{Keyed, Object, same_key},
    result::CniResult,
    version,
};

/// One attachment: a network on one interface of one container.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// `CNI_CONTAINERID`.
    pub container_id: &'a str,
    /// `CNI_NETNS`.
    pub netns: Option<&'a str>,
    /// `CNI_IFNAME`.
    pub ifname: &'a str,
    /// `CNI_ARGS`, as text.
    pub args: &'a str,
    /// Values for `runtimeConfig`; a plugin gets those whose capability it declares.
    pub capability_args: &'a Object,
}

/// Told of every delegate process, so that its group can be recorded and ended after a crash.
pub trait Watcher {
    /// A process started as leader of its own group. It has got no configuration yet; an error ends it.
    fn started(&self, pid: i32, start_time: u64) -> Result<(), Error>;
    /// The process and its whole group are gone.
    fn ended(&self, pid: i32);
}

/// A [`Watcher`] for callers that need not clean up after a crash of their own.
#[derive(Debug, Clone, Copy)]
pub struct Unwatched;

impl Watcher for Unwatched {
    fn started(&self, _pid: i32, _start_time: u64) -> Result<(), Error> {
        Ok(())
    }

    fn ended(&self, _pid: i32) {}
}

/// Where plugins are, how long they may take, and who is told.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// Folders of plugin binaries.
    pub path: &'a [PathBuf],
    /// When the running plugin is ended and no further one starts.
    pub deadline: Instant,
    /// How long a plugin may take to end after the SIGTERM at the deadline; [`process::TERM_GRACE`] is a good
    /// choice. Zero means SIGKILL at once and no patience afterwards, for verbs that have nothing to undo, as
    /// STATUS: such a call ends at most 150 ms after its deadline.
    ///
    /// [`process::TERM_GRACE`]: crate::process::TERM_GRACE
    pub grace: Duration,
    /// Told of every process.
    pub watcher: &'a dyn Watcher,
}

impl Runner<'_> {
    /// ADD: plugins in order, each with the result of the one before. Stops at the first failure; the caller
    /// then owes this network a DEL.
    pub fn add(&self, network: &NetworkConfig, attachment: &Attachment<'_>) -> Result<CniResult, Error> {
        let mut previous: Option<CniResult> = None;
        for plugin in &network.plugins {
            // A plugin takes a previous result of its own version only.
            let given = previous.take().map(|p| p.convert(&network.cni_version)).transpose()?;
            let config = plugin_config(network, plugin, Some(attachment), given.as_ref())?;
            let output = self.run(Command::Add, plugin, &config, Some(attachment))?;
            let result = CniResult::parse(&output, &network.cni_version);
            // What cannot be decoded fails here, where the plugin that printed it is known.
            let result = result.and_then(|r| r.typed().map(|_| r)).map_err(|e| named(plugin, e))?;
            previous = Some(result);
        }
        Ok(previous.unwrap_or_else(|| CniResult::empty(&network.cni_version)))
    }

    /// DEL: plugins in reverse order, each with the result of the ADD. The first failure ends the chain.
    pub fn del(
        &self,
        network: &NetworkConfig,
        attachment: &Attachment<'_>,
        prev: Option<&CniResult>,
    ) -> Result<(), Error> {
        // Before 0.4.0 a DEL had no previous result.
        let prev = prev.filter(|_| version::at_least(&network.cni_version, "0.4.0"));
        // A result that this version cannot say must not keep a network from being torn down.
        let prev =
            prev.and_then(|p| p.convert(&network.cni_version).inspect_err(|e| log::warn!("DEL: {e}")).ok());
        for plugin in network.plugins.iter().rev() {
            let config = plugin_config(network, plugin, Some(attachment), prev.as_ref())?;
            self.run(Command::Del, plugin, &config, Some(attachment))?;
        }
        Ok(())
    }

    /// CHECK: plugins in order, each with the result of the ADD. Nothing is done where `disableCheck` is set.
    pub fn check(
        &self,
        network: &NetworkConfig,
        attachment: &Attachment<'_>,
        prev: Option<&CniResult>,
    ) -> Result<(), Error> {
        if !version::at_least(&network.cni_version, "0.4.0") {
            let msg = format!("network {}: cniVersion {} has no CHECK", network.name, network.cni_version);
            return Err(Error::new(code::INCOMPATIBLE_VERSION, msg));
        }
        if network.disable_check {
            return Ok(());
        }
        let prev = prev.map(|p| p.convert(&network.cni_version)).transpose()?;
        for plugin in &network.plugins {
            let config = plugin_config(network, plugin, Some(attachment), prev.as_ref())?;
            self.run(Command::Check, plugin, &config, Some(attachment))?;
        }
        Ok(())
    }

    /// STATUS: the first plugin that is not ready. Versions before 1.1.0 have none and are ready.
    pub fn status(&self, network: &NetworkConfig) -> Result<(), Error> {
        if !version::at_least(&network.cni_version, "1.1.0") {
            return Ok(());
        }
        for plugin in &network.plugins {
            let config = plugin_config(network, plugin, None, None)?;
            self.run(Command::Status, plugin, &config, None)?;
        }
        Ok(())
    }

    /// GC: every plugin is told which attachments, as (container id, interface), are valid. Goes on after a
    /// failure and reports all. Versions before 1.1.0 have no GC, and `disableGC` is honoured.
    pub fn gc(&self, network: &NetworkConfig, valid: &[(String, String)]) -> Result<(), Error> {
        if network.disable_gc || !version::at_least(&network.cni_version, "1.1.0") {
            return Ok(());
        }
        #[derive(Serialize)]
        struct Valid<'a> {
            #[serde(rename = "containerID")]
            container_id: &'a str,
            ifname: &'a str,
        }
        let valid: Vec<Valid<'_>> =
            valid.iter().map(|(id, ifname)| Valid { container_id: id, ifname }).collect();
        let mut errors: Vec<Error> = Vec::new();
        for plugin in &network.plugins {
            let mut config = plugin_config(network, plugin, None, None)?;
            config.set("cni.dev/valid-attachments", &valid)?;
            // The name that the draft had, still read by plugins built then.
            config.set("cni.dev/attachments", &valid)?;
            errors.extend(self.run(Command::Gc, plugin, &config, None).err());
        }
        Error::join(errors)
    }

    /// VERSION: the versions that a plugin speaks.
    ///
    /// # Errors
    /// Code 6 when it answers something else.
    pub fn versions(&self, kind: &str) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            cni_version: String,
            #[serde(default)]
            supported_versions: Vec<String>,
        }
        // Plugins of before 0.2.0 want these set, whatever they are.
        let dummies = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];
        let mut env = dummies.map(|name| (name, "dummy".to_owned())).to_vec();
        env.push(("CNI_COMMAND", Command::Version.as_str().to_owned()));
        let stdin = format!("{{\"cniVersion\":{}}}", serde_json::Value::from(version::NEWEST));
        let output = match self.exec(Command::Version, kind, &env, &stdin) {
            // How the very first plugins answer.
            Err(e) if e.msg.contains("unknown CNI_COMMAND: VERSION") => return Ok(vec!["0.1.0".to_owned()]),
            other => other?,
        };
        let Keyed(answer): Keyed<Answer> = serde_json::from_slice(&output)
            .map_err(|e| Error::new(code::DECODE, format!("plugin {kind}: no answer to VERSION: {e}")))?;
        match (answer.supported_versions.is_empty(), answer.cni_version.as_str()) {
            (false, _) => Ok(answer.supported_versions),
            (true, "0.2.0") => Ok(vec!["0.1.0".to_owned(), "0.2.0".to_owned()]),
            (true, _) => Err(Error::new(code::DECODE, format!("plugin {kind}: VERSION names no versions"))),
        }
    }

    fn run(
        &self,
        command: Command,
        plugin: &Object,
        config: &Object,
        attachment: Option<&Attachment<'_>>,
    ) -> Result<Vec<u8>, Error> {
        let path: Vec<String> = self.path.iter().map(|dir| dir.display().to_string()).collect();
        let of = |value: fn(&Attachment<'_>) -> String| attachment.map(value).unwrap_or_default();
        // All of them in every call: an inherited value of our own call must never reach a delegate.
        let env = [
            ("CNI_COMMAND", command.as_str().to_owned()),
            ("CNI_CONTAINERID", of(|a| a.container_id.to_owned())),
            ("CNI_NETNS", of(|a| a.netns.unwrap_or_default().to_owned())),
            ("CNI_IFNAME", of(|a| a.ifname.to_owned())),
            ("CNI_ARGS", of(|a| a.args.to_owned())),
            ("CNI_PATH", path.join(":")),
        ];
        self.exec(command, &plugin_type(plugin)?, &env, &config.to_json())
    }

    fn exec(
        &self,
        command: Command,
        kind: &str,
        env: &[(&'static str, String)],
        stdin: &str,
    ) -> Result<Vec<u8>, Error> {
        let Self { path, deadline, grace, watcher } = *self;
        exec::run(&Invocation { kind, command, path, env, stdin, deadline, grace, watcher })
    }
}

/// What one plugin gets on standard input: its own keys as written, and those that the runtime owes it.
fn plugin_config(
    network: &NetworkConfig,
    plugin: &Object,
    attachment: Option<&Attachment<'_>>,
    prev: Option<&CniResult>,
) -> Result<Object, Error> {
    let mut config = plugin.clone();
    config.remove_spellings("capabilities");
    config.remove_spellings("prevResult");
    config.remove_if(|key| key.starts_with("cni.dev/"));
    for (key, value) in [("cniVersion", &network.cni_version), ("name", &network.name)] {
        // Another spelling would win over ours in a Go plugin.
        config.remove_if(|k| k != key && same_key(k, key));
        config.set(key, value)?;
    }
    let declared = declared_capabilities(plugin);
    let mut runtime_config = Object::default();
    for (key, value) in attachment.iter().flat_map(|a| a.capability_args.iter()) {
        if declared.iter().any(|name| name == key) {
            runtime_config.set_raw(key, value.to_owned());
        }
    }
    if !runtime_config.is_empty() {
        config.remove_spellings("runtimeConfig");
        config.set("runtimeConfig", &runtime_config)?;
    }
    if let Some(prev) = prev {
        let raw = RawValue::from_string(prev.raw().to_owned())
            .map_err(|e| Error::new(code::INTERNAL, format!("the previous result is broken: {e}")))?;
        config.set_raw("prevResult", raw);
    }
    Ok(config)
}

fn named(plugin: &Object, e: Error) -> Error {
    let kind = plugin_type(plugin).unwrap_or_default();
    Error { msg: format!("plugin {kind}: {}", e.msg), ..e }
}
