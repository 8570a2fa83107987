//! All that is known of one sandbox: what each delegate was given, and how far it got.

use std::net::IpAddr;

use cni::{cache::Entry, chain, config::NetworkConfig, raw, result::CniResult};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    cluster::PodRef,
    device_info,
    journal::{JournalError, boot_id},
    resolve::Delegate,
};

/// How far an attachment got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Not started; needs no DEL while the boot that planned it lasts.
    Planned,
    /// ADD has been called; what came of it is unknown.
    Attaching,
    /// ADD succeeded.
    Attached,
    /// DEL succeeded.
    Detached,
}

/// One delegate's part of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `NAMESPACE/NAME`, or the primary's network name.
    pub network: String,
    /// Interface in the pod.
    pub ifname: String,
    /// The config of the ADD, whole.
    config: Box<RawValue>,
    /// The runtimeConfig of the ADD.
    pub capability_args: raw::Object,
    /// How far it got.
    pub phase: Phase,
    /// What the delegate answered.
    result: Option<Box<RawValue>>,
    /// The pod's default network.
    pub primary: bool,
    /// Works on an interface that another attachment made.
    #[serde(default)]
    pub shares_interface: bool,
    /// `CNI_ARGS` of the ADD; those of the record where an older build wrote it.
    args: Option<String>,
    /// The selection's `default-route`.
    pub default_route: Option<Vec<IpAddr>>,
    /// Files about its device.
    pub device_info: Option<device_info::Files>,
    /// What is known of its device.
    pub device: Option<Box<RawValue>>,
}

impl Attachment {
    /// An attachment that has not been started.
    ///
    /// # Errors
    /// When the config cannot be written as JSON.
    pub fn planned(delegate: &Delegate, runtime_args: &str) -> Result<Self, JournalError> {
        let config = RawValue::from_string(delegate.config.to_json())
            .map_err(|e| JournalError::invalid("the config of a delegate", e))?;
        Ok(Self {
            network: delegate.network.clone(),
            ifname: delegate.ifname.clone(),
            config,
            capability_args: delegate.capability_args.clone(),
            phase: Phase::Planned,
            result: None,
            primary: delegate.primary,
            shares_interface: delegate.shares_interface,
            args: Some(with_args(runtime_args, &delegate.args)),
            default_route: delegate.default_route.clone(),
            device_info: delegate.device_info.clone(),
            device: None,
        })
    }

    /// An attachment that another runtime of this host made and remembers.
    ///
    /// # Errors
    /// When the config it remembers is no JSON.
    pub fn remembered(entry: &Entry, primary: bool) -> Result<Self, JournalError> {
        let raw = |what, text: &str| {
            RawValue::from_string(text.to_owned()).map_err(|e| JournalError::invalid(what, e))
        };
        let args: Vec<String> = entry.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let result = entry.result.as_ref().map(|result| raw("a remembered result", result.raw()));
        Ok(Self {
            network: entry.network.clone(),
            ifname: entry.ifname.clone(),
            config: raw("a remembered config", &entry.config)?,
            capability_args: entry.capability_args.clone(),
            phase: Phase::Attached,
            result: result.transpose()?,
            primary,
            shares_interface: false,
            args: Some(args.join(";")),
            default_route: None,
            device_info: None,
            device: None,
        })
    }

    /// The config of the ADD.
    ///
    /// # Errors
    /// When the journal holds no valid config.
    pub fn config(&self) -> Result<NetworkConfig, cni::error::Error> {
        NetworkConfig::restore(self.config.get())
    }

    /// What the delegate answered to ADD, if that is known.
    ///
    /// # Errors
    /// When the journal holds no valid result.
    pub fn result(&self, config_version: &str) -> Result<Option<CniResult>, cni::error::Error> {
        self.result.as_ref().map(|raw| CniResult::parse(raw.get().as_bytes(), config_version)).transpose()
    }

    /// ADD succeeded with this result.
    ///
    /// # Errors
    /// When the result is not JSON, which a parsed one always is.
    pub fn attached(&mut self, result: &CniResult) -> Result<(), JournalError> {
        self.result = Some(
            RawValue::from_string(result.raw().to_owned())
                .map_err(|e| JournalError::invalid("a delegate's result", e))?,
        );
        self.phase = Phase::Attached;
        Ok(())
    }
}

/// All that is known of one sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `CNI_CONTAINERID`.
    pub sandbox: String,
    /// The pod, where Kubernetes is behind the call.
    pub pod: Option<PodRef>,
    /// `CNI_NETNS` of the ADD.
    pub netns: String,
    /// `CNI_ARGS` of the ADD, as they came.
    pub args: String,
    /// Boot in which it was written.
    pub boot_id: String,
    /// Seconds since 1970 of the first DEL that failed.
    pub failing_since: Option<u64>,
    /// In the order of their ADD; the primary first.
    pub attachments: Vec<Attachment>,
}

impl Record {
    /// Whether this boot wrote the record; if not, its phases may be behind what really happened.
    pub fn of_this_boot(&self) -> bool {
        boot_id().is_ok_and(|id| id == self.boot_id)
    }

    /// One of its attachments as a delegate is called for it: the same for ADD, CHECK and DEL.
    pub fn call<'a>(&'a self, attachment: &'a Attachment) -> chain::Attachment<'a> {
        chain::Attachment {
            container_id: &self.sandbox,
            netns: Some(self.netns.as_str()).filter(|path| !path.is_empty()),
            ifname: &attachment.ifname,
            args: attachment.args.as_deref().unwrap_or(&self.args),
            capability_args: &attachment.capability_args,
        }
    }
}

/// The runtime's `CNI_ARGS` with a delegate's own, which replace those of the same key. Plugins may ignore keys that
/// they do not know, whether the runtime said so or not.
fn with_args(runtime: &str, own: &[(String, String)]) -> String {
    let key_of = |item: &str| item.split('=').next().unwrap_or_default().to_owned();
    let replaced = |item: &&str| !own.iter().any(|(key, _)| *key == key_of(item));
    let mut items: Vec<String> =
        runtime.split(';').filter(|item| !item.is_empty()).filter(replaced).map(str::to_owned).collect();
    if !items.iter().any(|item| key_of(item) == "IgnoreUnknown") {
        items.insert(0, "IgnoreUnknown=true".to_owned());
    }
    items.extend(own.iter().map(|(key, value)| format!("{key}={value}")));
    items.join(";")
}
