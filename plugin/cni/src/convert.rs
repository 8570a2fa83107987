//! Conversion of results between 0.1.0 and 1.1.0, as libcni does it.
//!
//! Three shapes exist: up to 0.2.0 (`ip4`, `ip6`), up to 0.4.0 (`ips` with `version`), and from 1.0.0.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{Error, code},
    raw::Object,
    result::{Dns, Ip, MAX_SIZE, Route, Typed, or_default},
    version,
};

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Oldest,
    Middle,
    Current,
}

fn shape(version: &str) -> Shape {
    if version::at_least(version, "1.0.0") {
        Shape::Current
    } else if version::at_least(version, "0.3.0") {
        Shape::Middle
    } else {
        Shape::Oldest
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Oldest {
    #[serde(rename = "cniVersion", default, deserialize_with = "or_default")]
    cni_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<OldestIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<OldestIp>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Default, Serialize, Deserialize)]
struct OldestIp {
    #[serde(default, deserialize_with = "or_default")]
    ip: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// Decodes a result of any version into the shape of 1.1.0.
pub(crate) fn decode(text: &str, from: &str) -> Result<Typed, Error> {
    version::require(from)?;
    if shape(from) != Shape::Oldest {
        return serde_json::from_str(text).map_err(undecodable);
    }
    let old: Oldest = serde_json::from_str(text).map_err(undecodable)?;
    let mut typed = Typed { cni_version: old.cni_version, dns: old.dns, ..Typed::default() };
    for ip in [old.ip4, old.ip6].into_iter().flatten() {
        typed.ips.push(Ip { address: ip.ip, gateway: ip.gateway, interface: None });
        typed.routes.extend(ip.routes);
    }
    Ok(typed)
}

/// The text of a result in another version.
pub(crate) fn convert(text: &str, from: &str, to: &str) -> Result<String, Error> {
    version::require(from)?;
    version::require(to)?;
    // Versions of one shape differ in the version alone, and everything else stays as printed.
    if shape(from) == shape(to) {
        let mut object = Object::parse_capped(text, MAX_SIZE)?;
        object.set("cniVersion", &to)?;
        return Ok(object.to_json());
    }
    let mut typed = decode(text, from)?;
    to.clone_into(&mut typed.cni_version);
    match shape(to) {
        Shape::Current => serde_json::to_string(&typed).map_err(unwritable),
        Shape::Middle => encode_middle(typed),
        Shape::Oldest => encode_oldest(typed),
    }
}

fn encode_middle(mut typed: Typed) -> Result<String, Error> {
    for interface in &mut typed.interfaces {
        interface.mtu = 0;
        interface.socket_path.clear();
        interface.pci_id.clear();
    }
    let mut ips = Vec::with_capacity(typed.ips.len());
    for ip in &typed.ips {
        let text = serde_json::to_string(ip).map_err(unwritable)?;
        let mut object = Object::default();
        object.set("version", &if is_v6(&ip.address) { "6" } else { "4" })?;
        for (key, value) in Object::parse(&text)?.iter() {
            object.set_raw(key, value.to_owned());
        }
        ips.push(object);
    }
    let text = serde_json::to_string(&typed).map_err(unwritable)?;
    let mut object = Object::parse_capped(&text, MAX_SIZE)?;
    if !ips.is_empty() {
        let ips: Box<RawValue> = serde_json::value::to_raw_value(&ips).map_err(unwritable)?;
        object.set_raw("ips", ips);
    }
    Ok(object.to_json())
}

/// One address of each family is all that the oldest shape can say, and it needs at least one.
fn encode_oldest(typed: Typed) -> Result<String, Error> {
    let first = |v6: bool| {
        let ip = typed.ips.iter().find(|ip| is_v6(&ip.address) == v6)?;
        let routes = typed.routes.iter().filter(|r| is_v6(&r.dst) == v6).cloned().collect();
        Some(OldestIp { ip: ip.address.clone(), gateway: ip.gateway.clone(), routes })
    };
    let old = Oldest { ip4: first(false), ip6: first(true), cni_version: typed.cni_version, dns: typed.dns };
    if old.ip4.is_none() && old.ip6.is_none() {
        let msg = format!("a result without address cannot be said in cniVersion {}", old.cni_version);
        return Err(Error::new(code::INCOMPATIBLE_VERSION, msg));
    }
    serde_json::to_string(&old).map_err(unwritable)
}

fn is_v6(address: &str) -> bool {
    address.contains(':')
}

fn undecodable(e: serde_json::Error) -> Error {
    Error::new(code::DECODE, format!("the plugin's answer is no CNI result: {e}"))
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::new(code::INTERNAL, format!("the result cannot be written: {e}"))
}
