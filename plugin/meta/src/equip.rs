//! Gives a delegate what its selection asks for: `args.cni`, `runtimeConfig`, `CNI_ARGS`, its device.

use std::collections::{BTreeMap, VecDeque};

use cni::{
    config::NetworkConfig,
    error::one_line,
    raw::{self, same_key},
};

use crate::{
    device_info,
    error::{Fault, Result},
    netconf::NetConf,
    requests::Requests,
    resolve::Delegate,
};

/// The devices that the kubelet gave the pod, dealt out in order: each goes to one network.
#[derive(Debug, Default)]
pub struct Devices {
    left: BTreeMap<String, VecDeque<String>>,
    all: Vec<String>,
}

impl Devices {
    /// All devices of the pod, by resource.
    pub fn new(devices: &BTreeMap<String, Vec<String>>) -> Self {
        Self {
            left: devices.iter().map(|(name, ids)| (name.clone(), ids.iter().cloned().collect())).collect(),
            all: devices.values().flatten().cloned().collect(),
        }
    }

    fn next(&mut self, resource: &str) -> Option<String> {
        self.left.get_mut(resource)?.pop_front()
    }

    fn has(&self, id: &str) -> bool {
        self.all.iter().any(|known| known == id)
    }
}

/// Applies the requests of a selection and the device of a definition's resource.
///
/// # Errors
/// `NAD_INVALID` when the config's `args` are no objects, `DEVICE_REFUSED` when the pod was not given that device,
/// `CAPABILITY_MISSING` under `strict`.
pub fn equip(
    delegate: &mut Delegate,
    requests: &Requests,
    resource: Option<&str>,
    devices: &mut Devices,
    conf: &NetConf,
    sandbox: &str,
) -> Result<()> {
    merge_args(&mut delegate.config, requests, &delegate.network)?;
    for key in runtime_config(&mut delegate.capability_args, requests).map_err(|error| unwritable(&error))? {
        check_capability(conf, delegate, key)?;
    }
    delegate.args = arguments(requests);
    delegate.default_route.clone_from(&requests.default_route);
    let given = resource.and_then(|resource| devices.next(resource));
    if let (Some(resource), None) = (resource, &given) {
        log::warn!(
            "network {}: its resource {resource} has no device left for this pod; is it in the container's limits?",
            delegate.network
        );
    }
    let device = match given {
        Some(device) => {
            for plugin in &mut delegate.config.plugins {
                plugin.set("deviceID", &device).map_err(|error| unwritable(&error))?;
                plugin.set("pciBusID", &device).map_err(|error| unwritable(&error))?;
            }
            Some(device)
        }
        None => requests.device_id.clone(),
    };
    let Some(device) = device else { return Ok(()) };
    // Who may write a pod may not for that reason take any device of the host.
    if !devices.has(&device) {
        return Err(Fault::invalid(
            "DEVICE_REFUSED",
            format!(
                "network {}: deviceID {:?} is none that the kubelet gave this pod; ask for it in a container's resources",
                delegate.network,
                one_line(&device, 60)
            ),
        ));
    }
    let file = device_info::Files::of(conf, resource, &device, &delegate.network, sandbox, &delegate.ifname);
    let args = &mut delegate.capability_args;
    args.set("deviceID", &device).map_err(|error| unwritable(&error))?;
    args.set("CNIDeviceInfoFile", &file.of_attachment).map_err(|error| unwritable(&error))?;
    check_capability(conf, delegate, "deviceID")?;
    delegate.device_info = Some(file);
    Ok(())
}

/// The pod's `cni-args` win over the definition's, key by key (standard 4.1.2.1.6.2), in every plugin of the network.
fn merge_args(config: &mut NetworkConfig, requests: &Requests, network: &str) -> Result<()> {
    let mut wanted = requests.cni_args.clone().unwrap_or_default();
    if let Some(claim) = &requests.ipam_claim {
        wanted.set("ipam-claim-reference", claim).map_err(|error| unwritable(&error))?;
    }
    if wanted.is_empty() {
        return Ok(());
    }
    for plugin in &mut config.plugins {
        let no_object = |key: &str| {
            Fault::invalid(
                "NAD_INVALID",
                format!(
                    "network {network}: {key} of its config is no JSON object, so cni-args cannot be added"
                ),
            )
        };
        let (args_key, mut args) = nested(plugin, "args").map_err(|()| no_object("args"))?;
        let (cni_key, mut cni) = nested(&args, "cni").map_err(|()| no_object("args.cni"))?;
        for (key, value) in wanted.iter() {
            cni.set_raw(key, value.to_owned());
        }
        args.set(&cni_key, &cni).map_err(|error| unwritable(&error))?;
        plugin.set(&args_key, &args).map_err(|error| unwritable(&error))?;
    }
    Ok(())
}

/// The object under a key, in whatever spelling it is there; empty where it is absent or `null`.
fn nested(object: &raw::Object, key: &str) -> std::result::Result<(String, raw::Object), ()> {
    let found = object.iter().filter(|(name, _)| same_key(name, key)).last();
    let Some((name, value)) = found else { return Ok((key.to_owned(), raw::Object::default())) };
    let value: Option<raw::Object> = serde_json::from_str(value.get()).map_err(|_| ())?;
    Ok((name.to_owned(), value.unwrap_or_default()))
}

/// Adds the requests that plugins with the capability get; the capabilities that were asked for.
fn runtime_config(
    args: &mut raw::Object,
    requests: &Requests,
) -> std::result::Result<Vec<&'static str>, cni::error::Error> {
    let mut asked = Vec::new();
    if !requests.ips.is_empty() {
        args.set("ips", &requests.ips)?;
        asked.push("ips");
    }
    if let Some(mac) = &requests.mac {
        args.set("mac", mac)?;
        asked.push("mac");
    }
    if let Some(guid) = &requests.infiniband_guid {
        args.set("infinibandGUID", guid)?;
        asked.push("infinibandGUID");
    }
    if !requests.port_mappings.is_empty() {
        args.set("portMappings", &requests.port_mappings)?;
        asked.push("portMappings");
    }
    if let Some(bandwidth) = &requests.bandwidth {
        args.set("bandwidth", bandwidth)?;
        asked.push("bandwidth");
    }
    Ok(asked)
}

/// A request that no plugin of the network can serve: said, and refused under `strict`.
fn check_capability(conf: &NetConf, delegate: &Delegate, key: &str) -> Result<()> {
    if delegate.config.capabilities().contains(key) {
        return Ok(());
    }
    let message = format!(
        "network {}: the pod asks for {key}, and no plugin of the network declares that capability; add \"capabilities\": {{\"{key}\": true}} to it",
        delegate.network
    );
    if conf.strict {
        return Err(Fault::invalid("CAPABILITY_MISSING", message));
    }
    log::warn!("{message}");
    Ok(())
}

/// The older way of plugins without the capability: `CNI_ARGS`.
fn arguments(requests: &Requests) -> Vec<(String, String)> {
    let mut args = Vec::new();
    if let Some(mac) = &requests.mac {
        args.push(("MAC".to_owned(), mac.clone()));
    }
    if !requests.ips.is_empty() {
        args.push(("IP".to_owned(), requests.ips.join(",")));
    }
    args
}

fn unwritable(error: &cni::error::Error) -> Fault {
    Fault::new(error.code, "REQUEST_UNWRITABLE", error.msg.clone())
}
