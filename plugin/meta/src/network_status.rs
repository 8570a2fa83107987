//! The `network-status` annotation (NPWG multi-network standard 1.3, section 5). Pure.

use cni::result::Typed;
use serde::Serialize;

/// The annotation's key.
pub const ANNOTATION: &str = "k8s.v1.cni.cncf.io/network-status";

/// One interface of a pod, as published.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// `NAMESPACE/NAME`, or the primary's network name.
    pub name: String,
    /// Interface in the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Addresses without prefix length.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Set on exactly one entry of a pod.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// As the delegate answered.
    pub dns: cni::result::Dns,
    /// Gateways of the default routes that the delegate answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<String>,
}

/// The entries of one attachment.
pub fn entries(network: &str, primary: bool, result: &Typed) -> Vec<Entry> {
    let gateway: Vec<String> = result
        .routes
        .iter()
        .filter(|route| matches!(route.dst.as_str(), "0.0.0.0/0" | "::/0"))
        .filter_map(|route| route.gw.clone())
        .collect();
    let blank = Entry {
        name: network.to_owned(),
        interface: None,
        ips: Vec::new(),
        mac: None,
        default: false,
        dns: result.dns.clone(),
        gateway,
    };
    let inside = |interface: &&(usize, &cni::result::Interface)| !interface.1.sandbox.is_empty();
    let interfaces: Vec<_> = result.interfaces.iter().enumerate().collect();
    let interfaces: Vec<_> = interfaces.iter().filter(inside).collect();
    let address = |ip: &cni::result::Ip| ip.address.split('/').next().unwrap_or_default().to_owned();
    if interfaces.is_empty() {
        let ips = result.ips.iter().map(address).collect();
        return vec![Entry { ips, default: primary, ..blank }];
    }
    let last = interfaces.len() - 1;
    let mut entries: Vec<Entry> = interfaces
        .iter()
        .enumerate()
        .map(|(position, (index, interface))| {
            let mine = |ip: &&cni::result::Ip| match ip.interface {
                Some(owner) => usize::try_from(owner).is_ok_and(|owner| owner == *index),
                None => position == last,
            };
            Entry {
                interface: Some(interface.name.clone()),
                mac: Some(interface.mac.clone()).filter(|mac| !mac.is_empty()),
                ips: result.ips.iter().filter(mine).map(address).collect(),
                ..blank.clone()
            }
        })
        .collect();
    if primary {
        let owns_gateway = |index: usize| {
            result.ips.iter().any(|ip| {
                ip.gateway.is_some()
                    && ip.interface.and_then(|owner| usize::try_from(owner).ok()) == Some(index)
            })
        };
        let first = interfaces.iter().position(|(index, _)| owns_gateway(*index)).unwrap_or(0);
        entries[first].default = true;
    }
    entries
}

/// The annotation's text.
///
/// # Errors
/// Never for entries made by [`entries`]; the serializer's type wants it said.
pub fn text(entries: &[Entry]) -> serde_json::Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    entries.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
