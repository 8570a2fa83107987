//! The `network-status` annotation (NPWG multi-network standard 1.3, section 5). Pure.

use std::net::IpAddr;

use cni::{
    error::{Error, code},
    result::{Dns, Interface, Ip, Typed},
};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::record::{Attachment, Record};

/// The annotation's key.
pub const ANNOTATION: &str = "k8s.v1.cni.cncf.io/network-status";

/// One interface of a pod, as published; keys in the order that Multus prints.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    /// `NAMESPACE/NAME`, or the network's own name.
    name: String,
    /// Interface in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    /// Addresses without prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<String>,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<i64>,
    /// Set on exactly one entry of a pod.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    /// As the delegate answered.
    dns: Dns,
    /// The selection's own, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_route: Option<Vec<IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_info: Option<Box<RawValue>>,
    /// Gateways of the default routes of this network.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gateway: Vec<String>,
}

/// The annotation's text for all that is attached of a sandbox.
///
/// # Errors
/// When a result that the record holds cannot be understood.
pub fn of(record: &Record) -> Result<String, Error> {
    let mut all = Vec::new();
    for attachment in &record.attachments {
        let named = |e: Error| Error { msg: format!("network {}: {}", attachment.network, e.msg), ..e };
        let config = attachment.config().map_err(named)?;
        let Some(result) = attachment.result(&config.cni_version).map_err(named)? else { continue };
        all.extend(entries(attachment, &result.typed().map_err(named)?));
    }
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    all.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|e| Error::new(code::INTERNAL, format!("the network status cannot be written: {e}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// One entry for each interface inside the pod; a result without any has one that says what it can (5.1.1). A
/// chain that only works on another network's interface and has no address of its own has none.
fn entries(attachment: &Attachment, result: &Typed) -> Vec<Entry> {
    let blank = Entry {
        name: attachment.network.clone(),
        interface: None,
        ips: Vec::new(),
        mac: None,
        mtu: None,
        default: false,
        dns: result.dns.clone(),
        default_route: attachment.default_route.clone(),
        device_info: attachment.device.clone(),
        gateway: gateways(result),
    };
    let inside: Vec<(usize, &Interface)> =
        result.interfaces.iter().enumerate().filter(|(_, interface)| !interface.sandbox.is_empty()).collect();
    let address = |ip: &Ip| ip.address.split('/').next().unwrap_or_default().to_owned();
    let Some(last) = inside.len().checked_sub(1) else {
        if attachment.shares_interface {
            return Vec::new();
        }
        // An address on an interface of the host is none of the pod's.
        let of_pod = |ip: &&Ip| ip.interface.is_none_or(|owner| owner < 0);
        let ips = result.ips.iter().filter(of_pod).map(address).collect();
        return vec![Entry { ips, default: attachment.primary, ..blank }];
    };
    let belongs = |ip: &Ip, index: usize, position: usize| match ip.interface {
        Some(owner) => usize::try_from(owner).is_ok_and(|owner| owner == index),
        None => position == last,
    };
    // The pod's default interface is the one that leads out: it has an address with a gateway.
    let leads_out = |index: usize| {
        let owner = |ip: &Ip| ip.interface.and_then(|owner| usize::try_from(owner).ok());
        result.ips.iter().any(|ip| ip.gateway.is_some() && owner(ip) == Some(index))
    };
    let default = inside.iter().position(|(index, _)| leads_out(*index)).unwrap_or(0);
    let entry = |(position, (index, interface)): (usize, &(usize, &Interface))| Entry {
        interface: Some(interface.name.clone()),
        mac: Some(interface.mac.clone()).filter(|mac| !mac.is_empty()),
        mtu: Some(interface.mtu).filter(|mtu| *mtu != 0),
        ips: result.ips.iter().filter(|ip| belongs(ip, *index, position)).map(address).collect(),
        default: attachment.primary && position == default,
        ..blank.clone()
    };
    inside.iter().enumerate().map(entry).collect()
}

/// The gateway of each default route; a route without one goes through that of an address of its family.
fn gateways(result: &Typed) -> Vec<String> {
    let of_family = |v6: bool| {
        let ip = result.ips.iter().find(|ip| ip.address.contains(':') == v6 && ip.gateway.is_some());
        ip.and_then(|ip| ip.gateway.clone())
    };
    let defaults = result.routes.iter().filter(|route| matches!(route.dst.as_str(), "0.0.0.0/0" | "::/0"));
    defaults.filter_map(|route| route.gw.clone().or_else(|| of_family(route.dst == "::/0"))).collect()
}
